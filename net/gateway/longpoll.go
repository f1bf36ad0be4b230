package gateway

import (
	"context"
	"net/http"
	"strconv"
	"time"
)

const (
	defaultPollWait = 25 * time.Second
	maxPollWait     = time.Minute
)

// serveChanges answers what there is after a cursor, and waits a while if that is nothing.
func (g *Gateway) serveChanges(w http.ResponseWriter, r *http.Request, gr Grant) error {
	q, wait, limit, err := g.parsePoll(r, gr)
	if err != nil {
		return err
	}
	release, err := g.admit(gr)
	if err != nil {
		return err
	}
	defer release()
	g.begin(w, r, wait)
	keepReading(w)
	ctx, cancel := g.whileGranted(r.Context(), gr)
	defer cancel()
	wakener := newWakener()
	sub, err := g.subscribe(q.space, q.filter, q.since, q.vector, wakener.wake)
	if err != nil {
		return err
	}
	defer sub.close()
	defer g.meter.connected("longpoll")()
	p := poll{g: g, sub: sub, wakener: wakener, limit: limit, follow: q}
	if err := p.wait(ctx, wait); err != nil {
		return err
	}
	p.answer(w, wait)
	return nil
}

func (g *Gateway) parsePoll(r *http.Request, gr Grant) (q follow, wait time.Duration, limit int, err error) {
	wait, limit = defaultPollWait, maxBatchItems
	if q, err = g.parseFollow(r, gr); err != nil {
		return q, 0, 0, err
	}
	v := r.URL.Query()
	if v.Has("wait") {
		if n, nerr := strconv.Atoi(v.Get("wait")); nerr == nil {
			wait = time.Duration(n) * time.Second
		} else {
			wait, err = time.ParseDuration(v.Get("wait"))
		}
	}
	if err != nil || wait < 0 || wait > maxPollWait {
		return q, 0, 0, badMessage("wait must be seconds, or a duration as 25s, of at most %s", maxPollWait)
	}
	if v.Has("limit") {
		limit, err = strconv.Atoi(v.Get("limit"))
	}
	if err != nil || limit < 1 {
		return q, 0, 0, badMessage("limit must be a positive number")
	}
	return q, wait, min(limit, maxBatchItems), nil
}

// poll is one request that waits for changes.
type poll struct {
	g   *Gateway
	sub *subscription
	wakener
	limit int
	follow

	batch batch
	held  []heldNews
	news  bool // there is something to tell
}

// wait waits until there is something to answer, or for so long.
func (p *poll) wait(ctx context.Context, most time.Duration) error {
	patience := most
	if most == 0 { // at once, but not before all is told that is here
		patience = defaultPollWait
	}
	timer := time.NewTimer(patience)
	defer timer.Stop()
	news, stop := p.follower.start(ctx, p.g)
	defer stop()
	for {
		b, err := p.sub.next(ctx, p.limit)
		if err != nil {
			return p.g.whyEnded(ctx, err)
		}
		p.batch = b
		// That it is level is no news to one who waits; that its cursor has moved, or that it begins anew, is.
		p.news = len(b.items) > 0 || b.reset != "" || b.level && b.cursor != p.since
		if p.news || most == 0 && p.sub.level {
			return nil
		}
		select {
		case n := <-news:
			p.held, p.news = append(p.held, n), true
			return nil
		case <-p.wakener:
		case <-timer.C:
			return nil
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// vectorNow returns the portable cursor, if it is asked for and there is one.
func (p *poll) vectorNow() string {
	if !p.checkpoints || !p.sub.level {
		return ""
	}
	p.sub.h.mu.Lock()
	defer p.sub.h.mu.Unlock()
	return p.sub.portable()
}

func (p *poll) answer(w http.ResponseWriter, most time.Duration) {
	h := w.Header()
	b := &p.batch
	h.Set(cursorHeader, b.cursor.String())
	if most > 0 && !p.news {
		w.WriteHeader(http.StatusNoContent)
		return
	}
	buf := takeBuffer()
	defer buf.free()
	text := appendChanges(append(buf.text, '{'), b)
	text = strconv.AppendBool(append(text, `,"level":`...), p.sub.level)
	if vector := p.vectorNow(); vector != "" {
		text = append(append(append(text, `,"vector":"`...), vector...), '"')
	}
	if b.reset != "" {
		text = appendString(append(text, `,"reset":true,"reason":`...), b.reset)
	}
	for i, n := range p.held {
		text = append(text, [2]string{`,"replicated":[{`, `,{`}[min(i, 1)]...)
		text = append(appendReplicated(text, p.space.Name(), p.key.client, n.seq, n.nodes), '}')
	}
	if len(p.held) > 0 {
		text = append(text, ']')
	}
	text = append(text, '}')
	buf.text = text
	writeText(w, http.StatusOK, text)
	p.g.meter.items("longpoll", len(b.items))
}
