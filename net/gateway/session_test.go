package gateway

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/anabranch-db/anabranch/replica"
)

func TestWebSocketNeedsATokenInTime(t *testing.T) {
	n := newNode(t, Config{HelloTimeout: 50 * time.Millisecond}, replica.Config{})
	if got := n.dialBare().closedWith(); got != closeSlow {
		t.Errorf("without hello it is closed with %d", got)
	}
	n = newNode(t, Config{}, replica.Config{})
	for text, want := range map[string]websocket.StatusCode{
		`{"type":"hello","token":"wrong"}`:                          closeUnauthenticated,
		`{"type":"hello"}`:                                          closeUnauthenticated,
		`{"type":"subscribe","sub":"a","space":"notes","credit":1}`: closeUnauthenticated,
		`hello`: closeBadMessage,
		`{"type":"hello","token":"` + strings.Repeat("x", 5000) + `"}`: closeBadMessage,
	} {
		c := n.dialBare()
		c.send("%s", text)
		if got := c.closedWith(); got != want {
			t.Errorf("%.60s: closed with %d, not %d", text, got, want)
		}
	}
	conn, _, err := websocket.Dial(t.Context(), n.server.URL+"/v1/ws", nil)
	if err != nil {
		t.Fatal(err)
	}
	if got := (&wsClient{t: t, conn: conn}).closedWith(); got != closeBadMessage {
		t.Errorf("without the subprotocol it is closed with %d", got)
	}
}

// Programs that are no browsers may give the token in the header; a wrong one is refused before the upgrade.
func TestTokenMayComeInTheHeader(t *testing.T) {
	n := newNode(t, Config{}, replica.Config{})
	for token, want := range map[string]int{readToken: http.StatusSwitchingProtocols, "wrong": http.StatusUnauthorized} {
		conn, resp, err := websocket.Dial(t.Context(), n.server.URL+"/v1/ws", &websocket.DialOptions{
			Subprotocols: []string{subprotocol}, HTTPHeader: http.Header{"Authorization": {"Bearer " + token}},
		})
		if resp == nil || resp.StatusCode != want {
			t.Errorf("%s: %v %v", token, resp, err)
		}
		if conn == nil {
			continue
		}
		c := &wsClient{t: t, conn: conn}
		m := c.next()
		if m.Type != "welcome" || m.Subject != "bob" || fmt.Sprint(m.Rights) != "map[notes:read]" {
			t.Errorf("%+v", m)
		}
		c.close()
	}
}

func TestMessageThatIsNoneEndsTheSession(t *testing.T) {
	n := newNode(t, Config{}, replica.Config{})
	for _, text := range []string{`{`, `{"type":"shout"}`, `{"type":"subscribe","sub":"a","space":"notes","since":"x"}`, `{"type":"push","client":"x"}`} {
		c := n.dial(readToken)
		c.send("%s", text)
		if m := c.next(); m.Type != "error" || m.Code != CodeBadRequest || m.Detail == "" {
			t.Errorf("%s: %+v", text, m)
		}
		if got := c.closedWith(); got != closeBadMessage {
			t.Errorf("%s: closed with %d", text, got)
		}
	}
	c := n.dial(readToken)
	if err := c.conn.Write(t.Context(), websocket.MessageBinary, []byte(`{"type":"ping"}`)); err != nil {
		t.Fatal(err)
	}
	if got := c.closedWith(); got != closeBadMessage {
		t.Errorf("binary: closed with %d", got)
	}
	c = n.dial(readToken)
	go func() { // it fails as soon as the node has had enough
		_ = c.conn.Write(context.Background(), websocket.MessageText, []byte(`{"type":"ping","x":"`+strings.Repeat("x", maxMessageBytes)+`"}`))
	}()
	if got := c.closedWith(); got != websocket.StatusMessageTooBig {
		t.Errorf("too large: closed with %d", got)
	}
}

