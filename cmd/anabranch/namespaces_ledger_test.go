//go:build linux

package main

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/anabranch-db/anabranch/cmd/anabranch/internal/control"
	"github.com/anabranch-db/anabranch/cmd/anabranch/internal/node"
)

// netLedger is what the writers were promised. Each of them writes fields of its own, each once, and removes some of them later, so
// that what must show in the end is known. It lives in the test's process, and no fault touches it.
//
// It knows of each deed which stores must have it, at the least: a store that is put back to an older copy may lose it, and when no store
// is left that must have it, it is in doubt.
type netLedger struct {
	// quiet is held for reading by each writer for as long as one change and the wait for peers takes, and for writing while
	// a store is put back, or all is compared. So no peer's word is noted after that peer has lost what it spoke of.
	quiet sync.RWMutex

	mu     sync.Mutex // guards what follows
	fields []*ownField
	clock  int // of acknowledgements
	seq    int
	acked  int
	synced int
}

// ownField is a field that one writer writes once, and perhaps removes.
type ownField struct {
	node    int
	key     string
	path    string
	n       int
	write   deed
	removal deed
}

// deed is a write or a removal.
type deed struct {
	attempted bool
	acked     bool
	at        int  // the ledger's clock
	own       bool // the store of its writer must have it
	others    int  // how many other stores must
}

// isSafe reports whether some store must have it.
func (d deed) isSafe() bool { return d.acked && (d.own || d.others > 0) }

func (l *netLedger) begin(d *deed) {
	l.mu.Lock()
	defer l.mu.Unlock()
	d.attempted = true
}

func (l *netLedger) ack(d *deed) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.clock++
	l.acked++
	d.acked, d.own, d.at = true, true, l.clock
}

func (l *netLedger) noteSynced(d *deed, peers int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	d.others = max(d.others, peers)
	l.synced++
}

// newField returns a field that nobody has written yet.
func (l *netLedger) newField(writer int) *ownField {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.seq++
	f := &ownField{node: writer, key: fmt.Sprintf("own/%d/%d", writer, l.seq/200), path: fmt.Sprintf("/f%d", l.seq), n: l.seq}
	l.fields = append(l.fields, f)
	return f
}

// oldField returns a field that its writer may remove, or nil.
func (l *netLedger) oldField(writer int, rng *rand.Rand) *ownField {
	l.mu.Lock()
	defer l.mu.Unlock()
	for range 20 {
		if len(l.fields) == 0 {
			return nil
		}
		if f := l.fields[rng.IntN(len(l.fields))]; f.node == writer && f.write.acked && !f.removal.attempted {
			return f
		}
	}
	return nil
}

// now is what a copy of a store that no node has open has everything of.
func (l *netLedger) now() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.clock
}

// putBack notes that a store is as it was when the clock stood at some time. It is called with quiet held.
func (l *netLedger) putBack(which, at int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, f := range l.fields {
		for _, d := range []*deed{&f.write, &f.removal} {
			switch {
			case f.node != which:
				d.others = max(0, d.others-1)
			case d.at > at:
				d.own = false
			}
		}
	}
}

// compare checks what a node shows, and returns how many fields are in doubt.
func (l *netLedger) compare(t *testing.T, where string, shown map[string]map[string]int) (doubts int) {
	t.Helper()
	l.mu.Lock()
	defer l.mu.Unlock()
	wrong := 0
	for _, f := range l.fields {
		n, shows := shown[f.key][strings.TrimPrefix(f.path, "/")]
		problem := ""
		switch {
		case shows && n != f.n:
			problem = fmt.Sprintf("shows %d", n)
		case shows && !f.write.attempted:
			problem = "shows, and nobody wrote it"
		case f.removal.isSafe() && shows:
			problem = "was removed, and is back"
		case f.removal.attempted && !f.removal.isSafe():
			doubts++
		case !f.removal.attempted && f.write.isSafe() && !shows:
			problem = "was written, and is lost"
		case !f.removal.attempted && f.write.attempted && !f.write.isSafe():
			doubts++
		}
		if problem != "" {
			if wrong++; wrong <= 10 {
				t.Errorf("%s: %s%s of node %d %s: %+v", where, f.key, f.path, f.node, problem, *f)
			}
		}
	}
	if wrong > 10 {
		t.Errorf("%s: and %d fields more", where, wrong-10)
	}
	return doubts
}

// settled notes that all stores are the same: each deed that some store had to have all stores have, and what was in
// doubt is forgotten.
func (l *netLedger) settled(nodes int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	kept := l.fields[:0]
	for _, f := range l.fields {
		inDoubt := f.removal.attempted && !f.removal.isSafe() || !f.write.isSafe() && !f.removal.isSafe()
		if inDoubt {
			continue
		}
		for _, d := range []*deed{&f.write, &f.removal} {
			if d.acked {
				d.own, d.others = true, nodes-1
			}
		}
		kept = append(kept, f)
	}
	clear(l.fields[len(kept):])
	l.fields = kept
}

