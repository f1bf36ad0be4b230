package gateway

import (
	"errors"
	"net/http"
	"strings"
)

// authenticate returns what the caller of a request may do.
func (g *Gateway) authenticate(r *http.Request) (Grant, error) {
	token, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	if !ok {
		return Grant{}, &Problem{Status: http.StatusUnauthorized, Code: CodeUnauthenticated, Detail: "the header Authorization must hold a bearer token"}
	}
	return g.check(r, token)
}

// check returns what a token allows.
func (g *Gateway) check(r *http.Request, token string) (Grant, error) {
	gr, err := g.cfg.Authenticate(r.Context(), token)
	if err == nil {
		return gr, nil
	}
	if p := (*Problem)(nil); errors.As(err, &p) {
		return gr, p
	}
	return gr, &Problem{Status: http.StatusUnauthorized, Code: CodeUnauthenticated, Detail: err.Error()}
}
