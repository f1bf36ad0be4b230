package gateway

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"time"

	"github.com/anabranch-db/anabranch/crdt"
	"github.com/anabranch-db/anabranch/replica"
)

// eventStream writes server-sent events (HTML Living Standard, 9.2). Its reader says nothing, so what bounds it is that it takes what is
// written: one that does not is cut off, and nothing is kept for it.
type eventStream struct {
	g       *Gateway
	w       http.ResponseWriter
	control *http.ResponseController
}

func (g *Gateway) newEventStream(w http.ResponseWriter) *eventStream {
	h := w.Header()
	h.Set("Content-Type", "text/event-stream")
	h.Set("Cache-Control", "no-store")
	h.Set("X-Accel-Buffering", "no") // proxies must not wait for more
	return &eventStream{g, w, http.NewResponseController(w)}
}

// send writes an event whose data are JSON, on one line; id may be empty.
func (s *eventStream) send(event, id string, data []byte) error {
	buf := takeBuffer()
	defer buf.free()
	b := buf.text
	if id != "" {
		b = append(append(append(b, "id: "...), id...), '\n')
	}
	b = append(append(append(b, "event: "...), event...), '\n')
	b = append(append(append(b, "data: "...), data...), "\n\n"...)
	buf.text = b
	return s.write(b)
}

// sendJSON is send for what is to be JSON, without an ID.
func (s *eventStream) sendJSON(event string, v any) error {
	text, err := json.Marshal(v) // in one line
	if err != nil {
		return err
	}
	return s.send(event, "", text)
}

func (s *eventStream) write(b []byte) error {
	// Where the connection has no deadlines, as in a test without a network, the reader cannot be slow.
	if err := s.control.SetWriteDeadline(time.Now().Add(s.g.cfg.WriteTimeout)); err != nil && !errors.Is(err, http.ErrNotSupported) {
		return err
	}
	if _, err := s.w.Write(b); err != nil {
		return err
	}
	return s.control.Flush()
}

// queryPlace reads where a request goes on.
func queryPlace(r *http.Request) (since replica.Cursor, vector *crdt.VersionVector, err error) {
	q := r.URL.Query()
	text := q.Get("since")
	if id := r.Header.Get("Last-Event-ID"); id != "" {
		text = id // an EventSource that connects again repeats its first address
	}
	return parsePlace(text, q.Get("vector"))
}

// serveEvents serves one event stream.
func (g *Gateway) serveEvents(w http.ResponseWriter, r *http.Request) error {
	gr, err := g.authenticateStream(r)
	if err == nil {
		err = g.spend(gr, 1)
	}
	if err != nil {
		return err
	}
	q, err := g.parseFollow(r, gr)
	if err != nil {
		return err
	}
	release, err := g.admit(gr)
	if err != nil {
		return err
	}
	defer release()
	ctx, cancel := g.whileGranted(r.Context(), gr)
	defer cancel()
	wakener := newWakener()
	sub, err := g.subscribe(q.space, q.filter, q.since, q.vector, wakener.wake)
	if err != nil {
		return err
	}
	defer sub.close()
	sub.checkpoints = q.checkpoints
	s := g.newEventStream(w)
	if r.Method == http.MethodHead {
		return nil
	}
	defer g.meter.connected("sse")()
	keepReading(w)
	if err := s.serve(ctx, gr, sub, wakener, q.follower); err != nil {
		s.sayWhy(err) // the answer has begun
	}
	return nil
}

// keepReading takes the deadline for reading a request from a connection whose request was read: net/http goes on reading, to notice
// when the client goes, and would take the end of the deadline for that.
func keepReading(w http.ResponseWriter) {
	_ = http.NewResponseController(w).SetReadDeadline(time.Time{}) // where there are no deadlines, none is in the way
}

// follow is what a request asks to follow.
type follow struct {
	space       *replica.Space
	filter      filter
	since       replica.Cursor
	vector      *crdt.VersionVector
	checkpoints bool
	follower
}

func (g *Gateway) parseFollow(r *http.Request, gr Grant) (q follow, err error) {
	if q.filter, err = queryFilter(r); err != nil {
		return q, err
	}
	if q.since, q.vector, err = queryPlace(r); err != nil {
		return q, err
	}
	if q.space, err = g.space(gr, r.PathValue("space"), replica.ReadRights); err != nil {
		return q, err
	}
	q.checkpoints = r.URL.Query().Get("checkpoints") == "1"
	q.follower, err = queryFollower(r, q.space)
	return q, err
}

// serve writes until ctx ends, whose cause it returns, or the reader has gone.
func (s *eventStream) serve(ctx context.Context, gr Grant, sub *subscription, wakener wakener, f follower) error {
	if err := s.write([]byte("retry: 2000\n\n")); err != nil {
		return err
	}
	if err := s.send("welcome", "", append(s.g.appendWelcome([]byte{'{'}, gr), '}')); err != nil {
		return err
	}
	news, stop := f.start(ctx, s.g)
	defer stop()
	heartbeat := time.NewTicker(s.g.cfg.Heartbeat)
	defer heartbeat.Stop()
	wakener.wake()
	for {
		var err error
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case n := <-news:
			err = s.send("replicated", "", append(appendReplicated([]byte{'{'}, f.key.space.Name(), f.key.client, n.seq, n.nodes), '}'))
		case <-heartbeat.C:
			if err = s.write([]byte(":\n\n")); err == nil {
				wakener.wake() // a portable cursor may be due
			}
		case <-wakener:
			err = s.sendBatch(ctx, sub, wakener)
		}
		if err != nil {
			return s.g.whyEnded(ctx, err)
		}
	}
}

// sendBatch sends what the subscription has to say at once, and wakes itself if there may be more.
func (s *eventStream) sendBatch(ctx context.Context, sub *subscription, wakener wakener) error {
	b, err := sub.next(ctx, maxBatchItems)
	if err != nil || b.empty() {
		return err
	}
	wakener.wake()
	if b.reset != "" {
		if err := s.send("reset", "", append(appendString([]byte(`{"reason":`), b.reset), '}')); err != nil {
			return err
		}
	}
	buf := takeBuffer()
	defer buf.free()
	if len(b.items) > 0 {
		buf.text = append(appendChanges(append(buf.text, '{'), &b), '}')
		if err := s.send("changes", b.cursor.String(), buf.text); err != nil {
			return err
		}
		s.g.meter.items("sse", len(b.items))
	}
	if b.level {
		return s.send("level", b.cursor.String(), append(appendLevel([]byte{'{'}, &b), '}'))
	}
	return nil
}

// sayWhy tells a reader that is still there why the stream ends.
func (s *eventStream) sayWhy(err error) {
	if errors.Is(err, context.Canceled) {
		return // it has gone
	}
	_ = s.send("error", "", append(appendError([]byte{'{'}, problemOf(err)), '}')) // it may have gone
}