func TestExpiredTokenEndsTheSessionUnlessItIsReplaced(t *testing.T) {
	n := newNode(t, Config{}, replica.Config{})
	short := func(d time.Duration) {
		n.tokens.set("short", Grant{Subject: "alice", Space: "notes", Rights: replica.ReadRights, Expires: time.Now().Add(d)})
	}
	short(2 * time.Second)
	c := n.dial("short")
	if m := c.next(); m.Type != "expiring" || m.In < 1 || m.In > 2000 {
		t.Errorf("%+v", m)
	}
	if m := c.next(); m.Type != "error" || m.Code != CodeTokenExpired {
		t.Errorf("%+v", m)
	}
	if got := c.closedWith(); got != closeUnauthenticated {
		t.Errorf("closed with %d", got)
	}

	short(2 * time.Second)
	e := n.events("short", "")
	defer e.close()
	d := n.dial("short")
	d.until("expiring")
	d.send(`{"type":"token","token":%q}`, writeToken)
	for m, ok := e.next(); ; m, ok = e.next() { // a stream of the old one, which ends later
		if !ok {
			t.Fatal("the event stream ended without a word")
		}
		if m.Type == "error" {
			if m.Code != CodeTokenExpired {
				t.Errorf("%+v", m)
			}
			break
		}
	}
	d.send(`{"type":"ping","n":5}`)
	if m := d.next(); m.Type != "pong" || m.N != 5 {
		t.Errorf("with another token: %+v", m)
	}
	d.send(`{"type":"token","token":%q}`, readToken)
	if m := d.next(); m.Type != "error" || m.Code != CodeForbidden {
		t.Errorf("a token of somebody else: %+v", m)
	}
	if got := d.closedWith(); got != closeForbidden {
		t.Errorf("closed with %d", got)
	}

	short(time.Second)
	if status, m, _ := n.ask("GET", "/v1/spaces/notes/changes?wait=60", "short", ""); status != http.StatusUnauthorized || m.Code != CodeTokenExpired {
		t.Errorf("%d %+v", status, m)
	}
}

func TestRevokedTokenEndsSessions(t *testing.T) {
	n := newNode(t, Config{}, replica.Config{})
	c := n.dial(readToken)
	e := n.events(readToken, "")
	defer e.close()
	e.next() // welcome
	polled := make(chan message)
	go func() {
		_, m, _ := n.ask("GET", "/v1/spaces/notes/changes?wait=60", readToken, "")
		polled <- m
	}()
	wait(t, "the poll to begin", func() bool { return n.gateway.Stats().Connections["longpoll"] == 1 })
	n.tokens.revoke(readToken)
	if got := c.closedWith(); got != closeUnauthenticated {
		t.Errorf("closed with %d", got)
	}
	for m, ok := e.next(); m.Type != "error"; m, ok = e.next() {
		if !ok {
			t.Fatal("the event stream ended without a word")
		}
	}
	if m := <-polled; m.Code != CodeTokenRevoked {
		t.Errorf("%+v", m)
	}
}

func TestTokenThatAllowsLessEndsSubscriptions(t *testing.T) {
	n := newNode(t, Config{}, replica.Config{})
	if _, err := n.replica.Space("other"); err != nil {
		t.Fatal(err)
	}
	n.tokens.set("all", Grant{Subject: "bob", Space: AllSpaces, Rights: replica.ReadRights})
	c := n.dial("all")
	c.send(`{"type":"subscribe","sub":"a","space":"notes","credit":9}`)
	c.until("level")
	c.send(`{"type":"subscribe","sub":"b","space":"other","credit":9}`)
	c.until("level")
	c.send(`{"type":"token","token":%q}`, readToken)
	if m := c.next(); m.Type != "error" || m.Sub != "b" || m.Code != CodeForbidden {
		t.Errorf("%+v", m)
	}
	n.set("k", "x", 1)
	if m := c.next(); m.Type != "changes" || m.Sub != "a" {
		t.Errorf("%+v", m)
	}
}

func TestShutDownIsTold(t *testing.T) {
	t.Run("for good", func(t *testing.T) { testShutDownIsTold(t, false) })
	t.Run("to begin again", func(t *testing.T) { testShutDownIsTold(t, true) })
}

func testShutDownIsTold(t *testing.T, restart bool) {
	n := newNode(t, Config{}, replica.Config{})
	c := n.dial(readToken)
	c.send(`{"type":"subscribe","sub":"a","space":"notes","credit":9}`)
	c.until("level")
	bare := n.dialBare() // it has not said hello
	e := n.events(readToken, "")
	defer e.close()
	e.next()
	polled := make(chan int)
	go func() {
		status, _, _ := n.ask("GET", "/v1/spaces/notes/changes?wait=60", readToken, "")
		polled <- status
	}()
	wait(t, "the poll to begin", func() bool { return n.gateway.Stats().Connections["longpoll"] == 1 })
	ended := make(chan error)
	want := websocket.StatusGoingAway
	if restart {
		want = websocket.StatusServiceRestart
		go func() { ended <- n.gateway.Restart() }()
	} else {
		go func() { ended <- n.gateway.Close() }()
	}
	if got := c.closedWith(); got != want {
		t.Errorf("closed with %d", got)
	}
	if got := bare.closedWith(); got != want {
		t.Errorf("without hello: closed with %d", got)
	}
	for m, ok := e.next(); m.Type != "error"; m, ok = e.next() {
		if !ok {
			t.Fatal("the event stream ended without a word")
		}
	}
	if got := <-polled; got != http.StatusServiceUnavailable {
		t.Errorf("the poll is answered %d", got)
	}
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if status, _, _ := n.ask("GET", "/v1/spaces/notes/changes", readToken, ""); status != http.StatusServiceUnavailable {
		t.Errorf("afterwards: %d", status)
	}
}

