package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/anabranch-db/anabranch/cmd/anabranch/internal/config"
	"github.com/anabranch-db/anabranch/cmd/anabranch/internal/control"
	"github.com/anabranch-db/anabranch/cmd/anabranch/internal/node"
	"github.com/anabranch-db/anabranch/net/gateway"
	"github.com/anabranch-db/anabranch/net/quicnet"
	"github.com/anabranch-db/anabranch/replica"
	"github.com/anabranch-db/anabranch/replica/store"
)

// shutdownTime is how long requests in progress may take to end.
const shutdownTime = 10 * time.Second

func newServeCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "serve",
		Short: "Run the node: keep the store open and exchange with peers",
		Long: `Run the node until interrupted: keep the store open, exchange with peers, and answer the other commands.

Who connects must prove the key of a listed peer ID, on both sides: list each peer with --allow, or in the configuration file. A peer that is
named with its ID by --peer is allowed as well. It listens on this machine only (` + config.DefaultListen + `) unless --listen says
otherwise; 0.0.0.0:7420 is every interface, port 0 any free port.

One address of one other node is enough: listed nodes tell each other where the others are, and each keeps itself connected with a few of
them (--degree; 0: only with those that --peer names). --peer srv:example.org names those in the DNS record _anabranch._udp.example.org;
--discover finds listed nodes on the local network.

Browsers and other programs that are no nodes come in by the gateway, HTTP on ` + config.DefaultGateway + ` (this machine only) unless --gateway says
otherwise, with a token that ` + "`anabranch token create`" + ` makes. Its dashboard is at the same address; --web prints that with a token in it, which is good
for 12 hours or until the node stops: whoever reads the output can use it.`,
		Example: `  anabranch serve --listen 0.0.0.0:7420 --allow ID-OF-B
  anabranch serve --peer ID-OF-A@203.0.113.7:7420
  anabranch serve --listen 0.0.0.0:7420 --allow ID-OF-A --allow ID-OF-B --discover`,
		Args:              noArguments,
		ValidArgsFunction: cobra.NoFileCompletions,
	}
	addSettings(cmd, "listen", "peer", "allow", "insecure-allow-any", "discover", "degree", "max-peers", "sync", "sync-interval", "max-drift", "max-offline", "prune-delay")
	addSettings(cmd, "gateway", "gateway-host", "gateway-origin", "gateway-tls-cert", "gateway-tls-key", "gateway-acme-host", "gateway-acme-http", "gateway-acme-directory", "web")
	addSettings(cmd, "admin", "admin-host", "pprof")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error { return appOf(cmd).serve(cmd.Context()) }
	return cmd
}

func (a *app) serve(ctx context.Context) error {
	dir := a.cfg.Dir()
	var r *replica.Replica
	var served error // which is not waited for: the other node means to stay
	watching, err := a.listenAdmin()
	if err != nil {
		return err
	}
	clients, err := a.listenGateway()
	if err != nil {
		return errors.Join(err, watching.close())
	}
	err = a.waitForStore(ctx, func() (err error) {
		if c, err := control.Dial(ctx, dir); err == nil {
			served = errors.Join(a.alreadyServed(ctx, c), c.Close())
			return nil
		}
		r, err = a.openReplica(dir, a.cfg.Text("listen"))
		return err
	})
	if err = errors.Join(err, served); err != nil {
		return errors.Join(err, clients.close(), watching.close())
	}
	tokens, err := a.openTokens()
	if err == nil {
		err = a.serveGateway(&clients, r, tokens)
	}
	if err != nil {
		return errors.Join(err, clients.close(), watching.close(), r.Close())
	}
	go tendMemory(ctx)
	stop := a.discover(ctx, r)
	local := node.NewLocal(node.LocalConfig{
		Replica: r, Dir: dir, Version: version(), PeerID: r.Self().String(), Serving: true, Admin: watching.addr(), Gateway: clients.url(),
		Tokens: func() (*gateway.Tokens, error) { return tokens, nil },
	})
	err = a.serveNode(ctx, local, a.serveAdmin(watching, r, local, clients.gateway), &clients)
	stop()
	return errors.Join(err, local.Close())
}

func (a *app) alreadyServed(ctx context.Context, c *control.Client) error {
	st, err := c.Status(ctx)
	if err != nil {
		return err
	}
	return fmt.Errorf("open %s: %w: process %d serves it already", st.Dir, store.ErrInUse, st.PID)
}

