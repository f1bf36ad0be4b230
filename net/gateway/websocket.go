package gateway

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/coder/websocket"

	"github.com/anabranch-db/anabranch/replica"
)

// subprotocol is the one that is spoken.
const subprotocol = "anabranch.v1"

// Codes with which a WebSocket is closed, beside those of RFC 6455.
const (
	closeBadMessage      websocket.StatusCode = 4400
	closeUnauthenticated websocket.StatusCode = 4401
	closeForbidden       websocket.StatusCode = 4403
	closeSlow            websocket.StatusCode = 4408
	closeTooMany         websocket.StatusCode = 4429
)

const (
	// answersKept bounds the answers that wait to be written. While they do nothing more is read, so a client that does not read cannot write.
	answersKept = 16
	// expiryNotice is how long before its token expires a client is told.
	expiryNotice = time.Minute
	// closePatience is how long the last message may take.
	closePatience = 5 * time.Second
)

// closing is why a session ends, in the words of the protocol.
type closing struct {
	code    websocket.StatusCode
	problem *Problem // told before, if not nil
	reason  string
}

func (c *closing) Error() string { return fmt.Sprintf("%d: %s", c.code, c.reason) }

func closingFor(code websocket.StatusCode, p *Problem) *closing {
	return &closing{code, p, p.Code}
}

// closingOf returns how to end a session after an error.
func closingOf(err error) *closing {
	var c *closing
	switch {
	case errors.As(err, &c):
		return c
	case errors.Is(err, errGoingAway):
		return &closing{code: websocket.StatusGoingAway, reason: "the node is shutting down"}
	case errors.Is(err, errRestarting):
		return &closing{code: websocket.StatusServiceRestart, reason: "the node is restarting"}
	}
	return closingFor(websocket.StatusInternalError, problemOf(err))
}

// webSocket is one connection. Two goroutines serve it: one reads, and does what is asked; the other writes all there is to say. A third one
// is there for a moment at each heartbeat, to wait for the answer of a ping.
type webSocket struct {
	g    *Gateway
	r    *http.Request
	conn *websocket.Conn

	ctx context.Context // ends with the session; its cause says why
	end context.CancelCauseFunc

	answers chan []byte
	wakener
	halted stalls
	heard  atomic.Int64 // messages that were read
	busy   atomic.Bool  // one is being worked on

	mu         sync.Mutex // guards what follows
	grant      Grant
	release    func()
	granted    wakener // says that grant changed
	subs       []*wsSubscription
	replicated map[receiptKey]bool // clients that are told which of their transactions other nodes hold
	tellers    sync.WaitGroup
}

// wsSubscription is a subscription of a connection.
type wsSubscription struct {
	name  string
	space string
	*subscription
	credit int  // guarded by webSocket.mu
	ended  bool // the same
}

// serveWebSocket serves one connection until it ends.
func (g *Gateway) serveWebSocket(w http.ResponseWriter, r *http.Request) {
	leave, ok := g.enter()
	if !ok {
		writeProblem(w, errClosing)
		return
	}
	defer leave()
	var grant *Grant
	if _, ok := bearer(r); ok {
		gr, err := g.authenticate(r)
		if err != nil {
			writeProblem(w, err)
			return
		}
		grant = &gr
	}
	// The guard has looked at the origin. Changes are small and alike, and compressing them costs more than it saves: docs/benchmarks.md.
	conn, err := websocket.Accept(w, r, &websocket.AcceptOptions{
		Subprotocols: []string{subprotocol}, InsecureSkipVerify: true, CompressionMode: websocket.CompressionDisabled,
	})
	if err != nil {
		return // Accept has answered
	}
	defer conn.CloseNow()
	defer g.meter.connected("websocket")()
	conn.SetReadLimit(maxMessageBytes)
	s := &webSocket{g: g, r: r, conn: conn, answers: make(chan []byte, answersKept), wakener: newWakener(), granted: newWakener(), halted: make(stalls), replicated: make(map[receiptKey]bool)}
	s.ctx, s.end = context.WithCancelCause(context.WithoutCancel(r.Context()))
	defer s.end(nil)
	defer context.AfterFunc(g.ctx, func() { s.end(context.Cause(g.ctx)) })()
	// A write to a client that takes nothing would hold the end of the session up.
	defer context.AfterFunc(s.ctx, func() { time.AfterFunc(2*closePatience, func() { s.conn.CloseNow() }) })()
	if err := s.greet(grant); err != nil {
		s.finish(closingOf(err))
		return
	}
	s.serve()
}

