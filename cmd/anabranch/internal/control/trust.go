package control

import (
	"context"
	"net/http"
	"net/url"

	"github.com/anabranch-db/anabranch/cmd/anabranch/internal/node"
)

// joinRequest has the ticket, which is secret, in the body: no log of requests has it.
type joinRequest struct {
	Ticket string `json:"ticket"`
	Name   string `json:"name,omitempty"`
}

type nothing struct{}

func (s *Server) trustRoutes(mux *http.ServeMux) {
	mux.HandleFunc("GET /v1/spaces", func(w http.ResponseWriter, r *http.Request) {
		all, err := s.node.Spaces(r.Context())
		answer(w, all, err)
	})
	mux.HandleFunc("POST /v1/spaces", func(w http.ResponseWriter, r *http.Request) {
		space, err := s.node.CreateSpace(r.Context(), r.URL.Query().Get("space"))
		answer(w, space, err)
	})
	mux.HandleFunc("POST /v1/spaces/recovered", func(w http.ResponseWriter, r *http.Request) {
		var q node.Recovery
		if err := decodeRequest(r.Body, &q); err != nil {
			answer(w, nil, err)
			return
		}
		space, err := s.node.RecoverSpace(r.Context(), q)
		answer(w, space, err)
	})
	mux.HandleFunc("DELETE /v1/spaces", func(w http.ResponseWriter, r *http.Request) {
		answer(w, nothing{}, s.node.RemoveSpace(r.Context(), r.URL.Query().Get("space")))
	})
	mux.HandleFunc("POST /v1/tickets", s.invite)
	mux.HandleFunc("GET /v1/tickets", func(w http.ResponseWriter, r *http.Request) {
		all, err := s.node.Tickets(r.Context(), r.URL.Query().Get("space"))
		answer(w, all, err)
	})
	mux.HandleFunc("DELETE /v1/tickets", func(w http.ResponseWriter, r *http.Request) {
		answer(w, nothing{}, s.node.Withdraw(r.Context(), r.URL.Query().Get("space"), r.URL.Query().Get("id")))
	})
	mux.HandleFunc("POST /v1/join", s.join)
	mux.HandleFunc("GET /v1/members", func(w http.ResponseWriter, r *http.Request) {
		all, err := s.node.Permissions(r.Context(), r.URL.Query().Get("space"))
		answer(w, all, err)
	})
	mux.HandleFunc("DELETE /v1/members", func(w http.ResponseWriter, r *http.Request) {
		m, err := s.node.Revoke(r.Context(), r.URL.Query().Get("space"), r.URL.Query().Get("peer"))
		answer(w, m, err)
	})
}

func (s *Server) invite(w http.ResponseWriter, r *http.Request) {
	var req node.Invitation
	if err := decodeRequest(r.Body, &req); err != nil {
		answer(w, nil, err)
		return
	}
	t, err := s.node.Invite(r.Context(), r.URL.Query().Get("space"), req)
	answer(w, t, err)
}

func (s *Server) join(w http.ResponseWriter, r *http.Request) {
	var req joinRequest
	if err := decodeRequest(r.Body, &req); err != nil {
		answer(w, nil, err)
		return
	}
	space, err := s.node.Join(r.Context(), req.Ticket, req.Name)
	answer(w, space, err)
}

// CreateSpace implements node.Trust, as do the following.
func (c *Client) CreateSpace(ctx context.Context, name string) (s node.Space, err error) {
	return s, c.call(ctx, http.MethodPost, "/v1/spaces", url.Values{"space": {name}}, nil, &s)
}

// RecoverSpace makes the node an admin of a space by its key.
func (c *Client) RecoverSpace(ctx context.Context, q node.Recovery) (s node.Space, err error) {
	err = c.call(ctx, http.MethodPost, "/v1/spaces/recovered", nil, q, &s)
	return s, err
}

// Spaces lists the spaces.
func (c *Client) Spaces(ctx context.Context) (all []node.Space, err error) {
	err = c.call(ctx, http.MethodGet, "/v1/spaces", nil, nil, &all)
	return all, err
}

// RemoveSpace removes a space.
func (c *Client) RemoveSpace(ctx context.Context, name string) error {
	return c.call(ctx, http.MethodDelete, "/v1/spaces", url.Values{"space": {name}}, nil, &nothing{})
}

// Invite makes a ticket.
func (c *Client) Invite(ctx context.Context, space string, inv node.Invitation) (t node.Ticket, err error) {
	err = c.call(ctx, http.MethodPost, "/v1/tickets", url.Values{"space": {space}}, inv, &t)
	return t, err
}

// Tickets lists the tickets that can be used.
func (c *Client) Tickets(ctx context.Context, space string) (all []node.Ticket, err error) {
	err = c.call(ctx, http.MethodGet, "/v1/tickets", url.Values{"space": {space}}, nil, &all)
	return all, err
}

// Withdraw takes a ticket back.
func (c *Client) Withdraw(ctx context.Context, space, ticket string) error {
	return c.call(ctx, http.MethodDelete, "/v1/tickets", url.Values{"space": {space}, "id": {ticket}}, nil, &nothing{})
}

// Join joins a space.
func (c *Client) Join(ctx context.Context, ticket, name string) (s node.Space, err error) {
	err = c.call(ctx, http.MethodPost, "/v1/join", nil, joinRequest{ticket, name}, &s)
	return s, err
}

// Permissions lists who may do what.
func (c *Client) Permissions(ctx context.Context, space string) (all []node.Permission, err error) {
	err = c.call(ctx, http.MethodGet, "/v1/members", url.Values{"space": {space}}, nil, &all)
	return all, err
}

// Revoke takes a node's rights.
func (c *Client) Revoke(ctx context.Context, space, peer string) (m node.Permission, err error) {
	err = c.call(ctx, http.MethodDelete, "/v1/members", url.Values{"space": {space}, "peer": {peer}}, nil, &m)
	return m, err
}
