package gateway

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/anabranch-db/anabranch/crdt"
	"github.com/anabranch-db/anabranch/replica"
)

func TestRatesAreCountedByToken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		limits, err := Limits{PerSecond: 10}.withDefaults()
		if err != nil {
			t.Fatal(err)
		}
		g := &Gateway{usage: newUsage(limits)}
		a, b := Grant{ID: "a"}, Grant{ID: "b"}
		for range 20 { // the burst
			if err := g.spend(a, 1); err != nil {
				t.Fatal(err)
			}
		}
		err = g.spend(a, 1)
		wantCode(t, err, CodeRateLimited)
		if p := problemOf(err); p.Status != 429 || p.RetryAfter != 100*time.Millisecond {
			t.Errorf("%+v", p)
		}
		if err := g.spend(b, 20); err != nil {
			t.Errorf("another token: %v", err)
		}
		time.Sleep(time.Second)
		if err := g.spend(a, 10); err != nil {
			t.Errorf("a second later: %v", err)
		}
		wantCode(t, g.spend(a, 1), CodeRateLimited)
		time.Sleep(time.Minute)
		if err := g.spend(a, 1000); err != nil { // more than ever come together
			t.Errorf("a large push: %v", err)
		}
	})
}

func TestRatesOfManyTokensTakeNoMemoryForEver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		limits, err := Limits{}.withDefaults()
		if err != nil {
			t.Fatal(err)
		}
		g := &Gateway{usage: newUsage(limits)}
		for i := range 3 * maxRates {
			if err := g.spend(Grant{ID: strconv.Itoa(i)}, 1); err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Millisecond)
		}
		if n := len(g.usage.rates); n > maxRates {
			t.Errorf("%d rates are kept", n)
		}
	})
}

func TestConnectionsAreCountedByToken(t *testing.T) {
	g := &Gateway{usage: newUsage(Limits{Streams: 2, BodiesBytes: 1})}
	a := Grant{ID: "a"}
	first, err := g.admit(a)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := g.admit(a); err != nil {
		t.Fatal(err)
	}
	_, err = g.admit(a)
	wantCode(t, err, CodeRateLimited)
	if _, err := g.admit(Grant{ID: "b"}); err != nil {
		t.Errorf("another token: %v", err)
	}
	first()
	first() // counts once
	if _, err := g.admit(a); err != nil {
		t.Error(err)
	}
	_, err = g.admit(a)
	wantCode(t, err, CodeRateLimited)
}

func TestLargeBodiesWaitForEachOther(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		u := newUsage(Limits{BodyBytes: 6, BodiesBytes: 10, Timeout: time.Second})
		release, err := u.room(t.Context(), -1) // takes the most that one may
		if err != nil {
			t.Fatal(err)
		}
		if _, err := u.room(t.Context(), 5); problemOf(err).Code != CodeBusy {
			t.Errorf("%v", err)
		}
		var wg sync.WaitGroup
		wg.Go(func() {
			release, err := u.room(t.Context(), 5)
			if err != nil {
				t.Error(err)
				return
			}
			release()
		})
		synctest.Wait()
		release()
		wg.Wait()
		if _, err := u.room(t.Context(), 7); problemOf(err).Code != CodeTooLarge {
			t.Errorf("%v", err)
		}
	})
}

func TestLimitsThatCannotBe(t *testing.T) {
	for _, l := range []Limits{{PerSecond: -1}, {Streams: -1}, {BodyBytes: 9, BodiesBytes: 8}, {Timeout: -1}} {
		if _, err := l.withDefaults(); err == nil {
			t.Errorf("%+v is taken", l)
		}
	}
}

