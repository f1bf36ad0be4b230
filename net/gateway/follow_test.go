package gateway

import (
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"testing"

	"github.com/anabranch-db/anabranch/crdt"
	"github.com/anabranch-db/anabranch/replica"
)

// traveller is a client that goes from channel to channel, and from node to node.
type traveller struct {
	t      *testing.T
	prefix string
	docs   map[string]clientItem
	node   *testNode
	cursor string
	vector string
	// resetting has the documents that came since a reset that is not over.
	resetting map[string]bool
	items     int
}

func newTraveller(t *testing.T, prefix string) *traveller {
	return &traveller{t: t, prefix: prefix, docs: map[string]clientItem{}, cursor: "0"}
}

// take applies one message as every client has to.
func (v *traveller) take(m message) {
	v.t.Helper()
	switch m.Type {
	case "reset":
		v.resetting = map[string]bool{}
		v.cursor = "0"
	case "changes":
		for _, text := range m.Items {
			it, err := parseItem(text)
			if err != nil {
				v.t.Fatal(err)
			}
			v.takeItem(it)
		}
		v.move(m.Cursor)
	case "level":
		v.move(m.Cursor)
		if m.Vector != "" {
			v.vector = m.Vector
		}
		for key := range v.docs {
			if v.resetting != nil && !v.resetting[key] {
				delete(v.docs, key)
			}
		}
		v.resetting = nil
	}
}

func (v *traveller) takeItem(it clientItem) {
	v.t.Helper()
	v.items++
	if arrival(v.t, it.Cursor) <= arrival(v.t, v.cursor) {
		v.t.Errorf("%q came at %s, after %s", it.Key, it.Cursor, v.cursor)
	}
	v.cursor = it.Cursor
	if !strings.HasPrefix(it.Key, v.prefix) {
		v.t.Errorf("%q came, which was not asked for", it.Key)
	}
	if v.resetting != nil {
		v.resetting[it.Key] = true
	}
	if it.Deleted {
		delete(v.docs, it.Key)
	} else {
		v.docs[it.Key] = it
	}
}

func (v *traveller) move(cursor string) {
	v.t.Helper()
	if arrival(v.t, cursor) < arrival(v.t, v.cursor) {
		v.t.Errorf("the cursor went back from %s to %s", v.cursor, cursor)
	}
	v.cursor = cursor
}

func arrival(t *testing.T, cursor string) uint64 {
	t.Helper()
	c, err := replica.ParseCursor(cursor)
	if err != nil {
		t.Fatal(err)
	}
	return c.Arrival
}

// visit goes to a node, by the portable cursor if it is another one than before, and takes messages until it is level, or has had so many.
func (v *traveller) visit(n *testNode, channel string, most int) {
	v.t.Helper()
	since, vector := v.cursor, ""
	if v.node != nil && v.node != n {
		since, vector = "", v.vector
		v.cursor = "0"
		if vector == "" { // it has none: everything anew
			v.resetting = map[string]bool{}
		}
	}
	v.node = n
	switch channel {
	case "websocket":
		v.visitWebSocket(n, since, vector, most)
	case "sse":
		v.visitEvents(n, since, vector, most)
	case "longpoll":
		v.visitPoll(n, since, vector, most)
	}
}

func (v *traveller) visitWebSocket(n *testNode, since, vector string, most int) {
	c := n.dial(readToken)
	defer c.close()
	c.send(`{"type":"subscribe","sub":"a","space":"notes","prefix":%q,"since":%q,"vector":%q,"credit":%d,"checkpoints":true}`, v.prefix, since, vector, most)
	for range most {
		m := c.next()
		if v.take(m); m.Type == "level" {
			return
		}
	}
}

