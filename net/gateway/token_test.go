package gateway

import (
	"context"
	"encoding/base64"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"aidanwoods.dev/go-paseto"

	"github.com/anabranch-db/anabranch/replica"
)

// clock is a time that tests set.
type clock struct{ t time.Time }

func (c *clock) now() time.Time { return c.t }

func newClock() *clock { return &clock{time.Date(2026, 11, 26, 12, 0, 0, 0, time.UTC)} }

func openTokens(t *testing.T, dir string, c *clock) *Tokens {
	t.Helper()
	tokens, err := OpenTokens(TokensConfig{Dir: dir, Now: c.now})
	if err != nil {
		t.Fatal(err)
	}
	return tokens
}

func issue(t *testing.T, tokens *Tokens, spec TokenSpec) (string, TokenInfo) {
	t.Helper()
	text, info, err := tokens.Issue(spec)
	if err != nil {
		t.Fatal(err)
	}
	return text, info
}

// wantCode fails unless the error is a problem of that code.
func wantCode(t *testing.T, err error, code string) {
	t.Helper()
	if p := (*Problem)(nil); !errors.As(err, &p) || p.Code != code {
		t.Errorf("%v, want a problem %s", err, code)
	}
}

func TestTokensAreGoodUntilTheyExpireOrAreRevoked(t *testing.T) {
	dir, c, ctx := t.TempDir(), newClock(), context.Background()
	tokens := openTokens(t, dir, c)
	text, info := issue(t, tokens, TokenSpec{Subject: "ada", Space: "notes", Rights: replica.WriteRights, Expires: c.t.Add(time.Hour)})
	forever, eternal := issue(t, tokens, TokenSpec{Space: AllSpaces, Rights: replica.AdminRights})
	for range 2 { // the second time from what is remembered
		gr, err := tokens.Authenticate(ctx, text)
		want := Grant{ID: info.ID, Subject: "ada", Space: "notes", Rights: replica.WriteRights, Expires: c.t.Add(time.Hour)}
		if err != nil || !gr.Expires.Equal(want.Expires) {
			t.Fatalf("%+v, %v", gr, err)
		}
		gr.Expires = want.Expires
		if gr != want {
			t.Errorf("%+v, want %+v", gr, want)
		}
	}
	again := openTokens(t, dir, c) // after a restart
	if gr, err := again.Authenticate(ctx, forever); err != nil || gr.Space != AllSpaces || !gr.Expires.IsZero() {
		t.Errorf("%+v, %v", gr, err)
	}
	if n := len(again.List()); n != 2 {
		t.Errorf("%d tokens are listed, want 2", n)
	}
	gone := again.Revoked(eternal.ID)
	select {
	case <-gone:
		t.Fatal("revoked before it was")
	default:
	}
	if _, err := again.Revoke(eternal.ID[:5]); err != nil {
		t.Fatal(err)
	}
	select {
	case <-gone:
	default:
		t.Error("running sessions are not told")
	}
	for _, tokens := range []*Tokens{again, openTokens(t, dir, c)} {
		_, err := tokens.Authenticate(ctx, forever)
		wantCode(t, err, CodeTokenRevoked)
		select {
		case <-tokens.Revoked(eternal.ID):
		default:
			t.Error("the revocation is not told")
		}
	}
	c.t = c.t.Add(time.Hour)
	_, err := again.Authenticate(ctx, text)
	wantCode(t, err, CodeTokenExpired)
	if n := len(again.List()); n != 1 {
		t.Errorf("%d tokens are listed, want 1", n)
	}
}

