package gateway

import (
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"time"

	"golang.org/x/net/netutil"
)

// Bounds of what a Server holds on to.
const (
	headerTimeout  = 10 * time.Second
	idleTimeout    = 2 * time.Minute
	maxHeaderBytes = 32 << 10
	// DefaultMaxConns bounds the connections of all clients together.
	DefaultMaxConns = 16384
)

// ServerConfig says how a Server listens.
type ServerConfig struct {
	TLS *tls.Config // nil: without
	// MaxConns is how many connections there may be; beyond it, others wait to be let in. Zero: DefaultMaxConns.
	MaxConns int
}

// Server lets clients reach a Gateway. It has the time-outs that keep slow and silent ones from holding connections; answers that last,
// as event streams, set their own.
type Server struct {
	g    *Gateway
	cfg  ServerConfig
	http http.Server
}

// NewServer returns a Server of the gateway.
func (g *Gateway) NewServer(c ServerConfig) *Server {
	if c.MaxConns == 0 {
		c.MaxConns = DefaultMaxConns
	}
	s := &Server{g: g, cfg: c}
	s.http = http.Server{
		Handler: g, ReadHeaderTimeout: headerTimeout, IdleTimeout: idleTimeout, MaxHeaderBytes: maxHeaderBytes, TLSConfig: c.TLS,
		BaseContext: func(net.Listener) context.Context { return g.ctx },
		ErrorLog:    slog.NewLogLogger(g.cfg.Logger.Handler(), slog.LevelDebug), // what clients do wrong is not ours to worry about
	}
	return s
}

// Serve answers until Shutdown, and then returns nil. It closes the listener.
func (s *Server) Serve(l net.Listener) error {
	l = netutil.LimitListener(l, s.cfg.MaxConns)
	var err error
	if s.cfg.TLS != nil {
		err = s.http.ServeTLS(l, "", "")
	} else {
		err = s.http.Serve(l)
	}
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return err
}

// Shutdown closes the Gateway, which ends what lasts, and waits for the other requests until ctx ends.
func (s *Server) Shutdown(ctx context.Context) error {
	err := s.g.Close()
	if serr := s.http.Shutdown(ctx); serr != nil {
		err = errors.Join(err, serr, s.http.Close())
	}
	return err
}