// netWriter changes things at one node for as long as ctx lasts.
type netWriter struct {
	t      *testing.T
	node   *netNode
	ledger *netLedger
	rng    *rand.Rand
	client *control.Client
	life   int64 // of the node, when the client was made
}

// syncedTimeout is how long a writer waits for peers, who may be cut off.
const syncedTimeout = 500 * time.Millisecond

func (w *netWriter) run(ctx context.Context) {
	for ctx.Err() == nil {
		w.ledger.quiet.RLock()
		w.change(ctx)
		w.ledger.quiet.RUnlock()
		select {
		case <-time.After(time.Duration(w.rng.IntN(60)) * time.Millisecond):
		case <-ctx.Done():
		}
	}
	if w.client != nil {
		w.client.Close()
	}
}

// change makes one change, if the node is there.
func (w *netWriter) change(ctx context.Context) {
	if w.client == nil {
		w.life = w.node.life.Load()
		c, err := control.Dial(ctx, w.node.dir)
		if err != nil {
			return // it is down
		}
		w.client = c
	}
	var err error
	switch d := w.rng.IntN(10); {
	case d < 4:
		err = w.writeOwn(ctx)
	case d < 6:
		err = w.removeOwn(ctx)
	default:
		_, err = w.client.Commit(ctx, "main", w.common())
	}
	if err == nil {
		return
	}
	if ctx.Err() == nil && w.life%2 == 0 && w.node.life.Load() == w.life {
		w.t.Errorf("node %d, which nobody disturbed: %v", w.node.index, err)
	}
	w.client.Close()
	w.client = nil
}

func (w *netWriter) writeOwn(ctx context.Context) error {
	f := w.ledger.newField(w.node.index)
	w.ledger.begin(&f.write)
	rc, err := w.client.Commit(ctx, "main", []node.Op{{Op: node.OpSet, Key: f.key, Path: f.path, Value: fmt.Append(nil, f.n)}})
	if err != nil {
		return err
	}
	w.ledger.ack(&f.write)
	return w.await(ctx, rc, &f.write)
}

// removeOwn removes a field. If it is not there, because the store was put back, nothing happens, and it may come back from a peer.
func (w *netWriter) removeOwn(ctx context.Context) error {
	f := w.ledger.oldField(w.node.index, w.rng)
	if f == nil {
		return nil
	}
	w.ledger.begin(&f.removal)
	rc, err := w.client.Commit(ctx, "main", []node.Op{{Op: node.OpRemove, Key: f.key, Path: f.path}})
	switch {
	case err != nil:
		return err
	case rc.Changed:
		w.ledger.ack(&f.removal)
		return w.await(ctx, rc, &f.removal)
	case f.write.own:
		w.t.Errorf("node %d has lost %s%s: %+v", w.node.index, f.key, f.path, *f)
	}
	f.removal.attempted = false
	return nil
}

// await waits, half of the time, until a peer or two have it.
func (w *netWriter) await(ctx context.Context, rc node.Receipt, d *deed) error {
	if w.rng.IntN(2) > 0 {
		return nil
	}
	peers, err := w.client.Wait(ctx, "main", rc, 1+w.rng.IntN(2), syncedTimeout)
	if peers > 0 {
		w.ledger.noteSynced(d, peers)
		return nil
	}
	if err != nil && w.isOffline(err) {
		return nil
	}
	return err
}

// isOffline reports whether err says that no peer has a change yet.
func (w *netWriter) isOffline(err error) bool {
	return strings.Contains(err.Error(), node.ErrOffline.Error())
}

// common returns a change of what all writers change, without an eye on each other.
func (w *netWriter) common() []node.Op {
	key := fmt.Sprintf("common/%d", w.rng.IntN(20))
	path := []string{"/a", "/a/b", "/a/c", "/d", "/count"}[w.rng.IntN(5)]
	value, _ := json.Marshal(w.rng.IntN(1000))
	switch w.rng.IntN(6) {
	case 0:
		return []node.Op{{Op: node.OpRemove, Key: key, Path: path}}
	case 1:
		return []node.Op{{Op: node.OpRemove, Key: key}}
	case 2:
		return []node.Op{{Op: node.OpIncrement, Key: key, Path: "/count", By: 1}}
	case 3:
		other := fmt.Sprintf("common/%d", w.rng.IntN(20))
		return []node.Op{{Op: node.OpSet, Key: key, Path: path, Value: value}, {Op: node.OpPut, Key: other, Value: json.RawMessage(`{"a":{"b":1},"d":[1,2]}`)}}
	}
	return []node.Op{{Op: node.OpSet, Key: key, Path: path, Value: value}}
}
