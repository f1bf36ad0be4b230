package gateway

import (
	"errors"
	"fmt"
	"net/http"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/anabranch-db/anabranch/crdt"
	"github.com/anabranch-db/anabranch/net/memnet"
	"github.com/anabranch-db/anabranch/replica"
)

func itemKeys(t *testing.T, all ...message) []string {
	t.Helper()
	var keys []string
	for _, m := range all {
		for _, text := range m.Items {
			it, err := parseItem(text)
			if err != nil {
				t.Fatal(err)
			}
			keys = append(keys, it.Key)
		}
	}
	return keys
}

func TestNothingIsSentWithoutCredit(t *testing.T) {
	n := newNode(t, Config{}, replica.Config{})
	for i := range 3 * maxBatchItems {
		n.set(fmt.Sprint(i), "x", i)
	}
	c := n.dial(readToken)
	c.send(`{"type":"subscribe","sub":"a","space":"notes","credit":2}`)
	quiet := func(what string) { // the answer to a ping comes after all that may be sent
		t.Helper()
		for i := range 3 {
			c.send(`{"type":"ping","n":%d}`, i)
			if m := c.next(); m.Type != "pong" {
				t.Fatalf("%s: %+v", what, m.Type)
			}
		}
	}
	for range 2 {
		if m := c.next(); m.Type != "changes" || len(m.Items) != maxBatchItems {
			t.Fatalf("%s of %d", m.Type, len(m.Items))
		}
	}
	quiet("with no credit left")
	c.send(`{"type":"credit","sub":"a","add":1}`)
	c.send(`{"type":"credit","sub":"b","add":1}`) // of no subscription: it may have ended meanwhile
	if m := c.next(); len(m.Items) != maxBatchItems {
		t.Fatalf("%s of %d", m.Type, len(m.Items))
	}
	quiet("with no credit left again")
	c.send(`{"type":"credit","sub":"a","add":9}`)
	c.until("level")
	c.send(`{"type":"unsubscribe","sub":"a"}`)
	quiet("after unsubscribing")
	n.set("later", "x", 1)
	quiet("after unsubscribing, though there is a change")
	c.send(`{"type":"subscribe","sub":"a","space":"notes","since":%q,"credit":9}`, n.space.Cursor())
	if m := c.next(); m.Type != "level" {
		t.Errorf("a new subscription of the name: %+v", m)
	}
}

func TestSubscriptionGetsWhatItAsksFor(t *testing.T) {
	n := newNode(t, Config{}, replica.Config{})
	for _, key := range []string{"a/1", "a/2", "b/1", "ab"} {
		n.set(key, "x", 1)
	}
	c := n.dial(readToken)
	c.send(`{"type":"subscribe","sub":"keys","space":"notes","keys":["b/1","a/2","none"],"credit":9}`)
	if got := itemKeys(t, c.until("level")...); !slices.Equal(got, []string{"a/2", "b/1"}) {
		t.Errorf("by keys: %q", got)
	}
	c.send(`{"type":"subscribe","sub":"prefix","space":"notes","prefix":"a/","credit":9}`)
	if got := itemKeys(t, c.until("level")...); !slices.Equal(got, []string{"a/1", "a/2"}) {
		t.Errorf("by prefix: %q", got)
	}
	n.set("a/2", "x", 2)
	one, two := c.next(), c.next()
	if one.Sub == two.Sub || one.Type != "changes" || two.Type != "changes" || string(one.Items[0]) != string(two.Items[0]) {
		t.Errorf("%+v %+v", one, two)
	}
	_, m, _ := n.ask("GET", "/v1/spaces/notes/changes?key=ab&key=b/1&wait=0", readToken, "")
	if got := itemKeys(t, m); !slices.Equal(got, []string{"b/1", "ab"}) || !m.Level {
		t.Errorf("a poll by keys: %q", got)
	}

	for text, code := range map[string]string{
		`"sub":"keys","space":"notes"`: CodeBadRequest, // there is one of that name
		`"sub":"x","space":"other"`:    CodeForbidden,
	} {
		c.send(`{"type":"subscribe",%s,"credit":1}`, text)
		if m := c.next(); m.Type != "error" || m.Code != code || m.Sub == "" {
			t.Errorf("%s: %+v", text, m)
		}
	}
	for i := range maxSubscriptions {
		c.send(`{"type":"subscribe","sub":"n%d","space":"notes","keys":["none"],"credit":0}`, i)
	}
	for range 2 { // there were two
		if m := c.next(); m.Type != "error" || m.Code != CodeRateLimited {
			t.Errorf("one too many: %+v", m)
		}
	}
}

