package replica_test

import (
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/anabranch-db/anabranch/net/memnet"
	"github.com/anabranch-db/anabranch/replica"
	"github.com/anabranch-db/anabranch/replica/memstore"
	"github.com/anabranch-db/anabranch/replica/store"
)

// slowStore takes its time for each commit, in the time of the bubble.
type slowStore struct {
	*memstore.Store
	takes   []time.Duration // one commit after the other, over and over
	commits atomic.Int64
}

func (s *slowStore) Commit(b *store.Batch) error {
	n := s.commits.Add(1)
	time.Sleep(s.takes[int(n)%len(s.takes)])
	return s.Store.Commit(b)
}

// slowPair is a writer and a reader. Of the reader's commits some are longer than the writer's, so that the next delta comes meanwhile,
// and most are not.
type slowPair struct {
	writer, reader *replica.Space
	stored         *slowStore // of the reader
}

const (
	writerCommits = 300 * time.Microsecond
	readerCommits = 500 * time.Microsecond // at most
	longestGather = 2 * time.Millisecond
)

func newSlowPair(t *testing.T, mode replica.SyncMode) *slowPair {
	t.Helper()
	network := memnet.New(1)
	p := &slowPair{stored: &slowStore{Store: memstore.New(), takes: []time.Duration{readerCommits, readerCommits / 2, readerCommits / 4}}}
	node := func(name string, st *slowStore, peers ...replica.Peer) *replica.Space {
		r, err := replica.OpenOn(replica.Config{Transport: network.Node(name), Peers: peers, Sync: mode, ScrubInterval: time.Hour}, st)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := r.Close(); err != nil {
				t.Errorf("close: %v", err)
			}
		})
		return space(t, r)
	}
	p.reader = node("reader", p.stored)
	p.writer = node("writer", &slowStore{Store: memstore.New(), takes: []time.Duration{writerCommits}}, replica.Peer{ID: memnet.ID("reader"), Addr: "mem:reader"})
	set(t, p.writer, "first", "f", 0)
	waitLevel(t, p.writer, p.reader)
	time.Sleep(time.Second) // what the two tell each other besides is over
	return p
}

// synced writes one document and returns how long it took until the reader had it durably.
func (p *slowPair) synced(t *testing.T, i int) time.Duration {
	t.Helper()
	began := time.Now()
	if err := p.writer.WaitSynced(t.Context(), set(t, p.writer, fmt.Sprint("d", i), "f", i), 1); err != nil {
		t.Error(err)
	}
	return time.Since(began)
}

// A peer that sends on gets fewer commits than it sends deltas, and none of them is held up for long.
func TestAStreamSharesCommits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newSlowPair(t, replica.SyncAlways)
		const writes = 400
		began := make(map[string]time.Time)
		var watching sync.WaitGroup
		seen := make(map[string]time.Time)
		since := p.reader.Cursor()
		watching.Go(func() {
			for c, err := range p.reader.Watch(t.Context(), since) {
				if err != nil {
					t.Error(err)
				}
				if seen[c.Key] = time.Now(); len(seen) == writes {
					return
				}
			}
		})
		before := p.stored.commits.Load()
		for i := range writes {
			key := fmt.Sprint("d", i)
			began[key] = time.Now()
			set(t, p.writer, key, "f", i)
		}
		watching.Wait()
		if commits := p.stored.commits.Load() - before; commits > writes/4+10 {
			t.Errorf("%d commits for %d deltas", commits, writes)
		}
		most := 4*writerCommits + 2*readerCommits
		for i := range writes {
			if i == writes-4 { // what comes after the last whole group of four waits for as long as it may
				most = writerCommits + longestGather + 2*readerCommits
			}
			key := fmt.Sprint("d", i)
			if took := seen[key].Sub(began[key]); took > most {
				t.Errorf("%s took %v until it was seen at the peer, and may take %v", key, took, most)
			}
		}
		waitLevel(t, p.writer, p.reader)
	})
}

// What is not of a stream does not wait, not even after one.
func TestALoneDeltaIsCommittedAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newSlowPair(t, replica.SyncAlways)
		check := func(when string, pause time.Duration) {
			for i := range 10 {
				time.Sleep(pause)
				if took := p.synced(t, i); took > writerCommits+readerCommits {
					t.Errorf("%s: %v until it was durable at both, and the commits take %v", when, took, writerCommits+readerCommits)
				}
			}
		}
		check("one after the other", 0)
		for stream := range 8 {
			for i := range 40 + stream {
				set(t, p.writer, fmt.Sprint("d", i), "f", -i)
			}
			waitLevel(t, p.writer, p.reader)
			check(fmt.Sprintf("after a stream of %d", 40+stream), 10*time.Millisecond)
		}
	})
}

// A transaction of the reader's own ends the wait.
func TestALocalTransactionDoesNotWaitForAStream(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newSlowPair(t, replica.SyncAlways)
		stop := make(chan struct{})
		var stream sync.WaitGroup
		stream.Go(func() {
			for i := 0; ; i++ {
				select {
				case <-stop:
					return
				default:
					set(t, p.writer, fmt.Sprint("d", i), "f", i)
				}
			}
		})
		for i := range 100 {
			time.Sleep(time.Millisecond + time.Duration(i)*37*time.Microsecond)
			began := time.Now()
			set(t, p.reader, "own", "f", i)
			if took := time.Since(began); took > 2*readerCommits {
				t.Errorf("a local transaction took %v; a commit takes %v, and one more may be under way", took, readerCommits)
			}
		}
		close(stop)
		stream.Wait()
		waitLevel(t, p.writer, p.reader)
	})
}

// Writers that wait for the peer after each write have never enough under way to be worth waiting for. The peer finds out and lets them be: they take
// hardly longer than where it never waits, as it does when commits are not synced.
func TestWritersThatWaitAreNotHeldUp(t *testing.T) {
	const each = 500
	for _, writers := range []int{1, 2, 3} {
		var took [2]time.Duration
		for i, mode := range []replica.SyncMode{replica.SyncAlways, replica.SyncNever} {
			synctest.Test(t, func(t *testing.T) {
				p := newSlowPair(t, mode)
				began := time.Now()
				var all sync.WaitGroup
				for w := range writers {
					all.Go(func() {
						for i := range each {
							p.synced(t, w*each+i)
						}
					})
				}
				all.Wait()
				took[i] = time.Since(began)
			})
		}
		if took[0] > took[1]*11/10 {
			t.Errorf("%d writers took %v, and without any waiting %v", writers, took[0], took[1])
		}
		t.Logf("%d writers took %v, and without any waiting %v", writers, took[0], took[1])
	}
}