// What somebody sends who means no good, or whose program is wrong.
func TestHostileRequests(t *testing.T) {
	g, tokens := accessGateway(t, nil)
	c := newRESTClient(t, g, tokens, "notes", replica.WriteRights)
	const doc = "/v1/spaces/notes/docs/k"
	deep := strings.Repeat(`{"a":`, 100) + "1" + strings.Repeat("}", 100)
	deepArray := `{"a":` + strings.Repeat("[", 100_000) + strings.Repeat("]", 100_000) + "}"
	for _, tt := range []struct {
		name, method, path, body string
		status                   int
		code                     string
	}{
		{"no JSON", "PUT", doc, "hello", 400, CodeBadRequest},
		{"nothing", "PUT", doc, "", 400, CodeBadRequest},
		{"an array", "PUT", doc, "[]", 400, CodeBadRequest},
		{"a name twice", "PUT", doc, `{"a":1,"a":2}`, 400, CodeBadRequest},
		{"more behind it", "PUT", doc, `{} {}`, 400, CodeBadRequest},
		{"no UTF-8", "PUT", doc, "{\"a\":\"\xff\"}", 400, CodeBadRequest},
		{"a name that is no UTF-8", "PATCH", doc, "{\"\xc3\":1}", 400, CodeBadRequest},
		{"half a surrogate", "PUT", doc, `{"a":"\ud800"}`, 400, CodeBadRequest},
		{"an integer that is too large", "PUT", doc, `{"a":9223372036854775808}`, 400, CodeBadRequest},
		{"a float that is too large", "PUT", doc, `{"a":1e999}`, 400, CodeBadRequest},
		{"deep objects", "PUT", doc, deep, 413, CodeTooLarge},
		{"deep objects in a patch", "PATCH", doc, deep, 413, CodeTooLarge},
		{"deep arrays", "PUT", doc, deepArray, 413, CodeTooLarge},
		{"deep arrays in a batch", "POST", "/v1/spaces/notes/batch", `{"ops":[{"op":"put","key":"a","value":` + deepArray + `}]}`, 400, CodeBadRequest},
		{"deep arrays for a batch", "POST", "/v1/spaces/notes/batch", deepArray, 400, CodeBadRequest},
		{"a large value", "PUT", doc, `{"a":"` + strings.Repeat("x", crdt.MaxValueBytes) + `"}`, 413, CodeTooLarge},
		{"a large body", "PUT", doc, `{"a":"` + strings.Repeat("x", 9<<20) + `"}`, 413, CodeTooLarge},
		{"a long key", "PUT", doc + strings.Repeat("k", crdt.MaxKeyBytes), `{}`, 413, CodeTooLarge},
		{"a key that is no UTF-8", "PUT", "/v1/spaces/notes/docs/%ff", `{}`, 400, CodeBadRequest},
		{"a space that is no UTF-8", "GET", "/v1/spaces/%ff/docs", "", 403, CodeForbidden},
		{"a broken escape", "GET", "/v1/spaces/notes/docs/k?prefix=%zz", "", 404, CodeNotFound}, // such parameters are left out
		{"a pointer that is none", "POST", doc + "?increment=views", "", 400, CodeBadRequest},
		{"a counter at the root", "POST", doc + "?increment=", "", 400, CodeBadRequest},
		{"a step that is too large", "POST", doc + "?increment=/n&by=9223372036854775808", "", 400, CodeBadRequest},
		{"no counter at all", "POST", doc, "", 400, CodeBadRequest},
		{"a method that is not there", "DELETE", "/v1/spaces/notes/docs", "", 405, CodeMethod},
		{"a method of its own", "BREW", doc, "", 405, CodeMethod},
		{"many elements", "GET", "/v1/" + strings.Repeat("/", 5000), "", 404, CodeNotFound},
	} {
		w := c.do(tt.method, tt.path, tt.body)
		if w.Code != tt.status {
			t.Errorf("%s: %d %.300s, want %d", tt.name, w.Code, w.Body, tt.status)
		} else {
			wantProblem(t, w, tt.status, tt.code)
		}
		if tt.code == CodeMethod && w.Header().Get("Allow") == "" {
			t.Errorf("%s: no Allow", tt.name)
		}
	}
	c.want(201, "PUT", doc, `{"n":{"x":1}}`)
	c.wantProblem(415, CodeMediaType, "PUT", doc, `{}`, "Content-Type", "multipart/form-data; boundary=x")
	c.wantProblem(415, CodeMediaType, "PUT", doc, `{}`, "Content-Type", "application/json; charset=latin1")
	c.wantProblem(415, CodeMediaType, "PUT", doc, `{}`, "Content-Encoding", "gzip")
	c.want(200, "PUT", doc, `{"n":2}`, "Content-Type", "application/x-www-form-urlencoded") // what curl calls it
	for range 2 {
		c.want(200, "POST", doc+"?increment=/c&by="+strconv.Itoa(1<<62), "")
		if w := c.do("POST", doc+"?increment=/c&by="+strconv.Itoa(1<<62), ""); w.Code == 422 {
			wantProblem(t, w, 422, CodeCounterRange)
			return
		}
	}
	t.Error("the counter does not end")
}

