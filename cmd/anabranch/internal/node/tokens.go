package node

import (
	"context"
	"fmt"
	"time"

	"github.com/anabranch-db/anabranch/net/gateway"
)

// Tokens is the part of a Node that says who may come in through the gateway.
type Tokens interface {
	// CreateToken makes a token.
	CreateToken(ctx context.Context, t TokenRequest) (Token, error)
	// ListTokens lists those that are not expired; their texts are known no more.
	ListTokens(ctx context.Context) ([]Token, error)
	// RevokeToken makes a token void; id may be the beginning of one. Sessions that run with it end.
	RevokeToken(ctx context.Context, id string) (Token, error)
}

// TokenRequest says what a token is to be good for.
type TokenRequest struct {
	Subject string        `json:"subject,omitempty"`
	Space   string        `json:"space"` // or "*"
	Rights  string        `json:"rights"`
	Within  time.Duration `json:"within_ns,omitempty"` // 0: for ever
}

// Token describes a token. With its text anybody can come in.
type Token struct {
	Text    string     `json:"token,omitempty"` // only when it is made
	ID      string     `json:"id"`
	Subject string     `json:"subject,omitempty"`
	Space   string     `json:"space"`
	Rights  string     `json:"rights"`
	Issued  time.Time  `json:"issued"`
	Expires *time.Time `json:"expires,omitempty"`
	Revoked *time.Time `json:"revoked,omitempty"`
}

func tokenOf(text string, i gateway.TokenInfo) Token {
	return Token{
		Text: text, ID: i.ID, Subject: i.Subject, Space: i.Space, Rights: i.Rights, Issued: i.Issued,
		Expires: timeOrNil(i.Expires), Revoked: timeOrNil(i.Revoked),
	}
}

// CreateToken implements Tokens, as do the following.
func (l *Local) CreateToken(_ context.Context, t TokenRequest) (Token, error) {
	tokens, err := l.tokens()
	if err != nil {
		return Token{}, err
	}
	r, ok := gateway.ParseRights(t.Rights)
	if !ok {
		return Token{}, fmt.Errorf("%w: rights %.20q: want read, write or admin", ErrRequest, t.Rights)
	}
	spec := gateway.TokenSpec{Subject: t.Subject, Space: t.Space, Rights: r}
	if t.Within != 0 {
		spec.Expires = time.Now().Add(t.Within)
	}
	text, info, err := tokens.Issue(spec)
	if err != nil {
		return Token{}, err
	}
	return tokenOf(text, info), nil
}

// ListTokens lists the tokens.
func (l *Local) ListTokens(context.Context) ([]Token, error) {
	tokens, err := l.tokens()
	if err != nil {
		return nil, err
	}
	all := []Token{}
	for _, i := range tokens.List() {
		all = append(all, tokenOf("", i))
	}
	return all, nil
}

// RevokeToken revokes one.
func (l *Local) RevokeToken(_ context.Context, id string) (Token, error) {
	tokens, err := l.tokens()
	if err != nil {
		return Token{}, err
	}
	info, err := tokens.Revoke(id)
	if err != nil {
		return Token{}, err
	}
	return tokenOf("", info), nil
}
