package main

import (
	"context"
	"maps"
	"net"
	"slices"
	"strconv"
	"sync"

	"github.com/anabranch-db/anabranch/net/discovery"
	"github.com/anabranch-db/anabranch/replica"
	"github.com/anabranch-db/anabranch/replica/mesh"
)

// discover looks for nodes where the settings say, until the function that it returns is called.
func (a *app) discover(ctx context.Context, r *replica.Replica) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	var running sync.WaitGroup
	for _, name := range a.cfg.Names() {
		running.Go(func() {
			discovery.Follow(ctx, discovery.Names{Name: name, Add: r.AddPeer, Remove: r.RemovePeer, Logger: a.log})
		})
	}
	if a.cfg.Bool("discover") {
		running.Go(func() { a.discoverLocally(ctx, r) })
	}
	return func() { cancel(); running.Wait() }
}

func (a *app) discoverLocally(ctx context.Context, r *replica.Replica) {
	port := announcedPort(r.Addrs())
	if port == 0 {
		a.log.Warn("the node is not announced on the local network, as only this machine can reach it: --listen 0.0.0.0:7420 opens it")
	}
	listed := slices.Collect(maps.Keys(a.cfg.Allowed()))
	err := discovery.Announce(ctx, discovery.Local{
		Self: r.Self(), Port: port,
		Known: func() []replica.PeerID { return append(r.Companions(), listed...) },
		Found: func(p replica.PeerID, addr string) { r.Learn(p, mesh.FromMDNS, addr) },
		Now:   a.wallClock(),
	})
	if ctx.Err() == nil {
		a.log.Error("nodes on the local network are not looked for any more", "error", err)
	}
}

// announcedPort returns the port at which others can reach the node; zero if they cannot.
func announcedPort(addrs []string) int {
	for _, addr := range addrs {
		if onlyLocal([]string{addr}) {
			continue
		}
		if _, text, err := net.SplitHostPort(addr); err == nil {
			port, _ := strconv.Atoi(text) // it comes from the transport
			return port
		}
	}
	return 0
}
