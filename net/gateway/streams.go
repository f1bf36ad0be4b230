package gateway

import (
	"context"
	"fmt"
	"net/http"
	"strconv"

	"github.com/anabranch-db/anabranch/crdt"
	"github.com/anabranch-db/anabranch/replica"
)

// What the three channels have in common.

// routeStreams registers the channels.
func (g *Gateway) routeStreams(rt *router) {
	rt.HandleFunc("GET /v1/ws", g.serveWebSocket)
	rt.HandleFunc("GET /v1/spaces/{space}/events", g.channel(g.serveEvents))
	rt.HandleFunc("GET /v1/spaces/{space}/changes", g.grantedChannel(g.serveChanges))
	rt.HandleFunc("POST /v1/spaces/{space}/push", g.grantedChannel(g.servePush))
	rt.HandleFunc("POST /v1/spaces/{space}/ticket", g.granted(g.serveTicket))
	rt.HandleFunc("GET /v1/asyncapi.json", serveAsyncAPI)
}

// node names the node to clients: its store, which says what it has settled. One that was made of a backup may have forgotten some of that, and
// is another one to them; after a kill it is the same.
func (g *Gateway) node() string { return g.cfg.Replica.StoreID() }

// nodeHeader tells it with every answer of the channels.
const nodeHeader = "Anabranch-Node"

// enter counts a connection in, which Close waits for. It reports false once the gateway is closing.
func (g *Gateway) enter() (leave func(), ok bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.ctx.Err() != nil {
		return nil, false
	}
	g.live.Add(1)
	return g.live.Done, true
}

// channel is a handler that Close waits for, and that says with its answer which node this is. An error that it returns is the answer.
func (g *Gateway) channel(h func(http.ResponseWriter, *http.Request) error) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set(nodeHeader, g.node())
		leave, ok := g.enter()
		if !ok {
			writeProblem(w, errClosing)
			return
		}
		defer leave()
		if err := h(w, r); err != nil {
			writeProblem(w, err)
		}
	}
}

// grantedChannel is a channel that a token is needed for.
func (g *Gateway) grantedChannel(h func(http.ResponseWriter, *http.Request, Grant) error) http.HandlerFunc {
	return g.granted(func(w http.ResponseWriter, r *http.Request, gr Grant) {
		g.channel(func(w http.ResponseWriter, r *http.Request) error { return h(w, r, gr) })(w, r)
	})
}

// whyEnded returns what ended a channel that failed with err: the end of its context, or of the gateway, if it was one of those.
func (g *Gateway) whyEnded(ctx context.Context, err error) error {
	for _, c := range []context.Context{ctx, g.ctx} {
		if c.Err() != nil {
			return context.Cause(c)
		}
	}
	return err
}

// wakener is a signal that is not lost and does not pile up.
type wakener chan struct{}

func newWakener() wakener { return make(wakener, 1) }

func (w wakener) wake() {
	select {
	case w <- struct{}{}:
	default:
	}
}

// appendWelcome appends the members of the first message of a channel.
func (g *Gateway) appendWelcome(dst []byte, gr Grant) []byte {
	dst = append(append(append(dst, `"node":"`...), g.node()...), '"')
	dst = appendString(append(dst, `,"subject":`...), gr.Subject)
	dst = appendString(append(dst, `,"rights":{`...), gr.Space)
	dst = appendString(append(dst, ':'), gr.Rights.String())
	dst = strconv.AppendInt(append(dst, `},"time":`...), g.cfg.Now().UnixMilli(), 10)
	dst = strconv.AppendInt(append(dst, `,"heartbeat":`...), g.cfg.Heartbeat.Milliseconds(), 10)
	return fmt.Appendf(dst, `,"limits":{"frame":%d,"transaction":%d,"inflight":%d}`, maxMessageBytes, crdt.MaxTransactionBytes, maxTransactions)
}

