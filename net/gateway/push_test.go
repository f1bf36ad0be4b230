package gateway

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/anabranch-db/anabranch/crdt"
	"github.com/anabranch-db/anabranch/crdt/hlc"
	"github.com/anabranch-db/anabranch/replica"
)

const clientID = "00000000c11e0001"

// transaction is the text of one.
func transaction(seq int, ops ...string) string {
	return fmt.Sprintf(`{"seq":%d,"at":%d,"ops":[%s]}`, seq, 1_790_000_000_000+seq, strings.Join(ops, ","))
}

func setOp(key, path string, value any) string {
	return fmt.Sprintf(`{"op":"set","key":%q,"path":%q,"value":%v}`, key, path, value)
}

// pushOver pushes over a channel and returns what became of it.
func pushOver(t *testing.T, n *testNode, channel string, extra string, txs ...string) []transactionResult {
	t.Helper()
	body := fmt.Sprintf(`"client":%q,%s"transactions":[%s]}`, clientID, extra, strings.Join(txs, ","))
	if channel == "websocket" {
		c := n.dial(writeToken)
		defer c.close()
		c.send(`{"type":"push","space":"notes",%s`, body)
		m := c.next()
		if m.Type != "ack" || m.Space != "notes" || m.Client != clientID {
			t.Fatalf("%+v", m)
		}
		return m.Results
	}
	status, m, h := n.ask("POST", "/v1/spaces/notes/push", writeToken, "{"+body)
	if status != 200 || h.Get(nodeHeader) != n.gateway.node() {
		t.Fatalf("%d %+v", status, m)
	}
	return m.Results
}

func describeResults(all []transactionResult) string {
	var b strings.Builder
	for _, r := range all {
		fmt.Fprintf(&b, "%d %s", r.Seq, r.Status)
		if r.Code != "" {
			b.WriteString(" " + r.Code)
		}
		if r.Duplicate {
			b.WriteString(" duplicate")
		}
		b.WriteString("; ")
	}
	return strings.TrimSuffix(b.String(), "; ")
}

func (n *testNode) shows(key string) string {
	n.t.Helper()
	d, err := n.space.Get(context.Background(), key)
	if err != nil {
		return err.Error()
	}
	return string(d.AppendJSON(nil))
}

var pushChannels = []string{"websocket", "post"}

func TestTransactionIsMadeOnce(t *testing.T) {
	for _, channel := range pushChannels {
		t.Run(channel, func(t *testing.T) {
			n := newNode(t, Config{}, replica.Config{})
			inc := `{"op":"increment","key":"k","path":"/n","by":2}`
			all := pushOver(t, n, channel, "", transaction(1, inc), transaction(2, inc, setOp("k", "/x", `"a"`)))
			if got := describeResults(all); got != "1 accepted; 2 accepted" {
				t.Error(got)
			}
			if all[0].Dot == "" || all[1].Cursor != n.space.Cursor().String() {
				t.Errorf("%+v, the node is at %s", all, n.space.Cursor())
			}
			again := pushOver(t, n, channel, "", transaction(1, inc), transaction(2, inc), transaction(4, inc))
			if got := describeResults(again); got != "1 accepted duplicate; 2 accepted duplicate; 4 accepted" {
				t.Error(got)
			}
			if got := n.shows("k"); got != `{"n":6,"x":"a"}` {
				t.Error(got)
			}
		})
	}
}

func TestRejectedTransactionHoldsNobodyUp(t *testing.T) {
	for _, channel := range pushChannels {
		t.Run(channel, func(t *testing.T) {
			n := newNode(t, Config{}, replica.Config{})
			bad := transaction(2, `{"op":"frobnicate","key":"k"}`)
			all := pushOver(t, n, channel, "", transaction(1, setOp("k", "/x", 1)), bad, transaction(3, setOp("k", "/y", 3)))
			if got := describeResults(all); got != "1 accepted; 2 rejected bad-request; 3 accepted" {
				t.Error(got)
			}
			if all[1].Detail == "" {
				t.Error("it does not say why")
			}
			again := pushOver(t, n, channel, "", transaction(2, setOp("k", "/x", "2")))
			if got := describeResults(again); got != "2 rejected bad-request duplicate" {
				t.Error(got)
			}
			if got := n.shows("k"); got != `{"x":1,"y":3}` {
				t.Error(got)
			}
		})
	}
}

