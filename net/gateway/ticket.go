package gateway

import (
	"crypto/rand"
	"net/http"
	"sync"
	"time"

	"github.com/anabranch-db/anabranch/replica"
)

// A browser's EventSource cannot send a header, and a token in an address ends up in logs. So who has a token draws a ticket with it, which is
// good for one event stream.

const (
	// ticketLife is how long a ticket can be used.
	ticketLife = 30 * time.Second
	// maxTickets bounds the tickets that are out.
	maxTickets = 10_000
)

// tickets are those that were given and not used.
type tickets struct {
	mu  sync.Mutex
	all map[string]ticket
}

type ticket struct {
	grant   Grant
	space   string
	expires time.Time
}

func newTickets() *tickets { return &tickets{all: make(map[string]ticket)} }

func (t *tickets) give(tk ticket, now time.Time) (string, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.all) >= maxTickets {
		for text, old := range t.all {
			if !now.Before(old.expires) {
				delete(t.all, text)
			}
		}
	}
	if len(t.all) >= maxTickets {
		return "", &Problem{Status: http.StatusTooManyRequests, Code: CodeRateLimited, Detail: "too many tickets are out", RetryAfter: ticketLife}
	}
	text := rand.Text()
	t.all[text] = tk
	return text, nil
}

// redeem returns what a ticket for a space allows. It is good once.
func (t *tickets) redeem(text, space string, now time.Time) (Grant, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	tk, ok := t.all[text]
	delete(t.all, text)
	if !ok || !now.Before(tk.expires) || tk.space != space {
		return Grant{}, unauthenticated(CodeUnauthenticated, "the ticket is unknown, used, expired, or for another space: draw another")
	}
	return tk.grant, nil
}

// serveTicket gives a ticket for the events of a space.
func (g *Gateway) serveTicket(w http.ResponseWriter, r *http.Request, gr Grant) {
	space := r.PathValue("space")
	if _, err := g.space(gr, space, replica.ReadRights); err != nil {
		writeProblem(w, err)
		return
	}
	now := g.cfg.Now()
	text, err := g.tickets.give(ticket{gr, space, now.Add(ticketLife)}, now)
	if err != nil {
		writeProblem(w, err)
		return
	}
	writeText(w, http.StatusOK, append(appendString([]byte(`{"ticket":`), text), '}'))
}

// authenticateStream is authenticate for an event stream, which a ticket opens too.
func (g *Gateway) authenticateStream(r *http.Request) (Grant, error) {
	text := r.URL.Query().Get("ticket")
	if text == "" {
		return g.authenticate(r)
	}
	gr, err := g.tickets.redeem(text, r.PathValue("space"), g.cfg.Now())
	if err != nil {
		return gr, err
	}
	select {
	case <-g.cfg.Revoked(gr.ID):
		return Grant{}, errTokenRevoked
	default:
	}
	if !gr.Expires.IsZero() && !g.cfg.Now().Before(gr.Expires) {
		return Grant{}, errTokenExpired
	}
	return gr, nil
}
