package gateway

import (
	"context"
	"errors"
	"slices"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/coder/websocket"

	"github.com/anabranch-db/anabranch/replica"
)

// writeAll writes until the session ends, and then closes the connection.
func (s *webSocket) writeAll() {
	err := s.writeWhileOpen()
	if s.ctx.Err() == nil {
		s.end(err)
	}
	s.finish(context.Cause(s.ctx))
}

// finish ends the connection, with what there is to say about it.
func (s *webSocket) finish(why error) {
	var c *closing
	if !errors.As(why, &c) {
		if !errors.Is(why, errGoingAway) && !errors.Is(why, errRestarting) {
			s.conn.CloseNow() // the client has gone, or takes nothing
			return
		}
		c = closingOf(why)
	}
	s.end(c)
	ctx, cancel := context.WithTimeout(context.Background(), closePatience)
	defer cancel()
	if c.problem != nil {
		_ = s.conn.Write(ctx, websocket.MessageText, append(appendError([]byte(`{"type":"error",`), c.problem), '}'))
	}
	s.conn.Close(c.code, c.reason) // whether or not the client answers, this is the end
}

func (s *webSocket) writeWhileOpen() error {
	heartbeat := time.NewTicker(s.g.cfg.Heartbeat)
	defer heartbeat.Stop()
	watch := newGrantWatch(s.g)
	defer watch.stop()
	watch.set(s.granter())
	var pinging atomic.Bool
	for {
		var err error
		select {
		case <-s.ctx.Done():
			return context.Cause(s.ctx)
		case text := <-s.answers:
			err = s.write(text)
		case <-s.wakener:
			err = s.writeSubscriptions()
		case <-heartbeat.C:
			if pinging.CompareAndSwap(false, true) {
				go func() {
					defer pinging.Store(false)
					s.ping()
				}()
			}
			err = s.writeSubscriptions() // a portable cursor may be due
		case <-s.granted:
			watch.set(s.granter())
			err = s.dropForbidden()
		case <-watch.timer.C:
			if left := watch.left(); left > 0 {
				err = s.write(append(strconv.AppendInt([]byte(`{"type":"expiring","in":`), left.Milliseconds(), 10), '}'))
			} else {
				err = closingFor(closeUnauthenticated, errTokenExpired)
			}
		case <-watch.revoked:
			err = closingFor(closeUnauthenticated, errTokenRevoked)
		}
		if err != nil {
			return err
		}
	}
}

// grantWatch says when a token is about to expire, when it has, and when it is revoked.
type grantWatch struct {
	g       *Gateway
	expires time.Time
	timer   *time.Timer
	revoked <-chan struct{}
}

func newGrantWatch(g *Gateway) *grantWatch {
	w := &grantWatch{g: g, timer: time.NewTimer(time.Hour)}
	w.timer.Stop()
	return w
}

func (w *grantWatch) stop() { w.timer.Stop() }

// set begins anew with another token.
func (w *grantWatch) set(gr Grant) {
	w.revoked = w.g.cfg.Revoked(gr.ID)
	w.timer.Stop()
	if w.expires = gr.Expires; !gr.Expires.IsZero() {
		w.timer.Reset(gr.Expires.Sub(w.g.cfg.Now()) - expiryNotice)
	}
}

// left returns how long the token is still good, and arms the timer for its end.
func (w *grantWatch) left() time.Duration {
	left := w.expires.Sub(w.g.cfg.Now())
	w.timer.Reset(left)
	return left
}

// ping ends the session if the client answers nothing for two heartbeats. One whose message is being worked on is not asked: its answer could not be
// read meanwhile.
func (s *webSocket) ping() {
	heard := s.heard.Load()
	if s.busy.Load() {
		return
	}
	ctx, cancel := context.WithTimeout(s.ctx, 2*s.g.cfg.Heartbeat)
	defer cancel()
	if err := s.conn.Ping(ctx); err != nil && s.ctx.Err() == nil && !s.busy.Load() && s.heard.Load() == heard {
		s.end(errDead)
	}
}

var errDead = errors.New("the client does not answer")

// write writes one message. A client that takes none for long is cut off.
func (s *webSocket) write(text []byte) error {
	ctx, cancel := context.WithTimeout(context.Background(), s.g.cfg.WriteTimeout)
	defer cancel()
	return s.conn.Write(ctx, websocket.MessageText, text)
}

// writeSubscriptions writes one message of each subscription that has something to say and may; if there was any, it wakes the writer again, so
// that answers and the end of the session are not held up by a long catch-up.
func (s *webSocket) writeSubscriptions() error {
	more := false
	for _, sub := range s.current() {
		said, err := s.writeSubscription(sub)
		if err != nil {
			return err
		}
		more = more || said
	}
	if more {
		s.wake()
	}
	return nil
}

// current returns the subscriptions, after it has closed those that are over.
func (s *webSocket) current() []*wsSubscription {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.subs = slices.DeleteFunc(s.subs, func(sub *wsSubscription) bool {
		if sub.ended {
			sub.close()
		}
		return sub.ended
	})
	return slices.Clone(s.subs)
}

func (s *webSocket) writeSubscription(sub *wsSubscription) (said bool, err error) {
	s.mu.Lock()
	credit := sub.credit
	s.mu.Unlock()
	if credit == 0 {
		return false, nil
	}
	b, err := sub.next(s.ctx, maxBatchItems)
	if err != nil {
		return false, s.endSubscription(sub, err)
	}
	if b.empty() {
		return false, nil
	}
	if b.reset != "" {
		text := appendString([]byte(`{"type":"reset","sub":`), sub.name)
		text = append(appendString(append(text, `,"reason":`...), b.reset), '}')
		if err := s.write(text); err != nil {
			return false, err
		}
	}
	buf := takeBuffer()
	defer buf.free()
	if len(b.items) > 0 {
		s.mu.Lock()
		sub.credit--
		s.mu.Unlock()
		buf.text = append(appendString(append(buf.text, `{"type":"changes","sub":`...), sub.name), ',')
		buf.text = append(appendChanges(buf.text, &b), '}')
		if err := s.write(buf.text); err != nil {
			return false, err
		}
		s.g.meter.items("websocket", len(b.items))
	}
	if b.level {
		buf.text = append(appendString(append(buf.text[:0], `{"type":"level","sub":`...), sub.name), ',')
		buf.text = append(appendLevel(buf.text, &b), '}')
		return true, s.write(buf.text)
	}
	return true, nil
}

// endSubscription tells why a subscription is over. The session goes on.
func (s *webSocket) endSubscription(sub *wsSubscription, why error) error {
	if ended := s.g.whyEnded(s.ctx, nil); ended != nil {
		return ended
	}
	s.mu.Lock()
	sub.ended = true
	s.mu.Unlock()
	s.wake() // to close it
	p := problemOf(why)
	if p.Code == CodeInternal {
		s.g.cfg.Logger.Error("a subscription failed", "space", sub.space, "error", why)
	}
	s.g.meter.refused(p.Code)
	text := appendString(append(appendError([]byte(`{"type":"error",`), p), `,"sub":`...), sub.name)
	return s.write(append(text, '}'))
}

// dropForbidden ends the subscriptions that a new token does not allow.
func (s *webSocket) dropForbidden() error {
	gr := s.granter()
	for _, sub := range s.current() {
		if gr.May(sub.space, replica.ReadRights) {
			continue
		}
		if err := s.endSubscription(sub, &Problem{Code: CodeForbidden, Detail: "the new token does not allow it"}); err != nil {
			return err
		}
	}
	return nil
}