func (v *traveller) visitEvents(n *testNode, since, vector string, most int) {
	c := n.events(readToken, query("prefix", v.prefix, "since", since, "vector", vector, "checkpoints", "1"))
	defer c.close()
	for range most {
		m, ok := c.next()
		if !ok {
			v.t.Fatal("the stream ended")
		}
		if v.take(m); (m.Type == "changes" || m.Type == "level") && c.id != m.Cursor {
			v.t.Errorf("the id is %q, and the cursor %q", c.id, m.Cursor)
		}
		if m.Type == "level" {
			return
		}
	}
}

func (v *traveller) visitPoll(n *testNode, since, vector string, most int) {
	for range most {
		status, m, _ := n.ask("GET", "/v1/spaces/notes/changes?"+query("prefix", v.prefix, "since", since, "vector", vector, "checkpoints", "1", "wait", "0", "limit", strconv.Itoa(1+most)), readToken, "")
		if status != 200 {
			v.t.Fatalf("%d: %+v", status, m)
		}
		if m.Reset {
			v.take(message{Type: "reset"})
		}
		m.Type = "changes"
		v.take(m)
		if m.Level {
			m.Type = "level"
			v.take(m)
			return
		}
		since, vector = v.cursor, ""
	}
}

var channels = []string{"websocket", "sse", "longpoll"}

func TestEachChannelBringsAClientUpAndKeepsItThere(t *testing.T) {
	for _, channel := range channels {
		t.Run(channel, func(t *testing.T) {
			n := newNode(t, Config{}, replica.Config{})
			for i := range 1200 {
				n.set(fmt.Sprintf("todo/%d", i), "i", i)
			}
			n.set("other", "x", 1)
			n.delete("todo/7")
			v := newTraveller(t, "todo/")
			v.visit(n, channel, 1000)
			n.expect(v.docs, "todo/")
			first := 1199
			if channel == "longpoll" {
				first++ // its later requests begin somewhere, and so are told of what is deleted
			}
			if v.items != first {
				t.Errorf("%d items came", v.items)
			}
			n.set("todo/3", "i", "again")
			n.delete("todo/5")
			n.set("todo/new", "i", 1)
			v.visit(n, channel, 1000)
			n.expect(v.docs, "todo/")
			if v.items != first+3 {
				t.Errorf("%d items came", v.items)
			}
		})
	}
}

// A client may leave any channel at any point and go on with another, and, by the portable cursor, at another node: nothing is lost, nothing
// comes again, and nothing goes back.
func TestClientThatChangesChannelsAndNodesLosesNothing(t *testing.T) {
	for seed := range uint64(6) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			rng := rand.New(rand.NewPCG(seed, 1))
			nodes := newNodes(t, 2, Config{}, replica.Config{PruneDelay: -1})
			v := newTraveller(t, []string{"", "a/"}[rng.IntN(2)])
			for range 25 {
				for range rng.IntN(60) {
					randomEdit(nodes[rng.IntN(2)], rng)
				}
				n := nodes[rng.IntN(8)/7] // seldom another one
				if v.node != nil && v.node != n {
					levelOut(t, nodes...) // so that the other one does not show less than was seen
				}
				v.visit(n, channels[rng.IntN(3)], 1+rng.IntN(12))
			}
			levelOut(t, nodes...)
			v.visit(nodes[0], channels[rng.IntN(3)], 1000)
			nodes[0].expect(v.docs, v.prefix)
		})
	}
}

func randomEdit(n *testNode, rng *rand.Rand) {
	key := fmt.Sprintf("%c/%d", 'a'+rng.IntN(2), rng.IntN(40))
	n.update(func(tx *replica.Tx) {
		d := tx.Doc(key)
		switch rng.IntN(6) {
		case 0:
			d.Delete()
		case 1:
			d.Increment(crdt.Path{"n"}, int64(rng.IntN(9)))
		case 2:
			d.Remove(crdt.Path{"x"})
		case 3:
			d.Set(crdt.Path{"x", "y"}, rng.IntN(100))
		default:
			d.Set(crdt.Path{"x"}, rng.IntN(100))
		}
	})
}
