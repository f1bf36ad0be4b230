package main

import (
	"context"
	"fmt"
	"net"

	"github.com/anabranch-db/anabranch/cmd/anabranch/internal/admin"
	"github.com/anabranch-db/anabranch/cmd/anabranch/internal/node"
	"github.com/anabranch-db/anabranch/net/gateway"
	"github.com/anabranch-db/anabranch/replica"
)

// adminListener is the listener for those who watch the node; the zero one is off.
type adminListener struct {
	listener net.Listener
	server   *admin.Server
}

// listenAdmin opens the listener that the setting admin names, if it names one.
func (a *app) listenAdmin() (adminListener, error) {
	addr := a.cfg.Text("admin")
	if addr == "" {
		if a.cfg.Bool("pprof") {
			return adminListener{}, usagef("--pprof wants --admin: name the address, as 127.0.0.1:7421")
		}
		return adminListener{}, nil
	}
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return adminListener{}, fmt.Errorf("listen for --admin: %w", err)
	}
	return adminListener{listener: l}, nil
}

// addr returns where it listens, "" if it is off.
func (l adminListener) addr() string {
	if l.listener == nil {
		return ""
	}
	return l.listener.Addr().String()
}

// close ends one that does not answer yet.
func (l adminListener) close() error {
	if l.listener == nil {
		return nil
	}
	return l.listener.Close()
}

// serveAdmin begins to answer.
func (a *app) serveAdmin(l adminListener, r *replica.Replica, local node.Node, clients *gateway.Gateway) adminListener {
	if l.listener == nil {
		return l
	}
	var gatewayStats func() gateway.Stats
	if clients != nil {
		gatewayStats = clients.Stats
	}
	l.server = admin.New(admin.Config{
		Source: r, Gateway: gatewayStats, Status: local.Status, Version: version(), Hosts: a.cfg.List("admin-host"), Pprof: a.cfg.Bool("pprof"), Logger: a.log,
	})
	if !onlyLocal([]string{l.addr()}) {
		a.log.Warn("whoever reaches the admin listener sees who the peers of this node are", "address", l.addr(), "pprof", a.cfg.Bool("pprof"))
	}
	go func() {
		if err := l.server.Serve(l.listener); err != nil {
			a.log.Error("the admin listener ended", "address", l.addr(), "error", err)
		}
	}()
	return l
}

// stop ends it when the requests in progress have ended, or ctx has.
func (l adminListener) stop(ctx context.Context) error {
	if l.server == nil {
		return nil
	}
	return l.server.Shutdown(ctx)
}