// listen serves a gateway on the loopback.
func listen(t *testing.T, g *Gateway) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := g.NewServer(ServerConfig{MaxConns: 8})
	served := make(chan error, 1)
	go func() { served <- s.Serve(l) }()
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		if err := errors.Join(s.Shutdown(ctx), <-served); err != nil {
			t.Error(err)
		}
	})
	return l.Addr().String()
}

// A body that does not come ends the request, and gives back the room that was kept for it.
func TestSlowBodiesAreGivenUp(t *testing.T) {
	g, tokens := accessGateway(t, func(c *Config) { c.Limits = Limits{Timeout: 3 * time.Second, BodyBytes: 1000, BodiesBytes: 1000} })
	text, _ := issue(t, tokens, TokenSpec{Space: "notes", Rights: replica.WriteRights})
	conn, err := net.Dial("tcp", listen(t, g))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	fmt.Fprintf(conn, "PUT /v1/spaces/notes/docs/k HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer %s\r\nContent-Length: 900\r\n\r\n{", text)
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if body, err := io.ReadAll(resp.Body); err != nil || resp.StatusCode != http.StatusRequestTimeout || !strings.Contains(string(body), CodeTimeout) {
		t.Errorf("%s %s %v", resp.Status, body, err)
	}
	release, err := g.usage.room(t.Context(), 1000)
	if err != nil {
		t.Error(err)
	} else {
		release()
	}
}

// Headers that are too long, or of no protocol, end the connection and nothing else.
func TestConnectionsThatAreNoHTTP(t *testing.T) {
	g, _ := accessGateway(t, nil)
	addr := listen(t, g)
	for name, text := range map[string]string{
		"TLS":            "\x16\x03\x01\x02\x00\x01\x00",
		"no host":        "GET /v1/node HTTP/1.1\r\n\r\n",
		"two hosts":      "GET /v1/node HTTP/1.1\r\nHost: localhost\r\nHost: evil.example\r\n\r\n",
		"another target": "GET http://evil.example/v1/node HTTP/1.1\r\nHost: localhost\r\n\r\n",
		"no target":      "OPTIONS * HTTP/1.1\r\nHost: localhost\r\n\r\n",
		"tunnel":         "CONNECT evil.example:443 HTTP/1.1\r\nHost: evil.example:443\r\n\r\n",
		"long header":    "GET / HTTP/1.1\r\nHost: localhost\r\nX: " + strings.Repeat("x", 64<<10) + "\r\n\r\n",
	} {
		conn, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		go func() { _, _ = io.WriteString(conn, text) }() // the server may not read it to the end
		resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
		if err == nil {
			if resp.StatusCode < 400 && name != "no target" {
				t.Errorf("%s: %s", name, resp.Status)
			}
			resp.Body.Close()
		}
		conn.Close()
	}
	resp, err := http.Get("http://" + addr + "/v1/openapi.json")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		t.Error(resp.Status)
	}
}