// A transaction that has to wait is not overtaken by later ones.
func TestTransactionThatHasToWaitIsNotOvertaken(t *testing.T) {
	n := newNode(t, Config{}, replica.Config{})
	unknown := string(appendDot(nil, crdt.Dot{Replica: 77, Time: hlc.FromUnixMilli(1_790_000_000_000)}))
	waits := func(force string) string {
		return fmt.Sprintf(`{"seq":2,"at":1790000000002,%s"ops":[{"op":"remove","key":"k","path":"/x","seen":{%q:["/x"]}}]}`, force, unknown)
	}
	c := n.dial(writeToken)
	push := func(txs ...string) string {
		c.send(`{"type":"push","space":"notes","client":%q,"replicate":0,"transactions":[%s]}`, clientID, strings.Join(txs, ","))
		return describeResults(c.next().Results)
	}
	if got := push(transaction(1, setOp("k", "/x", 1)), waits(""), transaction(3, setOp("k", "/y", 1))); got != "1 accepted; 2 retry behind; 3 retry stalled" {
		t.Error(got)
	}
	if got := push(transaction(1), transaction(4, setOp("k", "/z", 1))); got != "1 accepted duplicate; 4 retry stalled" {
		t.Error(got)
	}
	if got := push(waits(""), transaction(3)); got != "2 retry behind; 3 retry stalled" {
		t.Error(got)
	}
	if got := push(waits(`"force":true,`), transaction(3, setOp("k", "/y", 1))); got != "2 accepted; 3 accepted" {
		t.Error(got)
	}
	if got := n.shows("k"); got != `{"y":1}` { // what the client itself had written it knew
		t.Error(got)
	}
}

func TestWhoMayNotWriteIsTold(t *testing.T) {
	n := newNode(t, Config{}, replica.Config{})
	c := n.dial(readToken)
	c.send(`{"type":"push","space":"notes","client":%q,"transactions":[%s]}`, clientID, transaction(1, setOp("k", "/x", 1)))
	if got := describeResults(c.next().Results); got != "1 rejected forbidden" {
		t.Error(got)
	}
	n.tokens.set("other", Grant{Subject: "carol", Space: "elsewhere", Rights: replica.WriteRights})
	o := n.dial("other")
	o.send(`{"type":"push","space":"notes","client":%q,"transactions":[%s]}`, clientID, transaction(1, setOp("k", "/x", 1)))
	if got := describeResults(o.next().Results); got != "1 rejected forbidden" {
		t.Error(got)
	}
	// A client ID belongs to whom it was used by first.
	pushOver(t, n, "post", "", transaction(1, setOp("k", "/x", 1)))
	n.tokens.set("mallory", Grant{Subject: "mallory", Space: "notes", Rights: replica.WriteRights})
	m := n.dial("mallory")
	m.send(`{"type":"push","space":"notes","client":%q,"transactions":[%s]}`, clientID, transaction(2, setOp("k", "/x", 2)))
	if got := describeResults(m.next().Results); got != "2 rejected client-taken" {
		t.Error(got)
	}
	if got := n.shows("k"); got != `{"x":1}` {
		t.Error(got)
	}
}

func TestPushThatIsMeantForAnotherNodeIsRefused(t *testing.T) {
	n := newNode(t, Config{}, replica.Config{})
	tx := transaction(1, setOp("k", "/x", 1))
	if got := describeResults(pushOver(t, n, "post", fmt.Sprintf(`"node":%q,`, n.gateway.node()), tx)); got != "1 accepted" {
		t.Error(got)
	}
	status, m, _ := n.ask("POST", "/v1/spaces/notes/push", writeToken, fmt.Sprintf(`{"node":"00000000000000aa","client":%q,"transactions":[%s]}`, clientID, transaction(2, setOp("k", "/x", 2))))
	if status != 409 || m.Code != codeOtherNode {
		t.Errorf("%d %+v", status, m)
	}
	c := n.dial(writeToken)
	c.send(`{"type":"push","node":"00000000000000aa","space":"notes","client":%q,"transactions":[%s]}`, clientID, transaction(2, setOp("k", "/x", 2)))
	if m := c.next(); m.Type != "error" || m.Code != codeOtherNode {
		t.Errorf("%+v", m)
	}
	if got := n.shows("k"); got != `{"x":1}` {
		t.Error(got)
	}
}

