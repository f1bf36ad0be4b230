package control

import (
	"context"
	"net/http"
	"net/url"

	"github.com/anabranch-db/anabranch/cmd/anabranch/internal/node"
)

func (s *Server) tokenRoutes(mux *http.ServeMux) {
	mux.HandleFunc("POST /v1/tokens", func(w http.ResponseWriter, r *http.Request) {
		var req node.TokenRequest
		if err := decodeRequest(r.Body, &req); err != nil {
			answer(w, nil, err)
			return
		}
		t, err := s.node.CreateToken(r.Context(), req)
		answer(w, t, err)
	})
	mux.HandleFunc("GET /v1/tokens", func(w http.ResponseWriter, r *http.Request) {
		all, err := s.node.ListTokens(r.Context())
		answer(w, all, err)
	})
	mux.HandleFunc("DELETE /v1/tokens", func(w http.ResponseWriter, r *http.Request) {
		t, err := s.node.RevokeToken(r.Context(), r.URL.Query().Get("id"))
		answer(w, t, err)
	})
}

// CreateToken implements node.Tokens, as do the following.
func (c *Client) CreateToken(ctx context.Context, req node.TokenRequest) (t node.Token, err error) {
	err = c.call(ctx, http.MethodPost, "/v1/tokens", nil, req, &t)
	return t, err
}

// ListTokens lists the tokens.
func (c *Client) ListTokens(ctx context.Context) (all []node.Token, err error) {
	err = c.call(ctx, http.MethodGet, "/v1/tokens", nil, nil, &all)
	return all, err
}

// RevokeToken revokes one.
func (c *Client) RevokeToken(ctx context.Context, id string) (t node.Token, err error) {
	err = c.call(ctx, http.MethodDelete, "/v1/tokens", url.Values{"id": {id}}, nil, &t)
	return t, err
}
