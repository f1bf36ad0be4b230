package gateway

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	"go.uber.org/goleak"

	"github.com/anabranch-db/anabranch/crdt"
	"github.com/anabranch-db/anabranch/net/memnet"
	"github.com/anabranch-db/anabranch/replica"
)

// secondProcess does what a second process of this program is to do, and reports whether this is one.
var secondProcess = func() (ran bool, err error) { return false, nil }

func TestMain(m *testing.M) {
	ran, err := secondProcess()
	if err != nil {
		fmt.Println("failed:", err)
		os.Exit(1)
	}
	if !ran {
		goleak.VerifyTestMain(m)
	}
}

// testNode is a node with a gateway on the loopback.
type testNode struct {
	t       testing.TB
	replica *replica.Replica
	space   *replica.Space
	gateway *Gateway
	server  *httptest.Server
	tokens  *testTokens
}

// testTokens are tokens that say what they allow: any text that is listed.
type testTokens struct {
	mu      sync.Mutex
	grants  map[string]Grant
	revoked map[string]chan struct{}
}

func (k *testTokens) authenticate(_ context.Context, token string) (Grant, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	gr, ok := k.grants[token]
	if !ok {
		return gr, unauthenticated(CodeUnauthenticated, "no such token")
	}
	return gr, nil
}

func (k *testTokens) set(token string, gr Grant) {
	k.mu.Lock()
	defer k.mu.Unlock()
	gr.ID = token
	k.grants[token] = gr
}

func (k *testTokens) revokedChannel(id string) <-chan struct{} {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.revoked[id] == nil {
		k.revoked[id] = make(chan struct{})
	}
	return k.revoked[id]
}

func (k *testTokens) revoke(id string) {
	k.revokedChannel(id)
	k.mu.Lock()
	defer k.mu.Unlock()
	close(k.revoked[id])
}

const (
	writeToken = "write"
	readToken  = "read"
)

// newNode starts a node. The token "write" may write in the space notes, "read" may read there.
func newNode(t testing.TB, cfg Config, rc replica.Config) *testNode {
	t.Helper()
	r, err := replica.Open(rc)
	if err != nil {
		t.Fatal(err)
	}
	n := &testNode{t: t, replica: r, tokens: &testTokens{grants: map[string]Grant{}, revoked: map[string]chan struct{}{}}}
	t.Cleanup(func() {
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	})
	if n.space, err = r.Space("notes"); err != nil {
		t.Fatal(err)
	}
	n.tokens.set(writeToken, Grant{Subject: "alice", Space: "notes", Rights: replica.WriteRights})
	n.tokens.set(readToken, Grant{Subject: "bob", Space: "notes", Rights: replica.ReadRights})
	cfg.Replica = r
	cfg.Authenticate, cfg.Revoked = n.tokens.authenticate, n.tokens.revokedChannel
	if n.gateway, err = New(cfg); err != nil {
		t.Fatal(err)
	}
	n.server = httptest.NewServer(n.gateway)
	t.Cleanup(func() {
		if err := n.gateway.Close(); err != nil {
			t.Error(err)
		}
		n.server.Close()
	})
	return n
}

// newNodes starts nodes that are all connected with the first.
func newNodes(t testing.TB, count int, cfg Config, rc replica.Config) []*testNode {
	network := memnet.New(1)
	var all []*testNode
	for i := range count {
		rc.Transport = network.Node(fmt.Sprint(i))
		rc.Peers = nil
		if i > 0 {
			rc.Peers = []replica.Peer{{ID: memnet.ID("0"), Addr: "mem:0"}}
		}
		all = append(all, newNode(t, cfg, rc))
	}
	return all
}

// levelOut waits until all nodes hold the same writes.
func levelOut(t testing.TB, nodes ...*testNode) {
	t.Helper()
	for _, n := range nodes {
		for _, o := range nodes {
			if err := n.space.WaitVector(t.Context(), o.space.Summary().Vector); err != nil {
				t.Fatal(err)
			}
		}
	}
}

func (n *testNode) update(fn func(tx *replica.Tx)) {
	n.t.Helper()
	if _, err := n.space.Update(context.Background(), func(tx *replica.Tx) error { fn(tx); return nil }); err != nil {
		n.t.Fatal(err)
	}
}