func TestPostedPushThatDoesNotParseIsRefused(t *testing.T) {
	n := newNode(t, Config{}, replica.Config{})
	for _, body := range []string{"", "{", `{"client":"x","transactions":[]}`, `{"client":"` + clientID + `","transactions":[{"ops":[]}]}`} {
		if status, m, _ := n.ask("POST", "/v1/spaces/notes/push", writeToken, body); status != 400 || m.Code != CodeBadRequest {
			t.Errorf("%s: %d %+v", body, status, m)
		}
	}
}

// Whoever follows the space learns that an acknowledged write has come by, also if it is not among what is followed.
func TestCursorOfAnAcknowledgementIsReached(t *testing.T) {
	n := newNode(t, Config{}, replica.Config{})
	c := n.dial(writeToken)
	c.send(`{"type":"subscribe","sub":"a","space":"notes","prefix":"todo/","credit":100}`)
	c.until("level")
	c.send(`{"type":"push","space":"notes","client":%q,"replicate":0,"transactions":[%s,%s]}`, clientID, transaction(1, setOp("todo/1", "/x", 1)), transaction(2, setOp("elsewhere", "/x", 1)))
	var acked, came uint64
	for items := 0; acked == 0 || came < acked; {
		switch m := c.next(); m.Type {
		case "ack":
			acked = arrival(t, m.Results[1].Cursor)
		case "changes":
			items += len(m.Items)
			came = arrival(t, m.Cursor)
		case "level":
			if came = arrival(t, m.Cursor); items == 0 && came > 1 {
				t.Error("the cursor passed what was not sent")
			}
		}
	}
}

func TestClientsAreToldWhatOtherNodesHold(t *testing.T) {
	nodes := newNodes(t, 3, Config{}, replica.Config{})
	n := nodes[0]
	c := n.dial(writeToken)
	c.send(`{"type":"push","space":"notes","client":%q,"replicate":2,"transactions":[%s,%s]}`, clientID, transaction(1, setOp("k", "/x", 1)), transaction(2, setOp("k", "/y", 1)))
	if m := c.next(); m.Type != "ack" {
		t.Errorf("%+v", m)
	}
	held := map[int]uint64{}
	for held[1] < 2 || held[2] < 2 {
		m := c.next()
		if m.Type != "replicated" || m.Space != "notes" || m.Client != clientID || m.Seq < held[m.Nodes] {
			t.Fatalf("%+v", m)
		}
		held[m.Nodes] = m.Seq
	}
	c.send(`{"type":"push","space":"notes","client":%q,"replicate":2,"transactions":[%s]}`, clientID, transaction(3, setOp("k", "/x", 2)))
	c.until("ack")
	for held[1] < 3 || held[2] < 3 {
		held[c.next().Nodes] = 3
	}
	c.close()

	// Who connects anew asks by an empty push.
	d := n.dial(writeToken)
	d.send(`{"type":"push","space":"notes","client":%q,"floor":4,"replicate":1,"transactions":[]}`, clientID)
	if m := d.next(); m.Type != "ack" || len(m.Results) != 0 {
		t.Errorf("%+v", m)
	}
	if m := d.next(); m.Type != "replicated" || m.Seq != 3 || m.Nodes != 1 {
		t.Errorf("%+v", m)
	}

	// The other channels tell of what was posted.
	events := n.events(writeToken, query("client", clientID, "replicate", "1"))
	defer events.close()
	for {
		m, ok := events.next()
		if !ok {
			t.Fatal("the stream ended")
		}
		if m.Type == "replicated" {
			if m.Seq != 3 || m.Client != clientID {
				t.Errorf("%+v", m)
			}
			break
		}
	}
	cursor := n.space.Cursor().String()
	_, m, _ := n.ask("GET", "/v1/spaces/notes/changes?"+query("since", cursor, "client", clientID, "replicate", "1", "wait", "60s"), writeToken, "")
	if len(m.Replicated) != 1 || m.Replicated[0].Seq != 3 {
		t.Errorf("%+v", m)
	}
	status, _, h := n.ask("GET", "/v1/spaces/notes/changes?"+query("since", cursor, "client", clientID, "replicated", "3", "wait", "10ms"), writeToken, "")
	if status != 204 || h.Get(cursorHeader) != cursor {
		t.Errorf("%d %v", status, h)
	}
}

