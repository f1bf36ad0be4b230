package gateway

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/anabranch-db/anabranch/replica"
)

// accessGateway is a gateway of a store in memory, with tokens of its own.
func accessGateway(t *testing.T, change func(*Config)) (*Gateway, *Tokens) {
	t.Helper()
	r, err := replica.Open(replica.Config{})
	if err != nil {
		t.Fatal(err)
	}
	tokens, err := OpenTokens(TokensConfig{})
	if err != nil {
		t.Fatal(err)
	}
	c := Config{Replica: r, Authenticate: tokens.Authenticate, Revoked: tokens.Revoked}
	if change != nil {
		change(&c)
	}
	g, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := g.Close(); err != nil {
			t.Error(err)
		}
		if err := c.Replica.Close(); err != nil {
			t.Error(err)
		}
	})
	return g, tokens
}

// send has the handler answer a request with these headers; "Host" is one of them.
func send(h http.Handler, method, target string, headers map[string]string, body string) *httptest.ResponseRecorder {
	r := httptest.NewRequestWithContext(context.Background(), method, target, strings.NewReader(body))
	r.Host = "localhost:7422"
	for name, value := range headers {
		if name == "Host" {
			r.Host = value
		} else {
			r.Header.Set(name, value)
		}
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

// wantProblem fails unless the answer is a problem of that status and code.
func wantProblem(t *testing.T, w *httptest.ResponseRecorder, status int, code string) {
	t.Helper()
	var p problemBody
	err := json.Unmarshal(w.Body.Bytes(), &p)
	if err != nil || w.Code != status || p.Status != status || p.Code != code || p.Title == "" || p.Detail == "" || w.Header().Get("Content-Type") != "application/problem+json" {
		t.Errorf("%d %v %s, want %d %s", w.Code, w.Header(), w.Body, status, code)
	}
}

// ok answers everything.
func ok(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusOK) }

// A page whose name was made to point here is of the same origin as what is here: only the Host gives it away.
func TestRebindingIsRefusedByHost(t *testing.T) {
	g, _ := accessGateway(t, func(c *Config) { c.Hosts = []string{"Notes.example.org"} })
	h := g.guard(http.HandlerFunc(ok))
	for host, want := range map[string]int{
		"localhost:7422": 200, "LocalHost.": 200, "127.0.0.1:7422": 200, "[::1]:7422": 200, "::1": 200, "192.0.2.7": 200, "notes.example.org": 200, "NOTES.example.org.:443": 200,
		"evil.example": 421, "notes.example.org.evil.example": 421, "localhost.evil.example:7422": 421, "127.0.0.1.evil.example": 421, "": 421, "evil.example:80@localhost": 421,
	} {
		for name, headers := range map[string]map[string]string{
			"plain":        {"Host": host},
			"a web socket": {"Host": host, "Origin": "http://" + host, "Connection": "Upgrade", "Upgrade": "websocket", "Sec-Fetch-Site": "same-origin"},
		} {
			w := send(h, "GET", "/v1/ws", headers, "")
			if w.Code != want && name == "plain" || want == 421 && w.Code != 421 {
				t.Errorf("%s of host %q: %d, want %d", name, host, w.Code, want)
			}
			if w.Code == 421 {
				wantProblem(t, w, 421, CodeHost)
			}
		}
	}
}

func TestPagesOfOtherOriginsAreRefused(t *testing.T) {
	g, _ := accessGateway(t, func(c *Config) { c.Origins = []string{"https://App.example.org:443", "http://localhost:5173"} })
	h := g.guard(http.HandlerFunc(ok))
	const site, mode = "Sec-Fetch-Site", "Sec-Fetch-Mode"
	tests := []struct {
		name    string
		method  string
		headers map[string]string
		status  int
		cors    string
	}{
		{"no browser", "PUT", nil, 200, ""},
		{"the page itself", "PUT", map[string]string{"Origin": "http://localhost:7422", site: "same-origin"}, 200, ""},
		{"the page behind a proxy", "PUT", map[string]string{"Origin": "https://localhost:7422"}, 200, ""},
		{"a listed origin", "PUT", map[string]string{"Origin": "https://app.example.org", site: "cross-site"}, 200, "https://app.example.org"},
		{"a listed origin reads", "GET", map[string]string{"Origin": "http://localhost:5173", site: "same-site"}, 200, "http://localhost:5173"},
		{"a listed name of another scheme", "GET", map[string]string{"Origin": "http://app.example.org"}, 403, ""},
		{"a listed name of another port", "GET", map[string]string{"Origin": "https://app.example.org:8443"}, 403, ""},
		{"another port of this machine", "GET", map[string]string{"Origin": "http://localhost:3000", site: "same-site"}, 403, ""},
		{"another site writes", "POST", map[string]string{"Origin": "https://evil.example", site: "cross-site"}, 403, ""},
		{"another site reads", "GET", map[string]string{"Origin": "https://evil.example", site: "cross-site"}, 403, ""},
		{"another site's web socket", "GET", map[string]string{"Origin": "https://evil.example", "Connection": "Upgrade", "Upgrade": "websocket"}, 403, ""},
		{"a sandboxed frame", "GET", map[string]string{"Origin": "null"}, 403, ""},
		{"a file", "GET", map[string]string{"Origin": "file://"}, 403, ""},
		{"an image elsewhere", "GET", map[string]string{site: "cross-site", mode: "no-cors"}, 403, ""},
		{"a form elsewhere", "POST", map[string]string{site: "cross-site", mode: "navigate"}, 403, ""},
		{"a link elsewhere", "GET", map[string]string{site: "cross-site", mode: "navigate"}, 200, ""},
		{"an origin that is none", "GET", map[string]string{"Origin": "http://localhost:7422/x"}, 403, ""},
	}
	for _, tt := range tests {
		w := send(h, tt.method, "/v1/ws", tt.headers, "")
		if w.Code != tt.status || w.Header().Get("Access-Control-Allow-Origin") != tt.cors || w.Header().Get("Access-Control-Allow-Credentials") != "" || w.Header().Get("Vary") != "Origin" {
			t.Errorf("%s: %d %v, want %d %s", tt.name, w.Code, w.Header(), tt.status, tt.cors)
		}
		if tt.status == 403 {
			wantProblem(t, w, 403, CodeOrigin)
		}
	}
}

func TestPreflightsAreAnsweredForListedOriginsOnly(t *testing.T) {
	g, _ := accessGateway(t, func(c *Config) { c.Origins = []string{"https://app.example.org"} })
	ask := func(origin string) *httptest.ResponseRecorder {
		return send(g, "OPTIONS", "/v1/spaces/notes/docs/a", map[string]string{
			"Origin": origin, "Access-Control-Request-Method": "PUT", "Access-Control-Request-Headers": "authorization", "Access-Control-Request-Private-Network": "true",
		}, "")
	}
	h := ask("https://app.example.org")
	if h.Code != 204 || !strings.Contains(h.Header().Get("Access-Control-Allow-Methods"), "PUT") || !strings.Contains(h.Header().Get("Access-Control-Allow-Headers"), "Authorization") ||
		h.Header().Get("Access-Control-Allow-Private-Network") != "true" {
		t.Errorf("%d %v", h.Code, h.Header())
	}
	if h := ask("https://evil.example"); h.Code != 403 || h.Header().Get("Access-Control-Allow-Methods") != "" {
		t.Errorf("another origin: %d %v", h.Code, h.Header())
	}
}

// Over TLS a page of the same name that came without it is another one: somebody in between may have written it.
func TestPageWithoutTLSIsAnotherOrigin(t *testing.T) {
	r := httptest.NewRequestWithContext(context.Background(), "GET", "/", nil)
	r.Host, r.TLS = "notes.example.org", &tls.ConnectionState{}
	if isOwn("http://notes.example.org", r) || !isOwn("https://notes.example.org", r) {
		t.Error("the scheme does not count")
	}
}

func TestBadHostsAndOriginsAreNotListed(t *testing.T) {
	for _, o := range []string{"", "*", "null", "app.example.org", "https://", "https://a/b", "https://a?b", "https://u@a", "https://a#f", "://a"} {
		if err := CheckOrigin(o); err == nil {
			t.Errorf("origin %q is taken", o)
		}
	}
	for _, h := range []string{"", "a:1", "http://a", "*.a", "a b", strings.Repeat("a", 254)} {
		if err := CheckHost(h); err == nil {
			t.Errorf("host %q is taken", h)
		}
	}
	for _, c := range []Config{{Hosts: []string{"a/b"}}, {Origins: []string{"null"}}} {
		r, err := replica.Open(replica.Config{})
		if err != nil {
			t.Fatal(err)
		}
		c.Replica = r
		if _, err := New(c); err == nil {
			t.Errorf("%+v is taken", c)
		}
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	}
}

// quiet logs into a buffer.
func quiet(b *bytes.Buffer) *slog.Logger { return slog.New(slog.NewTextHandler(b, nil)) }
