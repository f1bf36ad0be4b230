package gateway

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/anabranch-db/anabranch/replica"
)

// bearer returns the token of a request.
func bearer(r *http.Request) (string, bool) {
	scheme, token, ok := strings.Cut(r.Header.Get("Authorization"), " ")
	return strings.TrimSpace(token), ok && strings.EqualFold(scheme, "Bearer")
}

// authenticate returns what the caller of a request may do.
func (g *Gateway) authenticate(r *http.Request) (Grant, error) {
	token, ok := bearer(r)
	if !ok {
		return Grant{}, unauthenticated(CodeUnauthenticated, "send a token, as Authorization: Bearer v4.public.…; `anabranch token create` makes one")
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
		return Grant{}, p
	}
	g.cfg.Logger.Warn("a token could not be checked", "error", err)
	return Grant{}, unauthenticated(CodeUnauthenticated, "the token cannot be checked")
}

// granted is a handler that a token is needed for, of any rights: those in a space are for it to ask. One request of the token's rate is
// spent.
func (g *Gateway) granted(h func(http.ResponseWriter, *http.Request, Grant)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		gr, err := g.authenticate(r)
		if err == nil {
			err = g.spend(gr, 1)
		}
		if err != nil {
			writeProblem(w, err)
			return
		}
		h(w, r, gr)
	}
}

// Why the context of a grant has ended.
var (
	errTokenExpired = unauthenticated(CodeTokenExpired, "the token has expired")
	errTokenRevoked = unauthenticated(CodeTokenRevoked, "the token was revoked")
)

// whileGranted returns a context that ends with the grant, and with the gateway. Its cause says which.
func (g *Gateway) whileGranted(ctx context.Context, gr Grant) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancelCause(ctx)
	closing := context.AfterFunc(g.ctx, func() { cancel(context.Cause(g.ctx)) })
	ended := make(chan struct{})
	go func() {
		var expiry <-chan time.Time
		if !gr.Expires.IsZero() {
			timer := time.NewTimer(gr.Expires.Sub(g.cfg.Now()))
			defer timer.Stop()
			expiry = timer.C
		}
		select {
		case <-expiry:
			cancel(errTokenExpired)
		case <-g.cfg.Revoked(gr.ID):
			cancel(errTokenRevoked)
		case <-ctx.Done():
		}
		close(ended)
	}()
	return ctx, func() {
		closing()
		cancel(context.Canceled)
		<-ended
	}
}

// space returns a space that the grant gives the rights in. A space that is not here is made for who has a token for just that one, or is
// an admin, and means to write or to follow it; others are told that it is not there. To those who have no rights in it a space that is not
// here looks like one that they may not see.
func (g *Gateway) space(gr Grant, name string, need replica.Rights) (*replica.Space, error) {
	known, isKnown := g.cfg.Replica.Lookup(name)
	called := name
	if isKnown {
		called = known.Name() // name may be its ID
	}
	switch {
	case !gr.May(called, need) && !gr.May(name, need):
		return nil, &Problem{Status: http.StatusForbidden, Code: CodeForbidden, Detail: fmt.Sprintf("this token does not give the right to %s in the space %.80q", need, name)}
	case isKnown:
		return known, nil
	case gr.Space == AllSpaces && gr.Rights < replica.AdminRights || gr.Rights < replica.WriteRights:
		return nil, &Problem{Status: http.StatusNotFound, Code: CodeNotFound, Detail: fmt.Sprintf("there is no space %.80q here", name)}
	}
	return g.cfg.Replica.Space(name)
}

// readable is space for reading what is here: it makes none.
func (g *Gateway) readable(gr Grant, name string) (*replica.Space, error) {
	if _, isKnown := g.cfg.Replica.Lookup(name); !isKnown && gr.May(name, replica.ReadRights) {
		return nil, &Problem{Status: http.StatusNotFound, Code: CodeNotFound, Detail: fmt.Sprintf("there is no space %.80q here", name)}
	}
	return g.space(gr, name, replica.ReadRights)
}

// visible returns the spaces that a grant may read.
func (g *Gateway) visible(gr Grant) []*replica.Space {
	var all []*replica.Space
	for _, name := range g.cfg.Replica.Spaces() {
		if !gr.May(name, replica.ReadRights) {
			continue
		}
		if s, ok := g.cfg.Replica.Lookup(name); ok { // else it was removed meanwhile
			all = append(all, s)
		}
	}
	return all
}