func (a *app) serveNode(ctx context.Context, local node.Node, watching adminListener, clients *clientListener) error {
	listener, err := control.Listen(a.cfg.Dir())
	if err != nil {
		return errors.Join(err, clients.stop(ctx), watching.stop(ctx))
	}
	server := control.NewServer(local)
	failed := make(chan error, 1)
	go func() { failed <- server.Serve(listener) }()
	if err := a.announce(ctx, local, watching, clients); err != nil {
		a.log.Warn("cannot print where the node is", "error", err)
	}
	select {
	case err = <-failed:
	case <-ctx.Done():
		a.log.Info("stopping")
	}
	closing, cancel := context.WithTimeout(context.WithoutCancel(ctx), shutdownTime)
	defer cancel()
	return errors.Join(err, clients.stop(closing), watching.stop(closing), server.Shutdown(closing))
}

// openReplica opens the store with the network. Without an address to listen on it only dials.
func (a *app) openReplica(dir, listen string) (*replica.Replica, error) {
	id, err := a.ensureIdentity()
	if err != nil {
		return nil, err
	}
	allowed := a.cfg.Allowed()
	network := quicnet.Config{Identity: id, Listen: listen, Logger: a.log, Version: version(), Now: a.wallClock()}
	if a.cfg.Bool("insecure-allow-any") {
		network.InsecureAllowAny = true
	} else {
		network.Allow = func(p replica.PeerID) bool { return allowed[p] }
	}
	transport, err := quicnet.New(network)
	if err != nil {
		return nil, fmt.Errorf("listen on %s: %w", network.Listen, err)
	}
	c := a.replicaConfig(dir)
	c.Transport, c.Identity, c.Peers = transport, id, a.cfg.Peers()
	c.Degree, c.MaxPeers = a.cfg.Number("degree"), a.cfg.Number("max-peers")
	r, err := replica.Open(c)
	if err != nil {
		return nil, errors.Join(err, transport.Close())
	}
	return r, nil
}

// serveOutput is the line that serve prints with --output jsonl when it is ready.
type serveOutput struct {
	PeerID    string   `json:"peer_id"`
	Addresses []string `json:"addresses"`
	Dir       string   `json:"dir"`
	Admin     string   `json:"admin,omitempty"`
	Gateway   string   `json:"gateway,omitempty"` // URL
	Web       string   `json:"web,omitempty"`     // URL of the dashboard, with a token
	Join      string   `json:"join"`              // the command for another node
}

// announce says who and where the node is, and what another one has to run.
func (a *app) announce(ctx context.Context, local node.Node, watching adminListener, clients *clientListener) error {
	st, err := local.Status(ctx)
	if err != nil {
		return err
	}
	out := serveOutput{PeerID: st.PeerID, Addresses: st.Addresses, Dir: st.Dir, Admin: watching.addr(), Gateway: clients.url(), Web: clients.page}
	if len(st.Addresses) > 0 {
		out.Join = fmt.Sprintf("anabranch serve --listen 0.0.0.0:7420 --peer %s@%s", st.PeerID, reachable(st.Addresses))
	}
	return a.print(out, func(w io.Writer) {
		fmt.Fprintf(w, "Peer ID    %s\n", out.PeerID)
		fmt.Fprintf(w, "Listening  %s\n", orDash(strings.Join(out.Addresses, ", ")))
		fmt.Fprintf(w, "Store      %s\n", out.Dir)
		if out.Gateway != "" {
			fmt.Fprintf(w, "Gateway    %s\n", out.Gateway)
		}
		if out.Web != "" {
			fmt.Fprintf(w, "Dashboard  %s\n", out.Web)
		}
		if out.Admin != "" {
			fmt.Fprintf(w, "Watching   http://%s\n", out.Admin)
		}
		switch n := len(a.cfg.Allowed()); {
		case a.cfg.Bool("insecure-allow-any"):
			fmt.Fprintln(w, "Allowed    ANY PEER that can reach the port (--insecure-allow-any)")
		case n == 0:
			fmt.Fprintln(w, "Allowed    no peer but those that `anabranch invite` lets in; --allow lists others")
		default:
			fmt.Fprintf(w, "Allowed    %s\n", list(int64(n), "peer", "peers"))
		}
		if out.Join != "" {
			fmt.Fprintf(w, "\nTo join from another node, which this one must --allow:\n\n  %s\n\n", out.Join)
		}
		if onlyLocal(out.Addresses) {
			fmt.Fprintln(w, "Only this machine can reach it; --listen 0.0.0.0:7420 opens it to the network.")
		}
	})
}

// reachable returns the address that another node most likely reaches: one that is not of this machine alone, if there is one.
func reachable(addrs []string) string {
	for _, addr := range addrs {
		if !onlyLocal([]string{addr}) {
			return addr
		}
	}
	return addrs[0]
}

func onlyLocal(addrs []string) bool {
	for _, addr := range addrs {
		host, _, err := net.SplitHostPort(addr)
		ip := net.ParseIP(host)
		if err != nil || host != "localhost" && (ip == nil || !ip.IsLoopback()) {
			return false
		}
	}
	return len(addrs) > 0
}