func (n *testNode) set(key, path string, v any) {
	n.t.Helper()
	n.update(func(tx *replica.Tx) { tx.Doc(key).Set(crdt.Path{path}, v) })
}

func (n *testNode) delete(key string) {
	n.t.Helper()
	n.update(func(tx *replica.Tx) { tx.Doc(key).Delete() })
}

// expect checks that a client's documents are those of the node.
func (n *testNode) expect(docs map[string]clientItem, prefix string) {
	n.t.Helper()
	found := 0
	for d, err := range n.space.Scan(context.Background(), prefix) {
		if err != nil {
			n.t.Fatal(err)
		}
		found++
		want, err := parseItem(appendItem(nil, replica.Change{Key: d.Key, Cursor: d.Cursor, Document: d}))
		if err != nil {
			n.t.Fatal(err)
		}
		got, ok := docs[d.Key]
		if !ok {
			n.t.Errorf("%q did not come", d.Key)
			continue
		}
		if string(got.Doc) != string(want.Doc) || len(got.Dots) != len(want.Dots) || len(got.Conflicts) != len(want.Conflicts) {
			n.t.Errorf("%q: a client has %s %v, the node %s %v", d.Key, got.Doc, got.Dots, want.Doc, want.Dots)
		}
	}
	if found != len(docs) {
		n.t.Errorf("a client has %d documents, the node %d", len(docs), found)
	}
}

func parseItem(text []byte) (it clientItem, err error) {
	err = json.Unmarshal(text, &it, json.RejectUnknownMembers(true))
	return it, err
}

// message is what a node sends over any channel.
type message struct {
	Type       string              `json:"type"`
	Sub        string              `json:"sub"`
	Items      []jsontext.Value    `json:"items"`
	Cursor     string              `json:"cursor"`
	Of         *progress           `json:"of"`
	Vector     string              `json:"vector"`
	Reason     string              `json:"reason"`
	Code       string              `json:"code"`
	Detail     string              `json:"detail"`
	N          uint64              `json:"n"`
	In         int64               `json:"in"`
	Node       string              `json:"node"`
	Subject    string              `json:"subject"`
	Rights     map[string]string   `json:"rights"`
	Space      string              `json:"space"`
	Client     string              `json:"client"`
	Seq        uint64              `json:"seq"`
	Nodes      int                 `json:"nodes"`
	Results    []transactionResult `json:"results"`
	Level      bool                `json:"level"`
	Reset      bool                `json:"reset"`
	Replicated []message           `json:"replicated"`
	Ticket     string              `json:"ticket"`
}

type transactionResult struct {
	Seq       uint64 `json:"seq"`
	Status    string `json:"status"`
	Code      string `json:"code"`
	Detail    string `json:"detail"`
	Cursor    string `json:"cursor"`
	Dot       string `json:"dot"`
	Duplicate bool   `json:"duplicate"`
	After     int64  `json:"after"`
}

// wsClient is a client over a WebSocket.
type wsClient struct {
	t     testing.TB
	conn  *websocket.Conn
	loose bool // messages are not checked against their description: there are too many
}

func (n *testNode) dialBare() *wsClient {
	n.t.Helper()
	conn, _, err := websocket.Dial(context.Background(), n.server.URL+"/v1/ws", &websocket.DialOptions{Subprotocols: []string{subprotocol}})
	if err != nil {
		n.t.Fatal(err)
	}
	conn.SetReadLimit(maxMessageBytes)
	n.t.Cleanup(func() { conn.CloseNow() })
	return &wsClient{t: n.t, conn: conn}
}

// dial connects, and says hello.
func (n *testNode) dial(token string) *wsClient {
	n.t.Helper()
	c := n.dialBare()
	c.send(`{"type":"hello","token":%q,"agent":"test"}`, token)
	if m := c.next(); m.Type != "welcome" || m.Node != n.gateway.node() {
		n.t.Fatalf("the first message is %+v", m)
	}
	return c
}

func (c *wsClient) send(format string, args ...any) {
	c.t.Helper()
	text := fmt.Sprintf(format, args...)
	if err := c.conn.Write(context.Background(), websocket.MessageText, []byte(text)); err != nil {
		c.t.Fatalf("send %s: %v", shorten(text), err)
	}
}

