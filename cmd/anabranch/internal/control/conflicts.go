package control

import (
	"context"
	"iter"
	"net/http"
	"net/url"
	"strconv"

	"github.com/anabranch-db/anabranch/cmd/anabranch/internal/node"
)

func (s *Server) conflicts(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	o := node.ConflictOptions{Prefix: q.Get("prefix"), After: q.Get("after"), Watch: q.Get("watch") == "true"}
	var err error
	if o.Limit, err = number(q, "limit"); err != nil {
		answer(w, nil, err)
		return
	}
	every := 0
	if o.Watch {
		every = 1
	}
	stream(w, s.node.Conflicts(r.Context(), q.Get("space"), o), every)
}

func (s *Server) settle(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	o := node.SettleOptions{Rule: q.Get("rule"), Prefix: q.Get("prefix"), After: q.Get("after")}
	stream(w, s.node.SettleAll(r.Context(), q.Get("space"), o), 1)
}

// Conflicts yields the documents that have conflicts.
func (c *Client) Conflicts(ctx context.Context, space string, o node.ConflictOptions) iter.Seq2[node.Conflicted, error] {
	q := url.Values{
		"space": {space}, "prefix": {o.Prefix}, "after": {o.After}, "limit": {strconv.Itoa(o.Limit)}, "watch": {strconv.FormatBool(o.Watch)},
	}
	return lines[node.Conflicted](ctx, c, http.MethodGet, "/v1/conflicts", q, nil)
}

// SettleAll settles the conflicts of all documents of a range.
func (c *Client) SettleAll(ctx context.Context, space string, o node.SettleOptions) iter.Seq2[node.Settled, error] {
	q := url.Values{"space": {space}, "rule": {o.Rule}, "prefix": {o.Prefix}, "after": {o.After}}
	return lines[node.Settled](ctx, c, http.MethodPost, "/v1/settle", q, nil)
}