// A client that reads a document, whatever state it is in, and saves another sees that one; what it had not read survives.
func TestWhatAClientSavesIsWhatShows(t *testing.T) {
	nodes := newNodes(t, 2, Config{}, replica.Config{})
	a, b := nodes[0], nodes[1]
	rng := rand.New(rand.NewPCG(7, 7))
	for seq := 1; seq <= 60; seq++ {
		key := fmt.Sprintf("a/%d", rng.IntN(4))
		for range 1 + rng.IntN(3) { // both nodes write, without waiting for each other: some of it is concurrent
			messUp(a, key, rng)
			messUp(b, key, rng)
		}
		levelOut(t, a, b)
		read := clientDocument{key: key, deleted: true}
		if d, err := a.space.Get(t.Context(), key); err == nil {
			read = readItem(t, appendItem(nil, replica.Change{Key: key, Cursor: d.Cursor, Document: d}))
		}
		want := randomDocument(rng)
		var ops []string
		for _, op := range read.edit(t, vectorEdit{Save: jsontext.Value(want)}) {
			ops = append(ops, string(op))
		}
		// Something that the client has not seen comes in between.
		b.update(func(tx *replica.Tx) { tx.Doc(key).Set(crdt.Path{"unseen"}, seq) })
		levelOut(t, a, b)
		at := time.Now().Add(time.Hour).UnixMilli()
		results := pushOver(t, a, "post", "", fmt.Sprintf(`{"seq":%d,"at":%d,"ops":[%s]}`, seq, at, strings.Join(ops, ",")))
		if got := describeResults(results); got != fmt.Sprintf("%d accepted", seq) {
			t.Fatal(got, results)
		}
		var shown, wanted map[string]any
		if err := json.Unmarshal([]byte(a.shows(key)), &shown); err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal([]byte(want), &wanted); err != nil {
			t.Fatal(err)
		}
		if shown["unseen"] != float64(seq) {
			t.Fatalf("what came in between is gone: %v", shown)
		}
		delete(shown, "unseen")
		if fmt.Sprint(shown) != fmt.Sprint(wanted) {
			t.Fatalf("read %s (%v), saved %s by %s, and %v shows", read.doc, read.cells, want, ops, shown)
		}
	}
}

func messUp(n *testNode, key string, rng *rand.Rand) {
	n.update(func(tx *replica.Tx) {
		d, p := tx.Doc(key), crdt.Path{string(rune('p' + rng.IntN(2)))}
		if rng.IntN(2) == 0 {
			p = append(p, string(rune('p'+rng.IntN(2))))
		}
		switch rng.IntN(6) {
		case 0:
			d.Remove(p)
		case 1:
			d.Increment(p, 1)
		case 2:
			d.Set(p, map[string]any{})
		default:
			d.Set(p, rng.IntN(9))
		}
	})
}

func randomDocument(rng *rand.Rand) string {
	var fields []string
	for _, name := range []string{"p", "q"} {
		switch rng.IntN(4) {
		case 0:
			fields = append(fields, fmt.Sprintf(`%q:%d`, name, rng.IntN(9)))
		case 1:
			fields = append(fields, fmt.Sprintf(`%q:{"p":%d}`, name, rng.IntN(9)))
		case 2:
			fields = append(fields, fmt.Sprintf(`%q:{}`, name))
		}
	}
	return "{" + strings.Join(fields, ",") + "}"
}