// read returns the next message, or why there is none.
func (c *wsClient) read(ctx context.Context) (message, error) {
	_, text, err := c.conn.Read(ctx)
	if err != nil {
		return message{}, err
	}
	if !c.loose {
		checkMessage(c.t, text)
	}
	var m message
	return m, json.Unmarshal(text, &m)
}

func (c *wsClient) next() message {
	c.t.Helper()
	m, err := c.read(context.Background())
	if err != nil {
		c.t.Fatal(err)
	}
	return m
}

// until returns the messages up to the first of a type.
func (c *wsClient) until(kind string) []message {
	c.t.Helper()
	for all := []message(nil); ; {
		m := c.next()
		if all = append(all, m); m.Type == kind {
			return all
		}
	}
}

// closedWith waits for the end and returns its code.
func (c *wsClient) closedWith() websocket.StatusCode {
	for {
		if _, err := c.read(context.Background()); err != nil {
			return websocket.CloseStatus(err)
		}
	}
}

func (c *wsClient) close() { c.conn.Close(websocket.StatusNormalClosure, "") }

// request makes a request with a token.
func (n *testNode) request(ctx context.Context, method, path, token string, body []byte) *http.Response {
	n.t.Helper()
	req, err := http.NewRequestWithContext(ctx, method, n.server.URL+path, bytes.NewReader(body))
	if err != nil {
		n.t.Fatal(err)
	}
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	resp, err := n.server.Client().Do(req)
	if err != nil {
		n.t.Fatal(err)
	}
	return resp
}

// ask makes a request and returns the answer.
func (n *testNode) ask(method, path, token, body string) (int, message, http.Header) {
	n.t.Helper()
	resp := n.request(context.Background(), method, path, token, []byte(body))
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		n.t.Fatal(err)
	}
	var m message
	if len(text) > 0 {
		checkAnswer(n.t, path, resp.StatusCode, text)
		if err := json.Unmarshal(text, &m); err != nil {
			n.t.Fatalf("%s: %v", text, err)
		}
	}
	return resp.StatusCode, m, resp.Header
}

// sseClient reads an event stream.
type sseClient struct {
	t      testing.TB
	resp   *http.Response
	lines  *bufio.Scanner
	cancel context.CancelFunc
	id     string
}

func (n *testNode) events(token, query string) *sseClient {
	n.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	n.t.Cleanup(cancel)
	resp := n.request(ctx, "GET", "/v1/spaces/notes/events?"+query, token, nil)
	if resp.StatusCode != http.StatusOK || resp.Header.Get("Content-Type") != "text/event-stream" {
		text, _ := io.ReadAll(resp.Body)
		n.t.Fatalf("%s: %s", resp.Status, text)
	}
	lines := bufio.NewScanner(resp.Body)
	lines.Buffer(nil, 2*maxMessageBytes)
	return &sseClient{t: n.t, resp: resp, lines: lines, cancel: cancel}
}

// next returns the next event, whose type is that of the message; ok is false at the end.
func (c *sseClient) next() (m message, ok bool) {
	c.t.Helper()
	for c.lines.Scan() {
		field, value, _ := strings.Cut(c.lines.Text(), ": ")
		switch field {
		case "id":
			c.id = value
		case "event":
			m.Type = value
		case "data":
			checkEvent(c.t, m.Type, []byte(value))
			if err := json.Unmarshal([]byte(value), &m); err != nil {
				c.t.Fatal(err)
			}
		case "":
			if m.Type != "" {
				return m, true
			}
		}
	}
	return m, false
}

func (c *sseClient) close() {
	c.cancel()
	c.resp.Body.Close()
}

// wait waits for a condition that another goroutine makes true.
func wait(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); !ok(); {
		if time.Now().After(deadline) {
			t.Fatalf("in vain for %s", what)
		}
		<-time.After(time.Millisecond)
	}
}

func query(pairs ...string) string {
	v := url.Values{}
	for i := 0; i < len(pairs); i += 2 {
		v.Add(pairs[i], pairs[i+1])
	}
	return v.Encode()
}
