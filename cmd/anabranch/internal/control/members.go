package control

import (
	"context"
	"net/http"
	"net/url"

	"github.com/anabranch-db/anabranch/cmd/anabranch/internal/node"
)

func (s *Server) evict(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	m, err := s.node.Evict(r.Context(), q.Get("space"), q.Get("peer"))
	answer(w, m, err)
}

// Evict lets a member no longer hold pruning back.
func (c *Client) Evict(ctx context.Context, space, peer string) (m node.Member, err error) {
	err = c.call(ctx, http.MethodPost, "/v1/evict", url.Values{"space": {space}, "peer": {peer}}, nil, &m)
	return m, err
}
