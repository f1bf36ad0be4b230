package control

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/anabranch-db/anabranch/cmd/anabranch/internal/node"
	"github.com/anabranch-db/anabranch/crdt"
	"github.com/anabranch-db/anabranch/replica"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// near returns a node in this process, and far the same one through its socket.
func near(t *testing.T) node.Node {
	t.Helper()
	r, err := replica.Open(replica.Config{})
	if err != nil {
		t.Fatal(err)
	}
	n := node.NewLocal(node.LocalConfig{Replica: r, Serving: true})
	t.Cleanup(func() { n.Close() })
	return n
}

func far(t *testing.T) node.Node {
	t.Helper()
	dir := t.TempDir()
	serveIn(t, dir, near(t))
	c, err := Dial(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func serveIn(t *testing.T, dir string, n node.Node) {
	t.Helper()
	l, err := Listen(dir)
	if err != nil {
		t.Fatal(err)
	}
	s := NewServer(n)
	ended := make(chan error, 1)
	go func() { ended <- s.Serve(l) }()
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if err := errors.Join(s.Shutdown(ctx), <-ended); err != nil {
			t.Error(err)
		}
		if _, err := os.Stat(filepath.Join(dir, SocketName)); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("the socket is left behind: %v", err)
		}
	})
}

// Near and far, a node does and says the same.
func TestNearAndFarAreTheSame(t *testing.T) {
	for name, open := range map[string]func(*testing.T) node.Node{"near": near, "far": far} {
		t.Run(name, func(t *testing.T) { testNode(t, open(t)) })
	}
}

func commit(t *testing.T, n node.Node, ops ...node.Op) node.Receipt {
	t.Helper()
	rc, err := n.Commit(t.Context(), "main", ops)
	if err != nil {
		t.Fatal(err)
	}
	return rc
}

func testNode(t *testing.T, n node.Node) {
	ctx := t.Context()
	doc := `{"a<b>&":"\u2028<>&","n":9007199254740993,"x":1.0}`
	rc := commit(t, n, node.Op{Op: node.OpPut, Key: "k<1>/é", Value: json.RawMessage(doc)}, node.Op{Op: node.OpSet, Key: "k2", Path: "/a", Value: json.RawMessage("[1]")})
	if !rc.Changed || len(rc.Replica) != 16 || rc.Time == 0 || rc.Sync != "always" {
		t.Errorf("receipt %+v", rc)
	}
	if again := commit(t, n, node.Op{Op: node.OpPut, Key: "k<1>/é", Value: json.RawMessage(doc)}); again != (node.Receipt{}) {
		t.Errorf("saving the same again: %+v", again)
	}
	got, err := n.Get(ctx, "main", "k<1>/é")
	if want := "{\"a<b>&\":\"\u2028<>&\",\"n\":9007199254740993,\"x\":1.0}"; err != nil || string(got.Doc) != want || got.Key != "k<1>/é" || got.Cursor == "" {
		t.Errorf("got %s %q, %v, want %s", got.Doc, got.Key, err, want)
	}
	keys := collect(t, n.Scan(ctx, "main", node.ScanOptions{KeysOnly: true}), func(d node.Document) string { return d.Key })
	if fmt.Sprint(keys) != "[k2 k<1>/é]" {
		t.Errorf("keys %q", keys)
	}
	docs := collect(t, n.Scan(ctx, "main", node.ScanOptions{Prefix: "k", After: "k2", Limit: 1}), func(d node.Document) string { return string(d.Doc) })
	if len(docs) != 1 || docs[0] != string(got.Doc) {
		t.Errorf("documents %q", docs)
	}
	commit(t, n, node.Op{Op: node.OpIncrement, Key: "k2", Path: "/n", By: -5}, node.Op{Op: node.OpRemove, Key: "k<1>/é"})
	watching, stop := context.WithCancel(ctx)
	var events []string
	for e, err := range n.Watch(watching, "main", node.WatchOptions{Since: "0"}) {
		if err != nil {
			if !errors.Is(err, context.Canceled) {
				t.Errorf("a watch that was ended: %v", err)
			}
			break
		}
		if events = append(events, fmt.Sprintf("%s %v %s", e.Key, e.Deleted, e.Doc)); len(events) == 2 {
			stop()
		}
	}
	stop()
	if fmt.Sprint(events) != "[k2 false {\"a\":[1],\"n\":-5} k<1>/é true ]" && fmt.Sprint(events) != "[k<1>/é true  k2 false {\"a\":[1],\"n\":-5}]" {
		t.Errorf("events %q", events)
	}
	if have, err := n.Wait(ctx, "main", rc, 1, time.Millisecond); have != 0 || !errors.Is(err, node.ErrOffline) {
		t.Errorf("waiting for a peer: %d, %v", have, err)
	}
	st, err := n.Status(ctx)
	if err != nil || len(st.Spaces) != 1 || st.Spaces[0].Documents != 1 || !st.Serving {
		t.Errorf("status %+v, %v", st, err)
	}
	report, err := n.Verify(ctx, "main", false, func(int64) {})
	if err != nil || report.Documents != 1 || len(report.Problems) != 0 || report.Digest != st.Spaces[0].Digest {
		t.Errorf("report %+v, %v", report, err)
	}
	testErrors(t, n)
}

