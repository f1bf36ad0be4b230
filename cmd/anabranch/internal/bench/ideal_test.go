package bench

import (
	"context"
	"reflect"
	"testing"
	"time"
)

func openPair(t *testing.T, a, b string) (*ideal, *ideal) {
	t.Helper()
	var nodes [2]*ideal
	for i, dir := range []string{a, b} {
		s, err := openIdeal(openArgs{Dir: dir, Sync: syncAlways})
		if err != nil {
			t.Fatal(err)
		}
		nodes[i] = s.(*ideal)
	}
	return nodes[0], nodes[1]
}

func closeAll(t *testing.T, nodes ...*ideal) {
	t.Helper()
	for _, e := range nodes {
		if err := e.close(); err != nil {
			t.Errorf("close: %v", err)
		}
	}
}

// content returns the documents of a node.
func (e *ideal) content(t *testing.T) map[string][]field {
	t.Helper()
	all := make(map[string][]field)
	txn := e.db.NewTransactionAt(e.db.MaxVersion(), false)
	defer txn.Discard()
	for n := range 2000 {
		key := generator{}.key(n)
		v, err := get(txn, documentKey(key))
		if err != nil {
			t.Fatal(err)
		}
		if r, ok := parseStored(v); ok && len(r.value) > 0 {
			if all[key], err = unpackFields(r.value); err != nil {
				t.Fatal(err)
			}
		}
	}
	return all
}

// TestIdealDoesTheWork guards the yardstick: were it to skip a part of the work, ours would look slower than it is.
func TestIdealDoesTheWork(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	g := generator{}
	dirA, dirB := t.TempDir(), t.TempDir()
	a, b := openPair(t, dirA, dirB)
	for n := range 1200 { // more than one frame
		c := change{key: g.key(n), value: packFields(g.document(n, 0).Fields), ended: func(uint64, error) {}}
		if err := a.submit(c); err != nil {
			t.Fatal(err)
		}
	}
	last, err := a.put(ctx, g.document(1200, 0))
	if err != nil {
		t.Fatal(err)
	}
	meet := func(m mark) {
		t.Helper()
		addr, _ := a.addr()
		if err := b.dial(addr, ""); err != nil {
			t.Fatal(err)
		}
		if err := a.acked(ctx, m, 1); err != nil {
			t.Fatal(err)
		}
	}
	meet(last)
	if got := b.content(t); len(got) != 1201 || !reflect.DeepEqual(got, a.content(t)) {
		t.Fatalf("the peer has %d documents, want the same 1201", len(got))
	}
	closeAll(t, a, b)

	a, b = openPair(t, dirA, dirB)
	defer func() { closeAll(t, a, b) }()
	want := g.document(5, 2).field("note")
	if _, err := a.set(ctx, g.key(5), want); err != nil {
		t.Fatal(err)
	}
	if last, err = a.remove(ctx, g.key(6)); err != nil {
		t.Fatal(err)
	}
	meet(last)
	got := b.content(t)
	if (document{Fields: got[g.key(5)]}).field("note") != want || got[g.key(6)] != nil || len(got) != 1200 {
		t.Errorf("after a change and a removal the peer has %d documents, and %v", len(got), got[g.key(5)])
	}
	if sent, received := b.traffic(); sent+received == 0 || sent+received > 20_000 {
		t.Errorf("%d and %d bytes went over the wire for two changes", sent, received)
	}
	logs, feeds := b.countKeys("l"), b.countKeys("f")
	if logs != 1201 || feeds != 1201 {
		t.Errorf("%d log and %d feed entries, want one of each for each of 1201 documents", logs, feeds)
	}
}

func (e *ideal) countKeys(prefix string) int {
	n := 0
	txn := e.db.NewTransactionAt(e.db.MaxVersion(), false)
	defer txn.Discard()
	it := txn.NewIterator(keysOnly(prefix))
	defer it.Close()
	for it.Rewind(); it.Valid(); it.Next() {
		n++
	}
	return n
}

func TestFramesThatAreCutShortAreRefused(t *testing.T) {
	f := encodeFrame(9, 1, 4, []change{{key: "a", value: []byte("one"), time: 2}, {key: "b", time: 4}})
	body := f.bytes[5:]
	got, err := parseFrame(body)
	if err != nil || got.origin != 9 || got.time != 4 || len(got.frame) != 2 || got.frame[0].time != 2 || got.frame[1].value != nil {
		t.Fatalf("%+v, %v", got, err)
	}
	for n := range body {
		if _, err := parseFrame(body[:n]); err == nil {
			t.Errorf("cut after %d of %d bytes: no error", n, len(body))
		}
	}
}
