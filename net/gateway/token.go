package gateway

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"
	"unicode"
	"unicode/utf8"

	"aidanwoods.dev/go-paseto"

	"github.com/anabranch-db/anabranch/replica"
	"github.com/anabranch-db/anabranch/replica/keyfile"
	"github.com/anabranch-db/anabranch/replica/wholefile"
)

// The files of a store directory that Tokens keeps.
const (
	// TokenKeyFile holds the key that signs tokens, as package keyfile writes it.
	TokenKeyFile = "gateway.pem"
	// TokensFile lists the tokens that were issued. It holds none of them, only what they are good for.
	TokensFile = "gateway-tokens.json"
)

// Bounds of tokens.
const (
	// MaxTokens bounds the tokens that are not expired.
	MaxTokens = 10_000
	// MaxSubjectBytes bounds the subject of a token.
	MaxSubjectBytes = 255
	// maxVerified bounds the tokens whose signatures are remembered as good.
	maxVerified = 4096
)

// Errors of Tokens.
var (
	ErrTokenSpec    = errors.New("invalid token")
	ErrTokenUnknown = errors.New("there is no such token")
)

// TokensConfig says where tokens are kept.
type TokensConfig struct {
	// Dir is the store directory. Empty: in memory, with a key of its own.
	Dir string
	// Passphrase opens the key for signing; nil: none. Checking tokens takes the public half only.
	Passphrase keyfile.Passphrase
	// Now reads the clock. Nil: time.Now.
	Now func() time.Time
}

// TokenSpec says what a token is to be good for.
type TokenSpec struct {
	Subject string // who gets it, for people; at most MaxSubjectBytes of printable UTF-8
	Space   string // or AllSpaces
	Rights  replica.Rights
	Expires time.Time // zero: never
	// Temporary: it is kept in memory only, and is good until the process ends.
	Temporary bool
}

// TokenInfo describes a token that was issued.
type TokenInfo struct {
	ID      string    `json:"id"`
	Subject string    `json:"subject,omitempty"`
	Space   string    `json:"space"`
	Rights  string    `json:"rights"`
	Issued  time.Time `json:"issued"`
	Expires time.Time `json:"expires,omitzero"`
	Revoked time.Time `json:"revoked,omitzero"`
}

// Tokens issues the tokens of a node, checks and revokes them. A token is PASETO v4.public: it says what it is good for, signed with the
// node's key. Beside that it must be on the list of those that were issued. So losing the list, or going back to an older one, takes
// rights away and never gives any, except that a revocation made since is forgotten.
//
// Only one process may have the Tokens of a directory open: the one that holds the lock of the store. Methods may be called from several
// goroutines.
type Tokens struct {
	cfg TokensConfig

	mu       sync.Mutex
	private  ed25519.PrivateKey // nil until something is to be signed
	public   ed25519.PublicKey  // nil until there is a key
	issued   map[string]*issuedToken
	verified map[[sha256.Size]byte]Grant
}

type issuedToken struct {
	TokenInfo
	temporary bool
	revoked   chan struct{} // closed when it is revoked
}

// tokenList is the form of TokensFile.
type tokenList struct {
	Format int         `json:"format"`
	Tokens []TokenInfo `json:"tokens"`
}

const tokenListFormat = 1

// OpenTokens reads the tokens of a directory; nothing is made before the first is issued.
func OpenTokens(cfg TokensConfig) (*Tokens, error) {
	if cfg.Passphrase == nil {
		cfg.Passphrase = keyfile.None
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	t := &Tokens{cfg: cfg, issued: make(map[string]*issuedToken), verified: make(map[[sha256.Size]byte]Grant)}
	if cfg.Dir == "" {
		return t, nil
	}
	public, _, err := keyfile.Public(t.keyPath())
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return nil, fmt.Errorf("key of the gateway's tokens: %w", err)
	default:
		t.public = public
	}
	return t, t.load()
}

func (t *Tokens) keyPath() string  { return filepath.Join(t.cfg.Dir, TokenKeyFile) }
func (t *Tokens) listPath() string { return filepath.Join(t.cfg.Dir, TokensFile) }