// appendChanges appends the members of a message of changes.
func appendChanges(dst []byte, b *batch) []byte {
	dst = append(dst, `"items":[`...)
	for i, it := range b.items {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = append(dst, it...)
	}
	dst = append(append(append(dst, `],"cursor":"`...), b.cursor.String()...), '"')
	if b.of != nil {
		dst = strconv.AppendInt(append(dst, `,"of":{"done":`...), b.of.Done, 10)
		dst = strconv.AppendInt(append(dst, `,"total":`...), b.of.Total, 10)
		dst = append(dst, '}')
	}
	return dst
}

// appendLevel appends the members of a message that says that everything up to the cursor was sent.
func appendLevel(dst []byte, b *batch) []byte {
	dst = append(append(append(dst, `"cursor":"`...), b.cursor.String()...), '"')
	if b.vector != "" {
		dst = append(append(append(dst, `,"vector":"`...), b.vector...), '"')
	}
	return dst
}

func appendError(dst []byte, p *Problem) []byte {
	dst = appendString(append(dst, `"code":`...), p.Code)
	return appendString(append(dst, `,"detail":`...), p.Detail)
}

// queryFilter reads which documents a request is about.
func queryFilter(r *http.Request) (filter, error) {
	q := r.URL.Query()
	return newFilter(q.Get("prefix"), q["key"], q.Has("key"))
}

// follower is whose replicated transactions a request asks for.
type follower struct {
	key   receiptKey
	nodes int    // up to how many; 0: it does not ask
	after uint64 // what it knows
}

func queryFollower(r *http.Request, space *replica.Space) (follower, error) {
	q := r.URL.Query()
	f := follower{key: receiptKey{space: space}}
	if !q.Has("client") {
		return f, nil
	}
	var err error
	if f.key.client, err = parseClientID(q.Get("client")); err != nil {
		return f, badMessage("client: %s", err)
	}
	f.nodes = 1
	if q.Has("replicate") {
		f.nodes, err = strconv.Atoi(q.Get("replicate"))
	}
	if err != nil || f.nodes < 0 || f.nodes > maxReplicate {
		return f, badMessage("replicate must be 0 to %d", maxReplicate)
	}
	if q.Has("replicated") {
		f.after, err = strconv.ParseUint(q.Get("replicated"), 10, 53)
	}
	if err != nil {
		return f, badMessage("replicated must be the number of a transaction")
	}
	return f, nil
}

// watch tells which transactions other nodes hold, until ctx ends.
func (f *follower) watch(ctx context.Context, g *Gateway, tell func(seq uint64, nodes int)) {
	if f.nodes == 0 {
		return
	}
	kept, release := g.receipts.of(f.key)
	defer release()
	told := make([]uint64, f.nodes)
	for i := range told {
		told[i] = f.after
	}
	kept.watch(ctx, f.key.space, told, tell)
}

// heldNews says that so many nodes hold a client's transactions up to a number.
type heldNews struct {
	seq   uint64
	nodes int
}

// start is watch beside what the caller does: it tells over news until ctx ends or stop is called, which returns when it has ended.
func (f *follower) start(ctx context.Context, g *Gateway) (news <-chan heldNews, stop func()) {
	told := make(chan heldNews)
	ended := make(chan struct{})
	ctx, cancel := context.WithCancel(ctx)
	go func() {
		defer close(ended)
		f.watch(ctx, g, func(seq uint64, nodes int) {
			select {
			case told <- heldNews{seq, nodes}:
			case <-ctx.Done():
			}
		})
	}()
	return told, func() { cancel(); <-ended }
}

// servePush makes transactions that were posted.
func (g *Gateway) servePush(w http.ResponseWriter, r *http.Request, gr Grant) error {
	g.begin(w, r, 0)
	body, release, err := g.body(r, mediaJSON)
	if err != nil {
		return err
	}
	defer release()
	m, err := parsePush(body)
	if err != nil {
		return err
	}
	m.Space = r.PathValue("space")
	p, err := g.push(r.Context(), gr, m, make(stalls))
	if err != nil {
		return err
	}
	writeText(w, http.StatusOK, append(append([]byte(`{"results":[`), p.json...), "]}"...))
	p.remember(g)
	return nil
}