func collect[T any](t *testing.T, items iter.Seq2[T, error], text func(T) string) []string {
	t.Helper()
	var out []string
	for item, err := range items {
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, text(item))
	}
	return out
}

func testErrors(t *testing.T, n node.Node) {
	ctx := t.Context()
	get := func(space, key string) error { _, err := n.Get(ctx, space, key); return err }
	commit := func(op node.Op) error { _, err := n.Commit(ctx, "main", []node.Op{op}); return err }
	watch := func(since string) error {
		for _, err := range n.Watch(ctx, "main", node.WatchOptions{Since: since}) {
			return err
		}
		return nil
	}
	for name, tt := range map[string]struct {
		got  error
		want error
		code string
	}{
		"a document that is not there": {get("main", "none"), replica.ErrNotFound, "not_found"},
		"a space that is not there":    {get("none", "k2"), replica.ErrNotFound, "not_found"},
		"a key that is not UTF-8":      {get("main", "\xff"), crdt.ErrKey, "invalid_key"},
		"a key that is too long":       {commit(node.Op{Op: node.OpRemove, Key: strings.Repeat("k", 1025)}), crdt.ErrLimit, "limit"},
		"a bad path":                   {commit(node.Op{Op: node.OpSet, Key: "k", Path: "a"}), crdt.ErrPath, "invalid_path"},
		"an unknown operation":         {commit(node.Op{Op: "move", Key: "k"}), node.ErrRequest, "request"},
		"a counter that overflows":     {overflow(commit), crdt.ErrValue, "invalid_value"},
		"another store's cursor":       {watch("0123456789abcdef-1"), replica.ErrCursor, "cursor"},
		"no cursor":                    {watch("x"), replica.ErrCursor, "cursor"},
	} {
		if !errors.Is(tt.got, tt.want) || node.Code(tt.got) != tt.code {
			t.Errorf("%s: %v (code %s), want %v (code %s)", name, tt.got, node.Code(tt.got), tt.want, tt.code)
		}
	}
}

func overflow(commit func(node.Op) error) error {
	op := node.Op{Op: node.OpIncrement, Key: "counter", Path: "/n", By: 1<<63 - 1}
	if err := commit(op); err != nil {
		return err
	}
	return commit(op)
}