func TestBadQueriesAreRefused(t *testing.T) {
	n := newNode(t, Config{}, replica.Config{})
	for _, path := range []string{"changes?since=x", "changes?vector=!", "changes?wait=1h", "changes?wait=x", "changes?limit=0", "changes?prefix=a&key=b", "changes?client=x", "events?since=x", "events?client=00000000c11e0001&replicate=99", "events?key="} {
		if status, m, _ := n.ask("GET", "/v1/spaces/notes/"+path, readToken, ""); status != http.StatusBadRequest || m.Code != CodeBadRequest {
			t.Errorf("%s: %d %+v", path, status, m)
		}
	}
	for _, path := range []string{"changes", "events"} {
		if status, m, _ := n.ask("GET", "/v1/spaces/other/"+path, readToken, ""); status != http.StatusForbidden || m.Code != CodeForbidden {
			t.Errorf("%s: %d %+v", path, status, m)
		}
		if status, _, _ := n.ask("GET", "/v1/spaces/notes/"+path, "", ""); status != http.StatusUnauthorized {
			t.Errorf("%s without a token: %d", path, status)
		}
	}
}

// How long a request may take to be read does not bound how long it waits.
func TestWaitingOutlastsTheTimeoutOfRequests(t *testing.T) {
	n := newNode(t, Config{Limits: Limits{Timeout: 50 * time.Millisecond}}, replica.Config{})
	n.set("before", "x", 1)
	cursor := n.space.Cursor().String()
	e := n.events(readToken, "")
	defer e.close()
	if status, m, h := n.ask("GET", "/v1/spaces/notes/changes?"+query("since", cursor, "wait", "500ms"), readToken, ""); status != http.StatusNoContent || h.Get(cursorHeader) != cursor {
		t.Errorf("%d %+v", status, m)
	}
	n.set("k", "x", 1)
	for m, ok := e.next(); len(itemKeys(t, m)) == 0 || itemKeys(t, m)[0] != "k"; m, ok = e.next() {
		if !ok {
			t.Fatal("the event stream ended")
		}
	}
}

func TestHeadOfAnEventStreamEnds(t *testing.T) {
	n := newNode(t, Config{}, replica.Config{})
	resp := n.request(t.Context(), "HEAD", "/v1/spaces/notes/events", readToken, nil)
	if resp.Body.Close(); resp.StatusCode != http.StatusOK {
		t.Error(resp.Status)
	}
	wait(t, "it to end", func() bool { return n.gateway.Stats().Connections["sse"] == 0 })
}

func TestCatchingUpShowsHowFarItIs(t *testing.T) {
	n := newNode(t, Config{}, replica.Config{})
	const documents = 2*maxBatchItems + 100
	for i := range documents {
		n.set(fmt.Sprint(i), "x", i)
	}
	c := n.dial(readToken)
	c.send(`{"type":"subscribe","sub":"a","space":"notes","credit":100}`)
	var done []int64
	for _, m := range c.until("level") {
		if m.Type == "changes" {
			if m.Of == nil || m.Of.Total != documents {
				t.Fatalf("%+v", m.Of)
			}
			done = append(done, m.Of.Done)
		}
	}
	if !slices.Equal(done, []int64{maxBatchItems, 2 * maxBatchItems, documents}) {
		t.Errorf("done: %v", done)
	}
}

// A cursor of another store cannot be served, nor one from before something was forgotten: the client begins anew, and says so.
func TestCursorThatCannotBeServedBeginsAnew(t *testing.T) {
	other := newNode(t, Config{}, replica.Config{})
	other.set("x", "x", 1)
	for _, channel := range channels {
		n := newNode(t, Config{}, replica.Config{})
		n.set("k", "x", 1)
		v := newTraveller(t, "")
		v.docs["gone"] = clientItem{}
		v.cursor = other.space.Cursor().String()
		v.visit(n, channel, 100)
		n.expect(v.docs, "")
		if v.items != 1 {
			t.Errorf("%s: %d items", channel, v.items)
		}
	}
}