// greet waits for the first message, unless the request had a token, and answers it.
func (s *webSocket) greet(grant *Grant) error {
	if s.conn.Subprotocol() != subprotocol {
		return closingFor(closeBadMessage, badMessage("ask for the subprotocol %s", subprotocol))
	}
	if grant == nil {
		ctx, cancel := context.WithTimeout(s.ctx, s.g.cfg.HelloTimeout)
		defer cancel()
		gr, err := s.hello(ctx)
		switch {
		case err != nil && s.ctx.Err() != nil:
			return context.Cause(s.ctx)
		case err != nil && ctx.Err() != nil:
			return closingFor(closeSlow, &Problem{Code: CodeTimeout, Detail: "no hello came"})
		case err != nil:
			return err
		}
		grant = &gr
	}
	if err := s.admit(*grant); err != nil {
		return closingFor(closeTooMany, problemOf(err))
	}
	return s.write(append(s.g.appendWelcome([]byte(`{"type":"welcome",`), *grant), '}'))
}

func (s *webSocket) hello(ctx context.Context) (Grant, error) {
	// The end of a context given to Read closes the connection without a word, so the read is left behind, for CloseNow to end.
	type message struct {
		text []byte
		err  error
	}
	came := make(chan message, 1)
	go func() {
		text, err := s.read()
		came <- message{text, err}
	}()
	var m message
	select {
	case m = <-came:
	case <-ctx.Done():
		return Grant{}, ctx.Err()
	}
	if m.err != nil {
		return Grant{}, m.err
	}
	parsed, err := parseMessage(m.text)
	hello, ok := parsed.(*helloMessage)
	switch {
	case err != nil:
		return Grant{}, closingFor(closeBadMessage, problemOf(err))
	case !ok || hello.Token == "":
		return Grant{}, closingFor(closeUnauthenticated, unauthenticated(CodeUnauthenticated, "the first message must be hello, with a token"))
	}
	gr, err := s.g.check(s.r, hello.Token)
	if err != nil {
		return gr, closingFor(closeUnauthenticated, problemOf(err))
	}
	return gr, nil
}

// admit makes a grant the one of the session.
func (s *webSocket) admit(gr Grant) error {
	release, err := s.g.admit(gr)
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.release != nil {
		s.release()
	}
	s.grant, s.release = gr, release
	return nil
}

// serve runs the session until both goroutines have ended.
func (s *webSocket) serve() {
	var writer sync.WaitGroup
	writer.Go(s.writeAll)
	s.readAll()
	writer.Wait()
	s.tellers.Wait()
	for _, sub := range s.subs {
		sub.close()
	}
	s.release()
}

// read returns the next message, which is text.
func (s *webSocket) read() ([]byte, error) {
	kind, text, err := s.conn.Read(context.Background()) // it ends when the connection is closed
	if err == nil && kind != websocket.MessageText {
		err = closingFor(closeBadMessage, badMessage("messages must be text"))
	}
	return text, err
}

// readAll does what the client asks until the connection is closed, from either side.
func (s *webSocket) readAll() {
	for s.ctx.Err() == nil {
		text, err := s.read()
		if err != nil {
			s.end(err)
			return
		}
		s.heard.Add(1)
		s.busy.Store(true)
		err = s.do(text)
		s.busy.Store(false)
		if err != nil {
			s.end(closingOf(err))
			break
		}
	}
	// Until the writer has closed the connection, the client may go on; its answer to the close is what is waited for.
	for {
		if _, _, err := s.conn.Read(context.Background()); err != nil {
			return
		}
	}
}

func (s *webSocket) do(text []byte) error {
	parsed, err := parseMessage(text)
	if err != nil {
		s.g.meter.refused(problemOf(err).Code)
		return closingFor(closeBadMessage, problemOf(err))
	}
	switch m := parsed.(type) {
	case *pingMessage:
		return s.answer(append(strconv.AppendUint([]byte(`{"type":"pong","n":`), m.N, 10), '}'))
	case *subscribeMessage:
		return s.subscribe(m)
	case *creditMessage:
		s.addCredit(m)
	case *unsubscribeMessage:
		s.unsubscribe(m.Sub)
	case *pushMessage:
		return s.push(m)
	case *tokenMessage:
		return s.replaceToken(m.Token)
	case *helloMessage:
		if m.Token != "" { // the token came in the header, or with an earlier hello
			return s.replaceToken(m.Token)
		}
	}
	return nil
}

