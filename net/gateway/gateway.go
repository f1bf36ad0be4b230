package gateway

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/anabranch-db/anabranch/replica"
)

// Config says what a Gateway serves, and whom.
type Config struct {
	// Replica is what is served. It must outlive the Gateway.
	Replica *replica.Replica
	// Authenticate checks a bearer token. Its error may be a *Problem; any other is answered as unauthenticated. Nil: every
	// token is refused.
	Authenticate func(ctx context.Context, token string) (Grant, error)
	// Revoked returns a channel that is closed when the token of that ID is revoked; nil if it never is. Running sessions end then. Nil: no
	// token is ever revoked.
	Revoked func(id string) <-chan struct{}
	// Hosts are the names under which the gateway may be asked, beside addresses and localhost.
	Hosts []string
	// Origins are the origins of pages, as https://app.example.org, that may use the gateway beside its own.
	Origins []string
	// Limits bound what clients may ask for.
	Limits Limits
	// Page answers for / and what is below /page/, to anybody; page.Handler is one. Nil: there is nothing.
	Page http.Handler
	// Client is what /client/ has, for anybody; js.Files is one. Nil: there is nothing.
	Client fs.FS
	// Version is that of the program, for people.
	Version string
	// Heartbeat is how often a silent connection carries a sign of life. A WebSocket that does not answer two of them is closed. Zero: 15 s.
	Heartbeat time.Duration
	// HelloTimeout is how long a WebSocket may stay open without a token. Zero: 10 s.
	HelloTimeout time.Duration
	// WriteTimeout is how long a reader may take for one message before it is cut off. Zero: 30 s.
	WriteTimeout time.Duration
	// Now reads the clock. Nil: time.Now.
	Now func() time.Time
	// Logger takes what an operator should know. Nil: nothing is logged.
	Logger *slog.Logger
}

func (c Config) withDefaults() (Config, error) {
	if c.Replica == nil {
		return c, errors.New("gateway: Config: a Replica is needed")
	}
	if c.Heartbeat < 0 || c.HelloTimeout < 0 || c.WriteTimeout < 0 {
		return c, errors.New("gateway: Config: Heartbeat, HelloTimeout and WriteTimeout must not be negative")
	}
	var err error
	if c.Limits, err = c.Limits.withDefaults(); err != nil {
		return c, err
	}
	if c.Authenticate == nil {
		c.Authenticate = func(context.Context, string) (Grant, error) {
			return Grant{}, errors.New("this node takes no tokens")
		}
	}
	if c.Revoked == nil {
		c.Revoked = func(string) <-chan struct{} { return nil }
	}
	if c.Heartbeat == 0 {
		c.Heartbeat = 15 * time.Second
	}
	if c.HelloTimeout == 0 {
		c.HelloTimeout = 10 * time.Second
	}
	if c.WriteTimeout == 0 {
		c.WriteTimeout = 30 * time.Second
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return c, nil
}

// Grant is what a token allows.
type Grant struct {
	ID      string // of the token
	Subject string // whom it was given to; at most 255 bytes
	Space   string // the one space, or AllSpaces
	Rights  replica.Rights
	Expires time.Time // zero: never
}

// AllSpaces in Grant.Space stands for every space of the node.
const AllSpaces = "*"

// May reports whether the grant gives these rights in the space. It says nothing about the time.
func (gr Grant) May(space string, need replica.Rights) bool {
	return (gr.Space == AllSpaces || gr.Space == space) && gr.Rights >= need
}

// Gateway answers HTTP requests for the spaces of one node. It is an http.Handler.
type Gateway struct {
	cfg     Config
	handler http.Handler
	door    *door
	usage   *usage
	meter   *meter
	sampler sampler
	routes  *router
	files   *files
	started time.Time

	ctx  context.Context // of everything that outlasts a request; ends with Close
	stop context.CancelCauseFunc
	live sync.WaitGroup // hubs, and connections that are being served

	readers  chan struct{} // bounds those that read the store at the same time to catch up
	encoded  atomic.Int64  // changes that hubs have encoded
	receipts *receiptBook
	tickets  *tickets

	mu   sync.Mutex
	hubs map[*replica.Space]*hub
}

// maxReaders is how many subscriptions read the store at the same time.
const maxReaders = 4

// New returns a Gateway. It listens on nothing: give it to an http.Server. Close it before the Replica.
func New(cfg Config) (*Gateway, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	door, err := newDoor(cfg.Hosts, cfg.Origins)
	if err != nil {
		return nil, fmt.Errorf("gateway: Config: %w", err)
	}
	g := &Gateway{
		cfg: cfg, door: door, usage: newUsage(cfg.Limits), meter: newMeter(), started: cfg.Now(),
		hubs: make(map[*replica.Space]*hub), readers: make(chan struct{}, maxReaders), receipts: newReceiptBook(), tickets: newTickets(),
	}
	if g.files, err = loadFiles(cfg.Page, cfg.Client); err != nil {
		return nil, fmt.Errorf("gateway: Config: %w", err)
	}
	g.ctx, g.stop = context.WithCancelCause(context.Background())
	g.routes = newRouter()
	g.routeREST(g.routes)
	g.routeStreams(g.routes)
	g.handler = g.guard(g.routes)
	return g, nil
}

// ServeHTTP answers one request.
func (g *Gateway) ServeHTTP(w http.ResponseWriter, r *http.Request) { g.handler.ServeHTTP(w, r) }

var (
	errClosing    = &Problem{Status: http.StatusServiceUnavailable, Code: CodeBusy, Detail: "the node is shutting down", RetryAfter: 2 * time.Second}
	errGoingAway  = fmt.Errorf("the node goes away: %w", errClosing)
	errRestarting = fmt.Errorf("the node is about to come back: %w", errClosing)
)

// Close ends all sessions, telling their clients that the node goes away, and returns when they have ended. What is asked
// afterwards is refused.
func (g *Gateway) Close() error { return g.shutDown(errGoingAway) }

// Restart is Close for a node that is about to come back: clients are told to try again soon.
func (g *Gateway) Restart() error { return g.shutDown(errRestarting) }

func (g *Gateway) shutDown(why error) error {
	g.mu.Lock()
	g.stop(why)
	g.mu.Unlock() // whoever comes from now on is turned away
	g.live.Wait()
	return nil
}
