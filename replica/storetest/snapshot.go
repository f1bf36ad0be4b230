package storetest

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"

	"github.com/anabranch-db/anabranch/replica/store"
)

func testSnapshotIsolation(t *testing.T, s store.Store) {
	const n = 40
	var snaps []store.Snapshot
	for i := range n {
		commit(t, s, pairs(fmt.Sprintf("a=%d", i), fmt.Sprintf("only %d=x", i), fmt.Sprintf("-only %d", i-1)))
		snaps = append(snaps, snapshot(t, s))
	}
	// Closing some must not take from the others what they see.
	for i := 0; i < n; i += 3 {
		snaps[i].Close()
	}
	for i := n; i < 2*n; i++ {
		commit(t, s, pairs(fmt.Sprintf("a=%d", i)))
	}
	for i, sn := range snaps {
		if i%3 == 0 {
			_, _, err := sn.Get([]byte("a"))
			wantError(t, "get from a closed snapshot", err, store.ErrClosed)
			continue
		}
		want := []string{fmt.Sprintf("a=%d", i), fmt.Sprintf("only %d=x", i)}
		wantEqual(t, fmt.Sprintf("snapshot %d", i), scan(t, sn, "", ""), want)
		wantEqual(t, fmt.Sprintf("snapshot %d", i), get(t, sn, "a"), fmt.Sprint(i))
	}
}

// One goroutine commits batches that move all keys to the next number; readers must never see two numbers.
func testSnapshotDuringCommit(t *testing.T, s store.Store) {
	const keys, commits, readers = 50, 150, 3
	write := func(i int) {
		var b store.Batch
		for k := range keys {
			b.Put(fmt.Appendf(nil, "k%02d", k), fmt.Appendf(nil, "%d", i))
		}
		commit(t, s, &b)
	}
	write(0)
	done := make(chan struct{})
	var wg sync.WaitGroup
	for range readers {
		wg.Go(func() {
			for last := 0; ; {
				sn, err := s.Snapshot()
				if err != nil {
					t.Errorf("snapshot: %v", err)
					return
				}
				now, err := oneNumber(sn, keys)
				sn.Close()
				if err != nil || now < last {
					t.Errorf("at %d after %d: %v", now, last, err)
					return
				}
				last = now
				select {
				case <-done:
					return
				default:
				}
			}
		})
	}
	for i := range commits {
		write(i + 1)
		sn := snapshot(t, s)
		wantEqual(t, "a snapshot opened after the commit", get(t, sn, "k00"), fmt.Sprint(i+1))
		sn.Close()
	}
	close(done)
	wg.Wait()
}

// oneNumber returns the number that all keys have, by scan and by get.
func oneNumber(sn store.Snapshot, keys int) (int, error) {
	var number, seen int
	for e, err := range sn.Scan(nil, nil) {
		if err != nil {
			return 0, err
		}
		var n int
		if _, err := fmt.Sscan(string(e.Value), &n); err != nil {
			return 0, err
		}
		if seen > 0 && n != number {
			return 0, fmt.Errorf("%s has %d where others have %d", e.Key, n, number)
		}
		number = n
		seen++
	}
	if seen != keys {
		return 0, fmt.Errorf("%d keys, want %d", seen, keys)
	}
	value, ok, err := sn.Get([]byte("k07"))
	if err != nil || !ok || string(value) != fmt.Sprint(number) {
		return 0, fmt.Errorf("get %q, %v, %w where the scan had %d", value, ok, err, number)
	}
	return number, nil
}

func testConcurrentSnapshots(t *testing.T, s store.Store) {
	const states, readers = 8, 6
	var snaps []store.Snapshot
	for i := range states {
		var b store.Batch
		for k := range 100 {
			b.Put(fmt.Appendf(nil, "k%02d", k), fmt.Appendf(nil, "%d", i))
		}
		commit(t, s, &b)
		snaps = append(snaps, snapshot(t, s))
	}
	var wg sync.WaitGroup
	for i, sn := range snaps {
		wg.Go(func() {
			for range 20 {
				if n, err := oneNumber(sn, 100); err != nil || n != i {
					t.Errorf("snapshot %d has %d: %v", i, n, err)
				}
			}
		})
	}
	for range readers {
		wg.Go(func() {
			for range 50 {
				sn, err := s.Snapshot()
				if err != nil {
					t.Errorf("snapshot: %v", err)
					return
				}
				if _, err := oneNumber(sn, 100); err != nil {
					t.Error(err)
				}
				sn.Close()
			}
		})
	}
	wg.Wait()
}

// model is a sorted map, the obvious way.
type model map[string]string

func (m model) scan(start, end string) []string {
	var out []string
	for k, v := range m {
		if k >= start && (end == "" || k < end) {
			out = append(out, k+"="+v)
		}
	}
	slices.Sort(out) // no key here contains a byte below '='
	return out
}

func (m model) clone() model {
	c := make(model, len(m))
	for k, v := range m {
		c[k] = v
	}
	return c
}

// step commits a random batch to both.
func (m model) step(t *testing.T, s store.Store, rng *rand.Rand) {
	t.Helper()
	var b store.Batch
	for range 1 + rng.IntN(30) {
		key := randomKey(rng)
		if rng.IntN(3) == 0 {
			b.Delete([]byte(key))
			delete(m, key)
			continue
		}
		value := fmt.Sprint(rng.IntN(1000))
		b.Put([]byte(key), []byte(value))
		m[key] = value
	}
	commit(t, s, &b)
}

func randomKey(rng *rand.Rand) string {
	key := make([]byte, 1+rng.IntN(3))
	for i := range key {
		key[i] = "abcdeXYZ"[rng.IntN(8)]
	}
	return string(key)
}

func testModel(t *testing.T, s store.Store) {
	rng := rand.New(rand.NewPCG(1, 2))
	type view struct {
		sn    store.Snapshot
		model model
	}
	m := model{}
	var views []view
	for i := range 300 {
		m.step(t, s, rng)
		views = append(views, view{snapshot(t, s), m.clone()})
		if len(views) > 10 {
			k := rng.IntN(len(views))
			views[k].sn.Close()
			views = slices.Delete(views, k, k+1)
		}
		v := views[rng.IntN(len(views))]
		start, end := randomKey(rng), randomKey(rng)
		wantEqual(t, fmt.Sprintf("step %d: scan %s to %s", i, start, end), scan(t, v.sn, start, end), v.model.scan(start, end))
		if want, ok := v.model[start]; ok {
			wantEqual(t, fmt.Sprintf("step %d: get %s", i, start), get(t, v.sn, start), want)
		} else {
			wantEqual(t, fmt.Sprintf("step %d: get %s", i, start), get(t, v.sn, start), "(none)")
		}
		if t.Failed() {
			return
		}
	}
	for _, v := range views {
		wantEqual(t, "everything", scan(t, v.sn, "", ""), v.model.scan("", ""))
	}
}
