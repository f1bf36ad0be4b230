package gateway

import (
	"context"
	"sync"

	"github.com/anabranch-db/anabranch/crdt"
	"github.com/anabranch-db/anabranch/replica"
)

// maxReceipts is how many accepted transactions of a client are remembered, the last ones; which nodes hold the earlier ones then shows with
// the next that is remembered.
const maxReceipts = 64

// maxReceiptClients is how many clients are remembered that nobody watches. One that is forgotten asks again (an empty push).
const maxReceiptClients = 4096

// receipt says what other nodes must hold to hold everything of a client up to a transaction.
type receipt struct {
	seq    uint64
	vector crdt.VersionVector
}

// receipts are those of one client in one space. The vectors grow with the numbers.
type receipts struct {
	mu    sync.Mutex
	last  []receipt
	added chan struct{} // closed and replaced with each new one
	users int           // guarded by receiptBook.mu
}

type receiptKey struct {
	space  *replica.Space
	client crdt.ReplicaID
}

// receiptBook has the receipts of all clients.
type receiptBook struct {
	mu  sync.Mutex
	all map[receiptKey]*receipts
}

func newReceiptBook() *receiptBook { return &receiptBook{all: make(map[receiptKey]*receipts)} }

// of returns the receipts of a client, until release is called.
func (b *receiptBook) of(k receiptKey) (r *receipts, release func()) {
	b.mu.Lock()
	defer b.mu.Unlock()
	r = b.all[k]
	if r == nil {
		for old, unused := range b.all {
			if len(b.all) < maxReceiptClients {
				break
			}
			if unused.users == 0 {
				delete(b.all, old)
			}
		}
		r = &receipts{added: make(chan struct{})}
		b.all[k] = r
	}
	r.users++
	return r, func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		r.users--
	}
}

// add remembers an accepted transaction. One that was answered before says the same again.
func (r *receipts) add(seq uint64, vector crdt.VersionVector) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if n := len(r.last); n > 0 && r.last[n-1].seq >= seq {
		return
	}
	if len(r.last) == maxReceipts {
		r.last = append(r.last[:0], r.last[1:]...)
	}
	r.last = append(r.last, receipt{seq, vector.Clone()})
	close(r.added)
	r.added = make(chan struct{})
}

// after returns the first receipt beyond seq; if there is none, ok is false and added is closed with the next.
func (r *receipts) after(seq uint64) (rc receipt, ok bool, added <-chan struct{}) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, rc := range r.last {
		if rc.seq > seq {
			return rc, true, nil
		}
	}
	return receipt{}, false, r.added
}

// heldBy returns the greatest number up to which n other nodes hold everything, at least seq.
func (r *receipts) heldBy(space *replica.Space, n int, seq uint64) uint64 {
	r.mu.Lock()
	last := append([]receipt(nil), r.last...)
	r.mu.Unlock()
	for i := len(last) - 1; i >= 0 && last[i].seq > seq; i-- {
		if space.SyncedVector(last[i].vector) >= n {
			return last[i].seq
		}
	}
	return seq
}

// watch calls tell for each number of nodes, 1 to n, whenever that many hold more of the client's transactions than the told ones, until ctx ends.
// told[k] are those that k+1 nodes hold as far as the reader knows.
func (r *receipts) watch(ctx context.Context, space *replica.Space, told []uint64, tell func(seq uint64, nodes int)) {
	var all sync.WaitGroup
	for k, seq := range told {
		all.Go(func() { r.watchFor(ctx, space, k+1, seq, tell) })
	}
	all.Wait()
}

func (r *receipts) watchFor(ctx context.Context, space *replica.Space, nodes int, seq uint64, tell func(uint64, int)) {
	for ctx.Err() == nil {
		rc, ok, added := r.after(seq)
		if !ok {
			select {
			case <-added:
			case <-ctx.Done():
			}
			continue
		}
		if space.WaitSyncedVector(ctx, rc.vector, nodes) != nil {
			return // ctx ended, or the space or the replica did
		}
		seq = r.heldBy(space, nodes, rc.seq)
		tell(seq, nodes)
	}
}
