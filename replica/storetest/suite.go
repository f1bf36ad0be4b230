package storetest

import (
	"bytes"
	"errors"
	"fmt"
	"testing"

	"github.com/anabranch-db/anabranch/replica/store"
)

// Run checks a store.Store. open returns an empty open store; the suite closes it.
func Run(t *testing.T, open func(t *testing.T) store.Store) {
	tests := []struct {
		name string
		run  func(t *testing.T, s store.Store)
	}{
		{"an empty store has nothing", testEmpty},
		{"get returns what was put last", testGet},
		{"a later operation on a key replaces an earlier one", testLastOperationCounts},
		{"deleting what is not there is no error", testDeleteMissing},
		{"empty values are values", testEmptyValue},
		{"the batch's memory stays the caller's", testBatchMemory},
		{"a got value stays as it is", testValueIsKept},
		{"an empty batch changes nothing", testEmptyBatch},
		{"any bytes make a key, in byte order", testKeyOrder},
		{"scan keeps to its bounds", testBounds},
		{"a scan can be left early, and begun anew", testEarlyBreak},
		{"scans can be nested", testNestedScans},
		{"a snapshot sees nothing later", testSnapshotIsolation},
		{"a snapshot opened during a commit sees none of it or all", testSnapshotDuringCommit},
		{"snapshots can be read by many at once", testConcurrentSnapshots},
		{"a batch at each limit is one commit", testLargestBatches},
		{"a batch over a limit is refused whole", testTooLarge},
		{"any history reads as a sorted map would", testModel},
		{"after close everything says so", testClosed},
		{"close ends the scans in progress", testCloseDuringScan},
		{"usage is about what was put in", testUsage},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			s := open(t)
			t.Cleanup(func() {
				if err := s.Close(); err != nil {
					t.Errorf("close: %v", err)
				}
			})
			test.run(t, s)
		})
	}
}

// RunDurable checks what a store keeps when it is closed and opened again. open opens the store in dir, which is empty
// at first.
func RunDurable(t *testing.T, open func(t *testing.T, dir string) store.Store) {
	tests := []struct {
		name string
		run  func(t *testing.T, reopen func() store.Store)
	}{
		{"what was committed is there", testReopen},
		{"what was deleted stays away", testReopenDeleted},
		{"a large batch is there whole", testReopenLarge},
		{"any history, closed at any point, reads as a sorted map would", testReopenModel},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			dir := t.TempDir()
			var s store.Store
			closeIt := func() {
				if s == nil {
					return
				}
				if err := s.Close(); err != nil {
					t.Fatalf("close: %v", err)
				}
			}
			t.Cleanup(closeIt)
			test.run(t, func() store.Store {
				closeIt()
				s = open(t, dir)
				return s
			})
		})
	}
}

// pairs makes a batch from "key=value" and "-key".
func pairs(ops ...string) *store.Batch {
	b := new(store.Batch)
	for _, op := range ops {
		if op[0] == '-' {
			b.Delete([]byte(op[1:]))
			continue
		}
		key, value, _ := bytes.Cut([]byte(op), []byte("="))
		b.Put(key, value)
	}
	return b
}

func commit(t *testing.T, s store.Store, b *store.Batch) {
	t.Helper()
	if err := s.Commit(b); err != nil {
		t.Fatalf("commit: %v", err)
	}
}

// snapshot opens a snapshot that is closed at the end of the test, if not before.
func snapshot(t *testing.T, s store.Store) store.Snapshot {
	t.Helper()
	sn, err := s.Snapshot()
	if err != nil {
		t.Fatalf("snapshot: %v", err)
	}
	t.Cleanup(sn.Close)
	return sn
}

// get returns the value, or "(none)".
func get(t *testing.T, sn store.Snapshot, key string) string {
	t.Helper()
	value, ok, err := sn.Get([]byte(key))
	if err != nil {
		t.Fatalf("get %q: %v", key, err)
	}
	if !ok {
		return "(none)"
	}
	return string(value)
}

// scan returns what Scan yields as "key=value" and checks that Keys yields the same keys.
func scan(t *testing.T, sn store.Snapshot, start, end string) []string {
	t.Helper()
	var got, keys []string
	for e, err := range sn.Scan(bound(start), bound(end)) {
		if err != nil {
			t.Fatalf("scan [%q, %q): %v", start, end, err)
		}
		got = append(got, fmt.Sprintf("%s=%s", e.Key, e.Value))
		keys = append(keys, string(e.Key))
	}
	i := 0
	for key, err := range sn.Keys(bound(start), bound(end)) {
		if err != nil {
			t.Fatalf("keys [%q, %q): %v", start, end, err)
		}
		if i >= len(keys) || string(key) != keys[i] {
			t.Fatalf("keys [%q, %q): %q comes as number %d, scan has %q", start, end, key, i, keys)
		}
		i++
	}
	if i != len(keys) {
		t.Fatalf("keys [%q, %q): %d keys, scan has %d", start, end, i, len(keys))
	}
	return got
}

// bound gives nil for "", which stands for no bound.
func bound(s string) []byte {
	if s == "" {
		return nil
	}
	return []byte(s)
}

func wantEqual(t *testing.T, what string, got, want any) {
	t.Helper()
	if g, w := fmt.Sprintf("%q", got), fmt.Sprintf("%q", want); g != w {
		t.Errorf("%s: got %s, want %s", what, g, w)
	}
}

func wantError(t *testing.T, what string, got, want error) {
	t.Helper()
	if !errors.Is(got, want) {
		t.Errorf("%s: got error %v, want %v", what, got, want)
	}
}