// rawWebSocket upgrades a bare connection, with the token in the header, and subscribes; what it does then is up to the test.
func rawWebSocket(t *testing.T, n *testNode, subscribe string) net.Conn {
	t.Helper()
	conn, err := net.Dial("tcp", n.server.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	fmt.Fprintf(conn, "GET /v1/ws HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"+
		"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Protocol: %s\r\nAuthorization: Bearer %s\r\n\r\n", subprotocol, readToken)
	if subscribe != "" { // masked with zeros
		head := []byte{0x81, 0x80 | 126, byte(len(subscribe) >> 8), byte(len(subscribe)), 0, 0, 0, 0}
		if _, err := conn.Write(append(head, subscribe...)); err != nil {
			t.Fatal(err)
		}
	}
	return conn
}

func TestDeadClientIsDropped(t *testing.T) {
	n := newNode(t, Config{Heartbeat: 30 * time.Millisecond}, replica.Config{})
	live := n.dial(readToken) // which answers pings as it reads
	gone := make(chan error)
	go func() {
		_, err := live.read(context.Background())
		gone <- err
	}()
	// One that takes everything and answers nothing, as a proxy does behind which nobody is left.
	if _, err := io.Copy(io.Discard, bufio.NewReader(rawWebSocket(t, n, ""))); err != nil && !errors.Is(err, net.ErrClosed) && !strings.Contains(err.Error(), "reset") {
		t.Error(err)
	}
	select {
	case err := <-gone:
		t.Errorf("the one that answers was dropped: %v", err)
	default:
	}
	wait(t, "one connection to be left", func() bool { return n.gateway.Stats().Connections["websocket"] == 1 })
	live.conn.CloseNow()
	if err := <-gone; err == nil {
		t.Error("a connection that was closed was read from")
	}
}

func TestEventStreamShowsSignsOfLife(t *testing.T) {
	n := newNode(t, Config{Heartbeat: 10 * time.Millisecond}, replica.Config{})
	resp := n.request(t.Context(), "GET", "/v1/spaces/notes/events", readToken, nil)
	defer resp.Body.Close()
	lines := bufio.NewScanner(resp.Body)
	retry := false
	for lines.Scan() {
		retry = retry || lines.Text() == "retry: 2000"
		if strings.HasPrefix(lines.Text(), ":") {
			break
		}
	}
	if !retry || lines.Err() != nil {
		t.Errorf("retry was told: %v; %v", retry, lines.Err())
	}
}

func TestTicketOpensOneEventStream(t *testing.T) {
	n := newNode(t, Config{}, replica.Config{})
	if status, m, _ := n.ask("POST", "/v1/spaces/other/ticket", readToken, ""); status != http.StatusForbidden {
		t.Errorf("for another space: %d %+v", status, m)
	}
	draw := func() string {
		_, m, _ := n.ask("POST", "/v1/spaces/notes/ticket", readToken, "")
		return m.Ticket
	}
	open := func(space, text string) int {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		resp := n.request(ctx, "GET", "/v1/spaces/"+space+"/events?"+query("ticket", text), "", nil)
		resp.Body.Close()
		return resp.StatusCode
	}
	text := draw()
	if got := open("notes", text); got != 200 {
		t.Errorf("the first time: %d", got)
	}
	if got := open("notes", text); got != http.StatusUnauthorized {
		t.Errorf("the second time: %d", got)
	}
	if got := open("other", draw()); got != http.StatusUnauthorized {
		t.Errorf("elsewhere: %d", got)
	}
	text = draw()
	n.tokens.revoke(readToken)
	if got := open("notes", text); got != http.StatusUnauthorized {
		t.Errorf("of a revoked token: %d", got)
	}
}

func TestTicketsExpire(t *testing.T) {
	all := newTickets()
	now := time.Now()
	text, err := all.give(ticket{space: "notes", expires: now.Add(ticketLife)}, now)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := all.redeem(text, "notes", now.Add(ticketLife)); err == nil {
		t.Error("it was good for longer than it should")
	}
	for range maxTickets {
		if _, err := all.give(ticket{space: "notes", expires: now.Add(ticketLife)}, now); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := all.give(ticket{space: "notes", expires: now.Add(ticketLife)}, now); err == nil {
		t.Error("there is no end of tickets")
	}
	if _, err := all.give(ticket{space: "notes", expires: now.Add(2 * ticketLife)}, now.Add(ticketLife)); err != nil {
		t.Errorf("expired ones stay in the way: %v", err)
	}
}