// A node that is behind its reader is brought up by a snapshot, which says nothing of what the reader has and others deleted and forgot.
func TestReaderOfANodeThatIsBehindBeginsAnew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		network := memnet.New(1)
		open := func(name string) (*replica.Replica, *replica.Space) {
			r, err := replica.Open(replica.Config{Transport: network.Node(name)})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { r.Close() })
			s, err := r.Space("notes")
			if err != nil {
				t.Fatal(err)
			}
			return r, s
		}
		a, ahead := open("a")
		b, behind := open("b")
		edit := func(fn func(tx *replica.Tx) error) {
			if _, err := ahead.Update(t.Context(), fn); err != nil {
				t.Fatal(err)
			}
		}
		edit(func(tx *replica.Tx) error {
			return errors.Join(tx.Doc("stays").Set(crdt.Path{"x"}, 1), tx.Doc("goes").Set(crdt.Path{"x"}, 1))
		})
		g, err := New(Config{Replica: b})
		if err != nil {
			t.Fatal(err)
		}
		defer g.Close()
		v := newTraveller(t, "")
		v.docs["stays"], v.docs["goes"] = clientItem{}, clientItem{}
		vv := ahead.Summary().Vector
		sub, err := g.subscribe(behind, filter{}, replica.Cursor{}, &vv, func() {})
		if err != nil {
			t.Fatal(err)
		}
		defer sub.close()
		v.drain(sub)
		if len(v.docs) != 2 {
			t.Errorf("the node has nothing, and took from the client: it has %v", v.docs)
		}
		edit(func(tx *replica.Tx) error { return tx.Doc("goes").Delete() })
		<-time.After(10 * time.Minute) // it forgets
		b.AddPeer(replica.Peer{ID: a.Self(), Addr: "mem:a"})
		<-time.After(time.Minute)
		synctest.Wait()
		v.drain(sub)
		if len(v.docs) != 1 || v.docs["stays"].Doc == nil {
			t.Errorf("the client has %v", v.docs)
		}
	})
}

// drain takes what a subscription has to say until the client is level.
func (v *traveller) drain(sub *subscription) (reset bool) {
	v.t.Helper()
	for range 1000 {
		batch, err := sub.next(v.t.Context(), maxBatchItems)
		if err != nil {
			v.t.Fatal(err)
		}
		if batch.reset != "" {
			reset = true
			v.take(message{Type: "reset"})
		}
		m := message{Type: "changes", Cursor: batch.cursor.String()}
		for _, it := range batch.items {
			m.Items = append(m.Items, it)
		}
		if v.take(m); batch.level {
			v.take(message{Type: "level", Cursor: m.Cursor})
			return reset
		}
		synctest.Wait()
	}
	v.t.Fatal("it is not told that it is level")
	return reset
}

// Deletions are forgotten some time after all members know of them. A client that was away longer begins anew, and so learns what is gone.
func TestClientThatWasAwayLongLearnsWhatIsGone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		network := memnet.New(1)
		cfg := replica.Config{Transport: network.Node("a"), Peers: []replica.Peer{{ID: memnet.ID("b"), Addr: "mem:b"}}}
		a, err := replica.Open(cfg)
		if err != nil {
			t.Fatal(err)
		}
		defer a.Close()
		b, err := replica.Open(replica.Config{Transport: network.Node("b")})
		if err != nil {
			t.Fatal(err)
		}
		defer b.Close()
		g, err := New(Config{Replica: a})
		if err != nil {
			t.Fatal(err)
		}
		defer g.Close()
		s, err := a.Space("notes")
		if err != nil {
			t.Fatal(err)
		}
		edit := func(fn func(tx *replica.Tx) error) {
			if _, err := s.Update(t.Context(), fn); err != nil {
				t.Fatal(err)
			}
			synctest.Wait()
		}
		edit(func(tx *replica.Tx) error {
			return errors.Join(tx.Doc("stays").Set(crdt.Path{"x"}, 1), tx.Doc("goes").Set(crdt.Path{"x"}, 1))
		})
		v := newTraveller(t, "")
		visit := func() (reset bool) {
			t.Helper()
			since, err := replica.ParseCursor(v.cursor)
			if err != nil {
				t.Fatal(err)
			}
			sub, err := g.subscribe(s, filter{}, since, nil, func() {})
			if err != nil {
				t.Fatal(err)
			}
			defer sub.close()
			return v.drain(sub)
		}
		if visit() {
			t.Error("a client that begins is told to begin anew")
		}
		edit(func(tx *replica.Tx) error { return tx.Doc("goes").Delete() })
		edit(func(tx *replica.Tx) error { return tx.Doc("late").Set(crdt.Path{"x"}, 1) })
		<-time.After(10 * time.Minute)
		synctest.Wait()
		if !visit() {
			t.Error("nobody told the client to begin anew")
		}
		if len(v.docs) != 2 || v.docs["stays"].Doc == nil || v.docs["late"].Doc == nil {
			t.Errorf("the client has %v", v.docs)
		}
	})
}

func TestSpaceThatIsRemovedEndsItsSubscriptions(t *testing.T) {
	n := newNode(t, Config{}, replica.Config{})
	c := n.dial(readToken)
	c.send(`{"type":"subscribe","sub":"a","space":"notes","credit":9}`)
	c.until("level")
	e := n.events(readToken, "")
	defer e.close()
	for m, _ := e.next(); m.Type != "level"; m, _ = e.next() {
	}
	if err := n.replica.RemoveSpace(t.Context(), "notes"); err != nil {
		t.Fatal(err)
	}
	if m := c.next(); m.Type != "error" || m.Sub != "a" || m.Code != CodeNotFound {
		t.Errorf("%+v", m)
	}
	if m, _ := e.next(); m.Type != "error" || m.Code != CodeNotFound {
		t.Errorf("%+v", m)
	}
	c.send(`{"type":"ping","n":1}`)
	if m := c.next(); m.Type != "pong" {
		t.Errorf("the session ended as well: %+v", m)
	}
}

