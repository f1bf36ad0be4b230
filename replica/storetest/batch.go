package storetest

import (
	"bytes"
	"fmt"
	"testing"

	"github.com/anabranch-db/anabranch/replica/store"
)

func testEmpty(t *testing.T, s store.Store) {
	sn := snapshot(t, s)
	wantEqual(t, "get", get(t, sn, "a"), "(none)")
	wantEqual(t, "scan", scan(t, sn, "", ""), []string(nil))
}

func testGet(t *testing.T, s store.Store) {
	commit(t, s, pairs("a=1", "b=1", "c=1"))
	commit(t, s, pairs("a=2", "-b"))
	commit(t, s, pairs("a=3"))
	sn := snapshot(t, s)
	for key, want := range map[string]string{"a": "3", "b": "(none)", "c": "1", "d": "(none)", "": "(none)", "aa": "(none)"} {
		wantEqual(t, "get "+key, get(t, sn, key), want)
	}
}

func testLastOperationCounts(t *testing.T, s store.Store) {
	commit(t, s, pairs("old=1"))
	commit(t, s, pairs("put twice=1", "put twice=2", "put, deleted=1", "-put, deleted", "-deleted, put", "deleted, put=1", "-old", "old=2", "-old"))
	sn := snapshot(t, s)
	wantEqual(t, "scan", scan(t, sn, "", ""), []string{"deleted, put=1", "put twice=2"})
}

func testDeleteMissing(t *testing.T, s store.Store) {
	commit(t, s, pairs("-a"))
	commit(t, s, pairs("b=1", "-a"))
	commit(t, s, pairs("-b"))
	commit(t, s, pairs("-b"))
	wantEqual(t, "scan", scan(t, snapshot(t, s), "", ""), []string(nil))
	commit(t, s, pairs("b=2"))
	wantEqual(t, "scan", scan(t, snapshot(t, s), "", ""), []string{"b=2"})
}

func testEmptyValue(t *testing.T, s store.Store) {
	var b store.Batch
	b.Put([]byte("empty"), []byte{})
	b.Put([]byte("nil"), nil)
	commit(t, s, &b)
	sn := snapshot(t, s)
	wantEqual(t, "get empty", get(t, sn, "empty"), "")
	wantEqual(t, "get nil", get(t, sn, "nil"), "")
	wantEqual(t, "scan", scan(t, sn, "", ""), []string{"empty=", "nil="})
}

func testBatchMemory(t *testing.T, s store.Store) {
	key, value := []byte("key"), []byte("value")
	var b store.Batch
	b.Put(key, value)
	commit(t, s, &b)
	copy(key, "xxx")
	copy(value, "yyyyy")
	wantEqual(t, "scan", scan(t, snapshot(t, s), "", ""), []string{"key=value"})
}

func testValueIsKept(t *testing.T, s store.Store) {
	commit(t, s, pairs("a=first", "b=other"))
	sn := snapshot(t, s)
	value, _, err := sn.Get([]byte("a"))
	if err != nil {
		t.Fatal(err)
	}
	get(t, sn, "b")
	scan(t, sn, "", "")
	commit(t, s, pairs("a=second"))
	get(t, snapshot(t, s), "a")
	sn.Close()
	wantEqual(t, "the value got before", string(value), "first")
}

func testEmptyBatch(t *testing.T, s store.Store) {
	commit(t, s, pairs("a=1"))
	commit(t, s, new(store.Batch))
	wantEqual(t, "scan", scan(t, snapshot(t, s), "", ""), []string{"a=1"})
}

// Batches at each limit, one after the other, each visible whole.
func testLargestBatches(t *testing.T, s store.Store) {
	if testing.Short() {
		t.Skip("takes 40 seconds under the race detector")
	}
	value := bytes.Repeat([]byte("v"), store.MaxValueBytes)
	var values, entries, keys store.Batch
	for i := 0; values.Bytes()+store.MaxValueBytes+8 <= store.MaxBatchBytes; i++ {
		values.Put(fmt.Appendf(nil, "v%07d", i), value)
	}
	rest := store.MaxBatchBytes - values.Bytes() - 4
	values.Put([]byte("vvvv"), value[:rest])
	for i := range store.MaxBatchEntries {
		entries.Put(fmt.Appendf(nil, "e%07d", i), []byte("small"))
	}
	for i := range store.MaxBatchBytes / store.MaxKeyBytes {
		keys.Put(fmt.Appendf(nil, "k%0*d", store.MaxKeyBytes-1, i), nil)
	}
	for _, b := range []*store.Batch{&values, &entries, &keys} {
		commit(t, s, b)
		checkBatch(t, s, b)
	}
	// And small ones go on after them, in their order.
	commit(t, s, pairs("e0000000=again", "-vvvv"))
	sn := snapshot(t, s)
	wantEqual(t, "get", get(t, sn, "e0000000"), "again")
	wantEqual(t, "get", get(t, sn, "vvvv"), "(none)")
	wantEqual(t, "number of keys", count(t, sn), values.Len()+entries.Len()+keys.Len()-1)
}

// checkBatch checks that everything the batch put is there.
func checkBatch(t *testing.T, s store.Store, b *store.Batch) {
	t.Helper()
	sn, err := s.Snapshot()
	if err != nil {
		t.Fatal(err)
	}
	defer sn.Close()
	for key, op := range b.All() {
		value, ok, err := sn.Get([]byte(key))
		if err != nil || ok == op.Delete || !bytes.Equal(value, op.Value) {
			t.Fatalf("get %.20q: %d bytes, %v, %v; want %d bytes", key, len(value), ok, err, len(op.Value))
		}
	}
}

func count(t *testing.T, sn store.Snapshot) int {
	t.Helper()
	n := 0
	for _, err := range sn.Keys(nil, nil) {
		if err != nil {
			t.Fatal(err)
		}
		n++
	}
	return n
}

func testTooLarge(t *testing.T, s store.Store) {
	commit(t, s, pairs("a=1"))
	tests := map[string]func(b *store.Batch){
		"bytes": func(b *store.Batch) {
			for i := 0; b.Bytes() <= store.MaxBatchBytes; i++ {
				b.Put(fmt.Appendf(nil, "%d", i), make([]byte, 1<<19))
			}
		},
		"entries": func(b *store.Batch) {
			for i := range store.MaxBatchEntries {
				b.Put(fmt.Appendf(nil, "%d", i), nil)
			}
		},
		"a key":         func(b *store.Batch) { b.Put(make([]byte, store.MaxKeyBytes+1), nil) },
		"a value":       func(b *store.Batch) { b.Put([]byte("b"), make([]byte, store.MaxValueBytes+1)) },
		"a deleted key": func(b *store.Batch) { b.Delete(make([]byte, store.MaxKeyBytes+1)) },
	}
	for name, fill := range tests {
		b := pairs("a=2")
		fill(b)
		wantError(t, "one over the limit of "+name, s.Commit(b), store.ErrBatchTooLarge)
	}
	wantEqual(t, "scan", scan(t, snapshot(t, s), "", ""), []string{"a=1"})
	commit(t, s, pairs("a=3"))
	wantEqual(t, "scan", scan(t, snapshot(t, s), "", ""), []string{"a=3"})
}