func TestFilesOfTokensAreForTheOwnerOnlyAndHoldNoToken(t *testing.T) {
	dir, c := t.TempDir(), newClock()
	text, _ := issue(t, openTokens(t, dir, c), TokenSpec{Space: "a", Rights: replica.ReadRights})
	for _, name := range []string{TokenKeyFile, TokensFile} {
		path := filepath.Join(dir, name)
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		content, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if info.Mode().Perm() != 0o600 || strings.Contains(string(content), text[:40]) {
			t.Errorf("%s: mode %o, %s", name, info.Mode().Perm(), content)
		}
	}
	left, err := filepath.Glob(filepath.Join(dir, "*.tmp"))
	if err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

func TestForgedTokensAreRefused(t *testing.T) {
	c, ctx := newClock(), context.Background()
	tokens := openTokens(t, t.TempDir(), c)
	none, err := openTokens(t, t.TempDir(), c).Authenticate(ctx, "v4.public.AAAA")
	if none != (Grant{}) {
		t.Errorf("%+v", none)
	}
	wantCode(t, err, CodeUnauthenticated)
	text, info := issue(t, tokens, TokenSpec{Space: "a", Rights: replica.ReadRights, Expires: c.t.Add(time.Hour)})

	foreign := openTokens(t, t.TempDir(), c)
	stranger, _ := issue(t, foreign, TokenSpec{Space: "a", Rights: replica.AdminRights})
	unlisted, err := tokens.sign(TokenInfo{ID: "0011223344556677", Space: "a", Rights: "admin"})
	if err != nil {
		t.Fatal(err)
	}
	raised, err := tokens.sign(TokenInfo{ID: info.ID, Space: "a", Rights: "root"})
	if err != nil {
		t.Fatal(err)
	}
	body, _ := strings.CutPrefix(text, "v4.public.")
	bytes, err := base64.RawURLEncoding.DecodeString(body)
	if err != nil {
		t.Fatal(err)
	}
	bytes[3] ^= 1
	key := paseto.NewV4SymmetricKey()
	local := paseto.NewToken()
	for name, token := range map[string]string{
		"none": "", "of another node": stranger, "not on the list": unlisted, "altered": "v4.public." + base64.RawURLEncoding.EncodeToString(bytes),
		"unknown rights": raised, "cut off": text[:len(text)-4], "another purpose": local.V4Encrypt(key, nil), "another version": strings.Replace(text, "v4", "v3", 1),
		"a JWT": "eyJhbGciOiJub25lIn0.eyJzdWIiOiJhIn0.", "huge": strings.Repeat("a", 1<<20), "with a footer": text + ".YQ", "no text": "\xff\x00",
	} {
		if gr, err := tokens.Authenticate(ctx, token); err == nil {
			t.Errorf("%s: taken as %+v", name, gr)
		} else {
			wantCode(t, err, CodeUnauthenticated)
		}
	}
	if _, err := tokens.Authenticate(ctx, text); err != nil {
		t.Errorf("the good one: %v", err)
	}
}

func TestTokensThatCannotBeAreNotIssued(t *testing.T) {
	c := newClock()
	tokens := openTokens(t, "", c)
	for name, spec := range map[string]TokenSpec{
		"no rights": {Space: "a"}, "no space": {Rights: replica.ReadRights}, "long space": {Space: strings.Repeat("s", 256), Rights: replica.ReadRights},
		"long subject": {Subject: strings.Repeat("s", 256), Space: "a", Rights: replica.ReadRights}, "a line break": {Subject: "a\nb", Space: "a", Rights: replica.ReadRights},
		"expired": {Space: "a", Rights: replica.ReadRights, Expires: c.t}, "too many rights": {Space: "a", Rights: replica.AdminRights + 1},
	} {
		if _, _, err := tokens.Issue(spec); !errors.Is(err, ErrTokenSpec) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := tokens.Revoke(""); !errors.Is(err, ErrTokenUnknown) {
		t.Error(err)
	}
}

func TestTemporaryTokensAreNotStored(t *testing.T) {
	dir, c, ctx := t.TempDir(), newClock(), context.Background()
	tokens := openTokens(t, dir, c)
	text, info := issue(t, tokens, TokenSpec{Space: AllSpaces, Rights: replica.AdminRights, Temporary: true})
	issue(t, tokens, TokenSpec{Space: "a", Rights: replica.ReadRights})
	if _, err := tokens.Authenticate(ctx, text); err != nil {
		t.Error(err)
	}
	_, err := openTokens(t, dir, c).Authenticate(ctx, text)
	wantCode(t, err, CodeUnauthenticated)
	if _, err := tokens.Revoke(info.ID); err != nil {
		t.Error(err)
	}
	_, err = tokens.Authenticate(ctx, text)
	wantCode(t, err, CodeTokenRevoked)
}

func TestExpiredTokensMakeRoomAndRevokedOnesToo(t *testing.T) {
	c := newClock()
	tokens := openTokens(t, "", c)
	for range MaxTokens - 1 {
		tokens.issued[tokens.newID()] = &issuedToken{TokenInfo: TokenInfo{Issued: c.t}, revoked: make(chan struct{})}
	}
	_, last := issue(t, tokens, TokenSpec{Space: "a", Rights: replica.ReadRights})
	if _, _, err := tokens.Issue(TokenSpec{Space: "a", Rights: replica.ReadRights}); !errors.Is(err, ErrTokenSpec) {
		t.Errorf("one too many: %v", err)
	}
	if _, err := tokens.Revoke(last.ID); err != nil {
		t.Fatal(err)
	}
	issue(t, tokens, TokenSpec{Space: "a", Rights: replica.ReadRights, Expires: c.t.Add(time.Second)})
	c.t = c.t.Add(time.Second)
	issue(t, tokens, TokenSpec{Space: "a", Rights: replica.ReadRights})
	if n := len(tokens.issued); n != MaxTokens {
		t.Errorf("%d tokens, want %d", n, MaxTokens)
	}
}

func TestDamagedListOfTokensIsNotTakenForAnEmptyOne(t *testing.T) {
	dir, c := t.TempDir(), newClock()
	for _, text := range []string{"", "{", `{"format":2,"tokens":[]}`} {
		if err := os.WriteFile(filepath.Join(dir, TokensFile), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := OpenTokens(TokensConfig{Dir: dir, Now: c.now}); err == nil || !strings.Contains(err.Error(), TokensFile) {
			t.Errorf("%q: %v", text, err)
		}
	}
}