// answer puts a message in the writer's way, and waits while that has too many.
func (s *webSocket) answer(text []byte) error {
	select {
	case s.answers <- text:
		return nil
	case <-s.ctx.Done():
		return context.Cause(s.ctx)
	}
}

func (s *webSocket) fail(sub string, p *Problem) error {
	s.g.meter.refused(p.Code)
	text := appendError([]byte(`{"type":"error",`), p)
	if sub != "" {
		text = appendString(append(text, `,"sub":`...), sub)
	}
	return s.answer(append(text, '}'))
}

func (s *webSocket) granter() Grant {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.grant
}

func (s *webSocket) subscribe(m *subscribeMessage) error {
	s.mu.Lock()
	known := slices.ContainsFunc(s.subs, func(o *wsSubscription) bool { return o.name == m.Sub && !o.ended })
	count := len(s.subs)
	s.mu.Unlock()
	switch {
	case known:
		return s.fail(m.Sub, badMessage("there is a subscription of that name"))
	case count >= maxSubscriptions:
		return s.fail(m.Sub, &Problem{Code: CodeRateLimited, Detail: fmt.Sprintf("%d subscriptions, as many as may be on one connection", count)})
	}
	gr := s.granter()
	space, err := s.g.space(gr, m.Space, replica.ReadRights)
	if err == nil {
		err = s.g.spend(gr, 1)
	}
	if err != nil {
		return s.fail(m.Sub, problemOf(err))
	}
	sub, err := s.g.subscribe(space, m.Filter, m.Since, m.Vector, s.wake)
	if err != nil {
		return s.fail(m.Sub, problemOf(err))
	}
	sub.checkpoints = m.Checkpoints
	s.mu.Lock()
	s.subs = append(s.subs, &wsSubscription{name: m.Sub, space: m.Space, subscription: sub, credit: m.Credit})
	s.mu.Unlock()
	s.wake()
	return nil
}

func (s *webSocket) addCredit(m *creditMessage) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, sub := range s.subs {
		if sub.name == m.Sub && !sub.ended {
			sub.credit = min(sub.credit+m.Add, maxCredit)
			s.wake()
		}
	}
}

func (s *webSocket) unsubscribe(name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, sub := range s.subs {
		sub.ended = sub.ended || sub.name == name
	}
	s.wake()
}

func (s *webSocket) push(m *pushMessage) error {
	p, err := s.g.push(s.ctx, s.granter(), m, s.halted)
	if err != nil {
		return s.fail("", problemOf(err))
	}
	text := appendString([]byte(`{"type":"ack","space":`), m.Space)
	text = append(append(append(text, `,"client":"`...), m.Client.String()...), `","results":[`...)
	if err := s.answer(append(append(text, p.json...), "]}"...)); err != nil {
		return err
	}
	p.remember(s.g)
	if m.Replicate > 0 {
		s.tellReplicated(m)
	}
	return nil
}

// maxReplicatedClients bounds the clients of one connection that are told of other nodes.
const maxReplicatedClients = 100

// tellReplicated tells, from now on, which transactions of a client other nodes hold.
func (s *webSocket) tellReplicated(m *pushMessage) {
	space, ok := s.g.cfg.Replica.Lookup(m.Space)
	k := receiptKey{space, m.Client}
	if !ok || s.replicated[k] || len(s.replicated) >= maxReplicatedClients {
		return
	}
	s.replicated[k] = true
	f := follower{key: k, nodes: m.Replicate}
	s.tellers.Go(func() {
		f.watch(s.ctx, s.g, func(seq uint64, nodes int) {
			text := appendReplicated([]byte(`{"type":"replicated",`), m.Space, m.Client, seq, nodes)
			_ = s.answer(append(text, '}')) // it fails when the session has ended
		})
	})
}

// replaceToken goes on with another token of the same subject.
func (s *webSocket) replaceToken(token string) error {
	gr, err := s.g.check(s.r, token)
	if err != nil {
		return closingFor(closeUnauthenticated, problemOf(err))
	}
	if old := s.granter(); old.Subject != gr.Subject {
		return closingFor(closeForbidden, &Problem{Code: CodeForbidden, Detail: "the token is of another subject: connect anew"})
	}
	if err := s.admit(gr); err != nil {
		return closingFor(closeTooMany, problemOf(err))
	}
	s.granted.wake()
	return nil
}