func (t *Tokens) load() error {
	text, err := os.ReadFile(t.listPath())
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	var list tokenList
	if err == nil {
		err = json.Unmarshal(text, &list)
	}
	if err == nil && list.Format != tokenListFormat {
		err = fmt.Errorf("format %d is not known to this program, which knows %d", list.Format, tokenListFormat)
	}
	if err != nil {
		return fmt.Errorf("list of tokens %s: %w; without the file no token is valid any more", t.listPath(), err)
	}
	for _, info := range list.Tokens {
		tk := &issuedToken{TokenInfo: info, revoked: make(chan struct{})}
		if !info.Revoked.IsZero() {
			close(tk.revoked)
		}
		t.issued[info.ID] = tk
	}
	return nil
}

// Issue makes a token. It is on disk when Issue returns.
func (t *Tokens) Issue(spec TokenSpec) (token string, info TokenInfo, err error) {
	if err := spec.check(t.cfg.Now()); err != nil {
		return "", info, err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if err := t.openKey(); err != nil {
		return "", info, err
	}
	if err := t.makeRoom(); err != nil {
		return "", info, err
	}
	info = TokenInfo{
		ID: t.newID(), Subject: spec.Subject, Space: spec.Space, Rights: spec.Rights.String(),
		Issued: t.cfg.Now().UTC().Truncate(time.Second), Expires: spec.Expires.UTC().Truncate(time.Second),
	}
	if token, err = t.sign(info); err != nil {
		return "", TokenInfo{}, err
	}
	t.issued[info.ID] = &issuedToken{TokenInfo: info, temporary: spec.Temporary, revoked: make(chan struct{})}
	if spec.Temporary {
		return token, info, nil
	}
	if err := t.store(); err != nil {
		delete(t.issued, info.ID)
		return "", TokenInfo{}, err
	}
	return token, info, nil
}

func (s TokenSpec) check(now time.Time) error {
	switch {
	case s.Rights < replica.ReadRights || s.Rights > replica.AdminRights:
		return fmt.Errorf("%w: the rights must be read, write or admin", ErrTokenSpec)
	case len(s.Space) == 0 || len(s.Space) > replica.MaxSpaceNameBytes || !utf8.ValidString(s.Space):
		return fmt.Errorf("%w: the space must be %s, or a name of 1 to %d bytes", ErrTokenSpec, AllSpaces, replica.MaxSpaceNameBytes)
	case len(s.Subject) > MaxSubjectBytes || !utf8.ValidString(s.Subject) || strings.ContainsFunc(s.Subject, unicode.IsControl):
		return fmt.Errorf("%w: the subject must be at most %d bytes of printable text", ErrTokenSpec, MaxSubjectBytes)
	case !s.Expires.IsZero() && !s.Expires.After(now):
		return fmt.Errorf("%w: it would have expired already", ErrTokenSpec)
	}
	return nil
}

// openKey makes the key if there is none. It is called with mu held.
func (t *Tokens) openKey() error {
	if t.private != nil {
		return nil
	}
	key, err := t.loadKey()
	if errors.Is(err, fs.ErrNotExist) {
		key, err = t.makeKey()
	}
	if err != nil {
		return fmt.Errorf("key of the gateway's tokens: %w", err)
	}
	t.private, t.public = key, key.Public().(ed25519.PublicKey)
	return nil
}

func (t *Tokens) loadKey() (ed25519.PrivateKey, error) {
	if t.cfg.Dir == "" {
		return nil, fs.ErrNotExist
	}
	return keyfile.Load(t.keyPath(), t.cfg.Passphrase)
}

func (t *Tokens) makeKey() (ed25519.PrivateKey, error) {
	_, key, err := ed25519.GenerateKey(nil)
	if err != nil || t.cfg.Dir == "" {
		return key, err
	}
	word, err := t.cfg.Passphrase()
	if err != nil {
		return nil, err
	}
	return key, keyfile.Create(t.keyPath(), key, word)
}

func (t *Tokens) newID() string {
	for {
		var b [8]byte
		rand.Read(b[:]) // never fails
		id := hex.EncodeToString(b[:])
		if _, taken := t.issued[id]; !taken {
			return id
		}
	}
}

// The claims beside the registered ones.
const (
	claimSpace  = "space"
	claimRights = "rights"
)

func (t *Tokens) sign(info TokenInfo) (string, error) {
	key, err := paseto.NewV4AsymmetricSecretKeyFromEd25519(t.private)
	if err != nil {
		return "", fmt.Errorf("sign a token: %w", err)
	}
	tk := paseto.NewToken()
	tk.SetJti(info.ID)
	tk.SetSubject(info.Subject)
	tk.SetString(claimSpace, info.Space)
	tk.SetString(claimRights, info.Rights)
	tk.SetIssuedAt(info.Issued)
	if !info.Expires.IsZero() {
		tk.SetExpiration(info.Expires)
	}
	return tk.V4Sign(key, nil), nil
}

// makeRoom forgets expired tokens and, if that is not enough, those that were revoked first: what is not on the list is refused as
// well. It is called with mu held.
func (t *Tokens) makeRoom() error {
	now := t.cfg.Now()
	for id, tk := range t.issued {
		if tk.isExpired(now) {
			delete(t.issued, id)
		}
	}
	if len(t.issued) < MaxTokens {
		return nil
	}
	oldest := ""
	for id, tk := range t.issued {
		if !tk.Revoked.IsZero() && (oldest == "" || tk.Revoked.Before(t.issued[oldest].Revoked)) {
			oldest = id
		}
	}
	if oldest == "" {
		return fmt.Errorf("%w: there are %d, the most that can be: revoke some", ErrTokenSpec, MaxTokens)
	}
	delete(t.issued, oldest)
	return nil
}

func (i TokenInfo) isExpired(now time.Time) bool {
	return !i.Expires.IsZero() && !now.Before(i.Expires)
}

// store writes the list. It is called with mu held.
func (t *Tokens) store() error {
	if t.cfg.Dir == "" {
		return nil
	}
	list := tokenList{Format: tokenListFormat, Tokens: []TokenInfo{}}
	for _, tk := range t.sorted() {
		if !tk.temporary {
			list.Tokens = append(list.Tokens, tk.TokenInfo)
		}
	}
	text, err := json.MarshalIndent(list, "", "  ")
	if err == nil {
		err = wholefile.Replace(t.listPath(), append(text, '\n'))
	}
	if err != nil {
		return fmt.Errorf("list of tokens: %w", err)
	}
	return nil
}

func (t *Tokens) sorted() []*issuedToken {
	all := make([]*issuedToken, 0, len(t.issued))
	for _, tk := range t.issued {
		all = append(all, tk)
	}
	slices.SortFunc(all, func(a, b *issuedToken) int {
		if c := a.Issued.Compare(b.Issued); c != 0 {
			return c
		}
		return strings.Compare(a.ID, b.ID)
	})
	return all
}

// List returns the tokens that are not expired, in the order in which they were issued.
func (t *Tokens) List() []TokenInfo {
	t.mu.Lock()
	defer t.mu.Unlock()
	now := t.cfg.Now()
	var all []TokenInfo
	for _, tk := range t.sorted() {
		if !tk.isExpired(now) {
			all = append(all, tk.TokenInfo)
		}
	}
	return all
}

// Revoke makes a token void, for good. id may be the beginning of one, if there is only one. It holds, and is on disk, when Revoke returns:
// sessions that run with the token end.
func (t *Tokens) Revoke(id string) (TokenInfo, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	tk, err := t.find(id)
	if err != nil || !tk.Revoked.IsZero() {
		return TokenInfo{}, err
	}
	tk.Revoked = t.cfg.Now().UTC().Truncate(time.Second)
	if !tk.temporary {
		if err := t.store(); err != nil {
			tk.Revoked = time.Time{}
			return TokenInfo{}, err
		}
	}
	close(tk.revoked)
	return tk.TokenInfo, nil
}

// find is called with mu held.
func (t *Tokens) find(id string) (*issuedToken, error) {
	var found []*issuedToken
	for _, tk := range t.issued {
		if id != "" && strings.HasPrefix(tk.ID, strings.ToLower(id)) {
			found = append(found, tk)
		}
	}
	switch len(found) {
	case 0:
		return nil, fmt.Errorf("%w: %.40q", ErrTokenUnknown, id)
	case 1:
		return found[0], nil
	}
	return nil, fmt.Errorf("%w: the IDs of %d begin with %q: give more of it", ErrTokenUnknown, len(found), id)
}

func unauthenticated(code, detail string) *Problem {
	return &Problem{Status: http.StatusUnauthorized, Code: code, Detail: detail}
}

// Authenticate returns what a token is good for: the hook of Config. Its errors are *Problem.
func (t *Tokens) Authenticate(_ context.Context, token string) (Grant, error) {
	if len(token) > maxTokenBytes {
		return Grant{}, unauthenticated(CodeUnauthenticated, "that is too long for a token")
	}
	sum := sha256.Sum256([]byte(token))
	t.mu.Lock()
	defer t.mu.Unlock()
	gr, ok := t.verified[sum]
	if !ok {
		var err error
		if gr, err = t.verify(token); err != nil {
			return Grant{}, err
		}
		if len(t.verified) >= maxVerified {
			clear(t.verified)
		}
		t.verified[sum] = gr
	}
	tk := t.issued[gr.ID]
	switch {
	case !gr.Expires.IsZero() && !t.cfg.Now().Before(gr.Expires):
		return Grant{}, unauthenticated(CodeTokenExpired, "the token expired at "+gr.Expires.UTC().Format(time.RFC3339))
	case tk == nil:
		return Grant{}, unauthenticated(CodeUnauthenticated, "the token is not on this node's list")
	case !tk.Revoked.IsZero():
		return Grant{}, unauthenticated(CodeTokenRevoked, "the token was revoked at "+tk.Revoked.Format(time.RFC3339))
	}
	return gr, nil
}

// verify checks the signature and reads the claims. It is called with mu held; it takes a fraction of a millisecond.
func (t *Tokens) verify(token string) (Grant, error) {
	foreign := unauthenticated(CodeUnauthenticated, "the token is not one of this node")
	if t.public == nil {
		return Grant{}, foreign
	}
	key, err := paseto.NewV4AsymmetricPublicKeyFromEd25519(t.public)
	if err != nil {
		return Grant{}, fmt.Errorf("key of the gateway's tokens: %w", err)
	}
	tk, err := paseto.NewParserWithoutExpiryCheck().ParseV4Public(key, token, nil)
	if err != nil {
		return Grant{}, foreign
	}
	id, err1 := tk.GetJti()
	subject, err2 := tk.GetSubject()
	space, err3 := tk.GetString(claimSpace)
	text, err4 := tk.GetString(claimRights)
	rights, ok := ParseRights(text)
	if errors.Join(err1, err2, err3, err4) != nil || !ok {
		return Grant{}, foreign
	}
	gr := Grant{ID: id, Subject: subject, Space: space, Rights: rights}
	if _, expires := tk.Claims()["exp"]; expires {
		if gr.Expires, err = tk.GetExpiration(); err != nil {
			return Grant{}, foreign
		}
	}
	return gr, nil
}

// Revoked returns a channel that is closed once the token of that ID is not valid any more for another reason than its time: the hook of
// Config.
func (t *Tokens) Revoked(id string) <-chan struct{} {
	t.mu.Lock()
	defer t.mu.Unlock()
	if tk := t.issued[id]; tk != nil {
		return tk.revoked
	}
	gone := make(chan struct{})
	close(gone)
	return gone
}

// ParseRights reads "read", "write" or "admin".
func ParseRights(text string) (replica.Rights, bool) {
	for _, r := range []replica.Rights{replica.ReadRights, replica.WriteRights, replica.AdminRights} {
		if text == r.String() {
			return r, true
		}
	}
	return replica.NoRights, false
}