// A document that no message can carry is announced, and everything after it comes.
func TestDocumentThatIsTooLargeIsAnnounced(t *testing.T) {
	n := newNode(t, Config{}, replica.Config{})
	value := strings.Repeat("x", crdt.MaxValueBytes-16)
	for range 3 {
		n.update(func(tx *replica.Tx) {
			for i := range 6 {
				tx.Doc("large").Set(crdt.Path{fmt.Sprint(time.Now().UnixNano(), i)}, value)
			}
		})
	}
	n.set("small", "x", 1)
	for _, channel := range channels {
		v := newTraveller(t, "")
		v.visit(n, channel, 100)
		if v.docs["large"].Large < maxItemBytes || v.docs["large"].Doc != nil || v.docs["large"].Author == "" || v.docs["small"].Doc == nil {
			t.Errorf("%s: %+v", channel, v.docs)
		}
	}
}

// What everybody follows is encoded once, whoever reads how slowly.
func TestChangeIsEncodedOnceForAll(t *testing.T) {
	n := newNode(t, Config{WriteTimeout: time.Hour}, replica.Config{})
	subscribe := `{"type":"subscribe","sub":"a","space":"notes","credit":1000}`
	for range 5 { // and of these nobody reads anything
		rawWebSocket(t, n, subscribe)
	}
	const readers, changes = 40, 300
	var ready, done sync.WaitGroup
	for i := range readers {
		c := n.dial(readToken)
		c.loose = true
		c.send("%s", subscribe)
		ready.Add(1)
		done.Go(func() {
			c.until("level")
			ready.Done()
			var keys []string
			for len(keys) < changes {
				m := c.next()
				keys = append(keys, itemKeys(t, m)...)
			}
			for k, key := range keys {
				if key != fmt.Sprint(k) {
					t.Errorf("reader %d: change %d is that of %q", i, k, key)
					return
				}
			}
		})
	}
	ready.Wait()
	for i := range changes {
		n.set(fmt.Sprint(i), "text", strings.Repeat("x", 10_000))
	}
	done.Wait()
	if got := n.gateway.encoded.Load(); got != changes {
		t.Errorf("%d changes were encoded %d times for %d readers", changes, got, readers)
	}
}

// A reader that takes nothing is cut off, costs no more than what is on its way to it, and holds nobody up.
func TestSlowReaderIsCutOffAndHoldsNobodyUp(t *testing.T) {
	n := newNode(t, Config{WriteTimeout: 5 * time.Second}, replica.Config{})
	const slow = 20
	for range slow {
		rawWebSocket(t, n, `{"type":"subscribe","sub":"a","space":"notes","credit":1000}`)
	}
	wait(t, "all to be there", func() bool { return n.gateway.Stats().Connections["websocket"] == slow })
	c := n.dial(readToken)
	c.loose = true
	c.send(`{"type":"subscribe","sub":"a","space":"notes","credit":1000}`)
	c.until("level")
	before := heap()
	const changes, size = 800, 100_000 // 80 MB for each
	for i := range changes {
		n.set(fmt.Sprint(i%4), "text", strings.Repeat("x", size)+fmt.Sprint(i))
		for _, m := range []message{c.next()} {
			if len(m.Items) == 0 {
				t.Fatalf("%+v", m)
			}
		}
	}
	if grown := heap() - before; grown > ringBytes+slow*(1<<20) {
		t.Errorf("%d readers that take nothing cost %d MiB", slow, grown>>20)
	}
	wait(t, "the slow ones to be cut off", func() bool { return n.gateway.Stats().Connections["websocket"] == 1 })
}

func heap() int64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// What is deleted before a client begins it need not know of; what is deleted while it catches up it may have got already.
func TestDeletionDuringTheFirstCatchUpIsTold(t *testing.T) {
	n := newNode(t, Config{}, replica.Config{})
	for i := range maxBatchItems + 1 {
		n.set(fmt.Sprint(i), "x", i)
	}
	n.delete("1")
	c := n.dial(readToken)
	c.send(`{"type":"subscribe","sub":"a","space":"notes","credit":1}`)
	if m := c.next(); len(m.Items) != maxBatchItems {
		t.Fatalf("%s of %d", m.Type, len(m.Items))
	}
	n.delete("0")
	c.send(`{"type":"credit","sub":"a","add":9}`)
	if got := itemKeys(t, c.until("level")...); !slices.Equal(got, []string{"0"}) {
		t.Errorf("then came %q", got)
	}
}