func TestNoNodeIsNoError(t *testing.T) {
	dir := t.TempDir()
	if _, err := Dial(t.Context(), dir); !errors.Is(err, ErrNoNode) {
		t.Errorf("no socket: %v", err)
	}
	if _, err := Dial(t.Context(), filepath.Join(dir, "none")); !errors.Is(err, ErrNoNode) {
		t.Errorf("no directory: %v", err)
	}
	l, err := Listen(dir)
	if err != nil {
		t.Fatal(err)
	}
	l.(*listener).Listener.Close() // as after a kill: the socket stays
	if _, err := Dial(t.Context(), dir); !errors.Is(err, ErrNoNode) {
		t.Errorf("a socket that nobody listens on: %v", err)
	}
	serveIn(t, dir, near(t)) // and does not stand in the way
	c, err := Dial(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	c.Close()
}

func TestSocketInADeepDirectory(t *testing.T) {
	dir := filepath.Join(t.TempDir(), strings.Repeat("d", 100), strings.Repeat("e", 100))
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	serveIn(t, dir, near(t))
	c, err := Dial(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := c.Status(t.Context()); err != nil {
		t.Error(err)
	}
	info, err := os.Stat(filepath.Join(dir, SocketName))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info, err)
	}
}

func TestBadRequestsAreRefused(t *testing.T) {
	h := NewServer(near(t)).http.Handler
	for _, tt := range []struct{ method, target, body, want string }{
		{"GET", "/v2/status", "", "404 page not found"},
		{"POST", "/v1/status", "", "Method Not Allowed"},
		{"POST", "/v1/transactions?space=main", "", `"code":"request"`},
		{"POST", "/v1/transactions?space=main", `{"ops":[]}{}`, `something follows the object`},
		{"POST", "/v1/transactions?space=main", `{"opps":[]}`, `unknown field`},
		{"POST", "/v1/transactions?space=main", `{"ops":[{"op":"put","key":"k","value":{"a":01}}]}`, `"code":"request"`},
		{"POST", "/v1/transactions", `{"ops":[]}`, `"code":"invalid_space"`},
		{"POST", "/v1/transactions?space=main", strings.Repeat(" ", maxRequestBytes+1), `a body of more than 32 MiB`},
		{"POST", "/v1/wait?space=main&timeout=soon", `{"receipt":{"changed":false},"peers":1}`, `timeout=soon`},
		{"GET", "/v1/documents?space=main&limit=-1", "", `limit=-1: want a number`},
		{"GET", "/v1/document?space=main&key=", "", `"code":"invalid_key"`},
	} {
		w := &answerWriter{header: make(http.Header)}
		req, err := http.NewRequestWithContext(t.Context(), tt.method, tt.target, strings.NewReader(tt.body))
		if err != nil {
			t.Fatal(err)
		}
		h.ServeHTTP(w, req)
		if w.status < 400 || !strings.Contains(w.String(), tt.want) {
			t.Errorf("%s %s: %d %s, want %s", tt.method, tt.target, w.status, w, tt.want)
		}
	}
}

type answerWriter struct {
	bytes.Buffer
	header http.Header
	status int
}

func (w *answerWriter) Header() http.Header    { return w.header }
func (w *answerWriter) WriteHeader(status int) { w.status = status }

// A stream without its last line is not taken for a complete one, however the node ended.
func TestAStreamThatIsCutOffIsAnError(t *testing.T) {
	for name, answer := range map[string]string{
		"between lines":   `{"item":{"key":"a"}}` + "\n",
		"inside a line":   `{"item":{"key":"a"}}` + "\n" + `{"item":{"ke`,
		"at the start":    "",
		"something other": "<html>",
	} {
		dir := t.TempDir()
		l, err := Listen(dir)
		if err != nil {
			t.Fatal(err)
		}
		served := make(chan struct{})
		go func() {
			defer close(served)
			conn, err := l.Accept()
			if err != nil {
				return
			}
			defer conn.Close()
			answerOnce(conn, answer)
		}()
		c, err := Dial(t.Context(), dir)
		if err != nil {
			t.Fatal(err)
		}
		var last error
		for _, err := range c.Scan(t.Context(), "main", node.ScanOptions{}) {
			last = err
		}
		if last == nil || !strings.Contains(last.Error(), "stopped answering") {
			t.Errorf("%s: %v", name, last)
		}
		c.Close()
		l.Close()
		<-served
	}
}

func answerOnce(conn net.Conn, body string) {
	buf := make([]byte, 4096)
	if _, err := conn.Read(buf); err == nil {
		_, _ = io.WriteString(conn, "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n"+body)
	}
}
