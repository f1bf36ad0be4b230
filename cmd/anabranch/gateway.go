package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"path/filepath"
	"syscall"
	"time"

	"github.com/anabranch-db/anabranch/cmd/anabranch/internal/config"
	"github.com/anabranch-db/anabranch/net/gateway"
	"github.com/anabranch-db/anabranch/net/gateway/js"
	"github.com/anabranch-db/anabranch/net/gateway/page"
	"github.com/anabranch-db/anabranch/replica"
)

// acmeDir is where, in the store directory, the account and the certificates of ACME are kept.
const acmeDir = "acme"

// webTokenTime is how long the token of --web is good for; it ends with the node at the latest.
const webTokenTime = 12 * time.Hour

// clientListener is the listener of the gateway; the zero one is off.
type clientListener struct {
	listener   net.Listener
	tls        *tls.Config
	host       string       // by which to name it in URLs, if not by its address
	challenges net.Listener // of ACME over HTTP; nil: none
	answers    http.Handler // to them

	gateway  *gateway.Gateway
	server   *gateway.Server
	answerer *http.Server
	page     string // URL of the dashboard, with a token; "" unless it was asked for
}

// listenGateway opens the listener that the settings name.
func (a *app) listenGateway() (clientListener, error) {
	addr := a.cfg.Text("gateway")
	if addr == config.GatewayOff {
		if a.cfg.Bool("web") {
			return clientListener{}, usagef("--web wants the gateway: name its address with --gateway")
		}
		return clientListener{}, nil
	}
	var c clientListener
	if err := a.prepareTLS(&c); err != nil {
		return c, err
	}
	l, err := net.Listen("tcp", addr)
	switch {
	case err == nil:
		c.listener = l
	case errors.Is(err, syscall.EADDRINUSE) && a.cfg.IsDefault("gateway") && !a.cfg.Bool("web"):
		// Nobody asked for this address: a second node on one machine must start as well as the first.
		a.log.Warn("the gateway is off: another process listens on its default address; name another one with --gateway, or say --gateway off", "address", addr)
		return clientListener{}, nil
	default:
		return c, fmt.Errorf("listen for --gateway: %w", err)
	}
	if http := a.cfg.Text("gateway-acme-http"); http != "" {
		if c.challenges, err = net.Listen("tcp", http); err != nil {
			return c, errors.Join(fmt.Errorf("listen for --gateway-acme-http: %w", err), c.close())
		}
	}
	if c.tls == nil && !onlyLocal([]string{l.Addr().String()}) {
		a.log.Warn("the gateway has no TLS: who listens on the way can read tokens and documents; use --gateway-tls-cert or --gateway-acme-host, or a proxy on this machine", "address", l.Addr().String())
	}
	return c, nil
}

func (a *app) prepareTLS(c *clientListener) error {
	cert, key, hosts := a.cfg.Text("gateway-tls-cert"), a.cfg.Text("gateway-tls-key"), a.cfg.List("gateway-acme-host")
	switch {
	case (cert == "") != (key == ""):
		return usagef("--gateway-tls-cert and --gateway-tls-key belong together")
	case cert != "" && len(hosts) > 0:
		return usagef("--gateway-tls-cert and --gateway-acme-host: choose one")
	case len(hosts) == 0 && (a.cfg.Text("gateway-acme-http") != "" || a.cfg.Text("gateway-acme-directory") != ""):
		return usagef("--gateway-acme-http and --gateway-acme-directory want --gateway-acme-host")
	case cert == "" && len(hosts) == 0:
		return nil
	}
	var err error
	c.tls, c.answers, err = gateway.TLS{
		CertFile: cert, KeyFile: key, Hosts: hosts, CacheDir: filepath.Join(a.cfg.Dir(), acmeDir), Directory: a.cfg.Text("gateway-acme-directory"), Logger: a.log,
	}.Config()
	if len(hosts) > 0 {
		c.host = hosts[0]
	}
	return err
}

// url returns where the gateway is, "" if it is off.
func (c *clientListener) url() string {
	if c.listener == nil {
		return ""
	}
	scheme, addr := "http", c.listener.Addr().String()
	if c.tls != nil {
		scheme = "https"
	}
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return scheme + "://" + addr
	}
	if ip := net.ParseIP(host); ip != nil && ip.IsUnspecified() {
		host = "localhost"
	}
	if c.host != "" {
		host = c.host
	}
	if scheme == "https" && port == "443" || scheme == "http" && port == "80" {
		return scheme + "://" + host
	}
	return scheme + "://" + net.JoinHostPort(host, port)
}

// close ends one that does not answer yet.
func (c *clientListener) close() error {
	var err error
	if c.listener != nil {
		err = c.listener.Close()
	}
	if c.challenges != nil {
		err = errors.Join(err, c.challenges.Close())
	}
	return err
}

// serveGateway begins to answer.
func (a *app) serveGateway(c *clientListener, r *replica.Replica, tokens *gateway.Tokens) error {
	if c.listener == nil {
		return nil
	}
	var err error
	c.gateway, err = gateway.New(gateway.Config{
		Replica: r, Authenticate: tokens.Authenticate, Revoked: tokens.Revoked, Version: version(), Logger: a.log,
		Hosts: append(a.cfg.List("gateway-host"), a.cfg.List("gateway-acme-host")...), Origins: a.cfg.List("gateway-origin"),
		Page: page.Handler(), Client: js.Files(),
	})
	if err != nil {
		return errors.Join(err, c.close())
	}
	if a.cfg.Bool("web") {
		if c.page, err = dashboardURL(c.url(), tokens); err != nil {
			return errors.Join(err, c.gateway.Close(), c.close())
		}
	}
	c.server = c.gateway.NewServer(gateway.ServerConfig{TLS: c.tls})
	go func() {
		if err := c.server.Serve(c.listener); err != nil {
			a.log.Error("the gateway ended", "address", c.url(), "error", err)
		}
	}()
	if c.challenges != nil {
		c.answerer = &http.Server{Handler: c.answers, ReadHeaderTimeout: 10 * time.Second, ReadTimeout: 20 * time.Second, WriteTimeout: 20 * time.Second, MaxHeaderBytes: 16 << 10}
		go func() {
			if err := c.answerer.Serve(c.challenges); err != nil && !errors.Is(err, http.ErrServerClosed) {
				a.log.Error("the listener for ACME ended", "error", err)
			}
		}()
	}
	return nil
}

// dashboardURL names the page with a token for it, which browsers do not send along: it stands behind the #. The token is not stored, and
// ends with the process.
func dashboardURL(base string, tokens *gateway.Tokens) (string, error) {
	text, _, err := tokens.Issue(gateway.TokenSpec{
		Subject: "dashboard", Space: gateway.AllSpaces, Rights: replica.AdminRights, Expires: time.Now().Add(webTokenTime), Temporary: true,
	})
	return base + "/#token=" + text, err
}

// stop ends it when the requests in progress have ended, or ctx has.
func (c *clientListener) stop(ctx context.Context) error {
	if c.server == nil {
		return nil
	}
	err := c.server.Shutdown(ctx)
	if c.answerer != nil {
		err = errors.Join(err, c.answerer.Close())
	}
	return err
}
