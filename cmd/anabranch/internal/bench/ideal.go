package bench

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
	"path/filepath"
	"sync"
	"time"

	"github.com/dgraph-io/badger/v4"
	"github.com/dgraph-io/badger/v4/options"
)

// ideal does the store and network work of a node and nothing else. Local writers and received frames put changes
// into a queue; one goroutine takes what waits, gets each document, and builds one Badger transaction; another commits
// it, with a sync, while the next is being built.
//
//	d key              → origin, time, arrival, value
//	l origin time key                        one for each document: its last write
//	f arrival          → key                 one for each document: its last change here
//	v origin           → time;  m → arrival
type ideal struct {
	db   *badger.DB
	self uint64
	net  *idealNet

	queue chan change   // of building
	built chan *batch   // of committing
	stop  chan struct{} // closed to end the building
	done  sync.WaitGroup

	over []*batch // built, maybe not committed; of the building goroutine
	ts   uint64   // of the last batch; of the building goroutine

	mu      sync.Mutex
	moved   *sync.Cond // on mu: something below changed
	shared  idealState
	peerHas uint64   // own writes that the peer holds durably
	recent  []*frame // of own writes, encoded, newest last
	failed  error
	closed  bool
}

// idealState is of one moment, on disk.
type idealState struct {
	ts      uint64
	arrival uint64
	vv      map[uint64]uint64
}

// change is one document's new value, local or received.
type change struct {
	key    string
	value  []byte                       // new value; nil: deleted
	edit   func(old []byte) []byte      // in place of value: makes it from the old one
	origin uint64                       // 0: this node
	time   uint64                       // of the write, if received
	ended  func(time uint64, err error) // called when durable
	frame  []change                     // in place of all that: documents of one origin up to time
}

// Bounds of one Badger transaction of the ideal; the memtables of both engines have the same size.
const (
	idealBatchDocs = 2048
	idealQueue     = 1024
	idealRecent    = 64
	idealMemTable  = 8 << 20
)

func openIdeal(a openArgs) (subject, error) {
	db, err := badger.OpenManaged(idealOptions(filepath.Join(a.Dir, "store"), a.Sync == syncAlways))
	if err != nil {
		return nil, err
	}
	e := &ideal{
		db: db, self: nodeNumber(a.Dir),
		queue: make(chan change, idealQueue), built: make(chan *batch), stop: make(chan struct{}),
	}
	e.moved = sync.NewCond(&e.mu)
	if err := e.load(); err != nil {
		return nil, errors.Join(err, db.Close())
	}
	if e.net, err = e.listen(); err != nil {
		return nil, errors.Join(err, db.Close())
	}
	e.done.Go(e.buildLoop)
	e.done.Go(e.commitLoop)
	if a.Sync == syncInterval {
		e.done.Go(e.syncLoop)
	}
	return e, nil
}

// idealOptions tunes Badger as our own store does.
func idealOptions(dir string, sync bool) badger.Options {
	opts := badger.DefaultOptions(dir).WithLogger(nil)
	opts.SyncWrites = sync
	opts.DetectConflicts = false
	opts.MetricsEnabled = false
	opts.MemTableSize = idealMemTable
	opts.NumMemtables = 2
	opts.NumCompactors = 2
	opts.BaseTableSize = 2 << 20
	opts.TableSizeMultiplier = 1
	opts.BlockSize = 8 << 10
	opts.Compression = options.Snappy
	opts.BlockCacheSize = 16 << 20
	opts.ValueLogFileSize = 4 << 20
	return opts
}

// nodeNumber tells the nodes of a run apart; a node that is opened again has the same.
func nodeNumber(dir string) uint64 {
	h := fnv.New64a()
	h.Write([]byte(dir))
	return h.Sum64() | 1 // not zero
}

func (e *ideal) load() error {
	e.ts = e.db.MaxVersion()
	e.shared = idealState{ts: e.ts, vv: make(map[uint64]uint64)}
	txn := e.db.NewTransactionAt(e.ts, false)
	defer txn.Discard()
	if v, err := get(txn, []byte("m")); err != nil {
		return err
	} else if len(v) == 8 {
		e.shared.arrival = binary.BigEndian.Uint64(v)
	}
	it := txn.NewIterator(badger.IteratorOptions{Prefix: []byte("v")})
	defer it.Close()
	for it.Rewind(); it.Valid(); it.Next() {
		v, err := it.Item().ValueCopy(nil)
		if err != nil || len(v) != 8 || len(it.Item().Key()) != 9 {
			return errors.Join(errors.New("vector entry"), err)
		}
		e.shared.vv[binary.BigEndian.Uint64(it.Item().Key()[1:])] = binary.BigEndian.Uint64(v)
	}
	return nil
}

func get(txn *badger.Txn, key []byte) ([]byte, error) {
	item, err := txn.Get(key)
	if errors.Is(err, badger.ErrKeyNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return item.ValueCopy(nil)
}

// stored is the record of a document.
type stored struct {
	origin, time, arrival uint64
	value                 []byte
}

func (r stored) pack() []byte {
	b := make([]byte, 24, 24+len(r.value))
	binary.BigEndian.PutUint64(b, r.origin)
	binary.BigEndian.PutUint64(b[8:], r.time)
	binary.BigEndian.PutUint64(b[16:], r.arrival)
	return append(b, r.value...)
}

func parseStored(b []byte) (stored, bool) {
	if len(b) < 24 {
		return stored{}, false
	}
	return stored{binary.BigEndian.Uint64(b), binary.BigEndian.Uint64(b[8:]), binary.BigEndian.Uint64(b[16:]), b[24:]}, true
}

func documentKey(key string) []byte { return append([]byte("d"), key...) }

func feedKey(arrival uint64) []byte { return binary.BigEndian.AppendUint64([]byte("f"), arrival) }

func logKey(origin, time uint64, key string) []byte {
	b := make([]byte, 1, 17+len(key))
	b[0] = 'l'
	b = binary.BigEndian.AppendUint64(b, origin)
	b = binary.BigEndian.AppendUint64(b, time)
	return append(b, key...)
}

func (e *ideal) submit(c change) error {
	select {
	case e.queue <- c:
		return nil
	case <-e.stop:
		return errors.New("the store is closed")
	}
}

// write submits one local change and waits until it is durable.
func (e *ideal) write(ctx context.Context, c change) (mark, error) {
	type end struct {
		time uint64
		err  error
	}
	ended := make(chan end, 1)
	c.ended = func(time uint64, err error) { ended <- end{time, err} }
	if err := e.submit(c); err != nil {
		return mark{}, err
	}
	select {
	case end := <-ended:
		return mark{e.self, end.time}, end.err
	case <-ctx.Done():
		return mark{}, ctx.Err()
	}
}

func (e *ideal) put(ctx context.Context, d document) (mark, error) {
	return e.write(ctx, change{key: d.Key, value: packFields(d.Fields)})
}

func (e *ideal) set(ctx context.Context, key string, f field) (mark, error) {
	return e.write(ctx, change{key: key, edit: func(old []byte) []byte { return setPacked(old, f) }})
}

func (e *ideal) remove(ctx context.Context, key string) (mark, error) {
	return e.write(ctx, change{key: key})
}

// wait waits until ok holds; it is called with mu not held and ok with mu held.
func (e *ideal) wait(ctx context.Context, ok func() bool) error {
	stop := context.AfterFunc(ctx, func() {
		e.mu.Lock()
		defer e.mu.Unlock()
		e.moved.Broadcast()
	})
	defer stop()
	e.mu.Lock()
	defer e.mu.Unlock()
	for !ok() {
		switch {
		case e.failed != nil:
			return e.failed
		case ctx.Err() != nil:
			return ctx.Err()
		case e.closed:
			return errors.New("the store is closed")
		}
		e.moved.Wait()
	}
	return nil
}

func (e *ideal) acked(ctx context.Context, m mark, _ int) error {
	return e.wait(ctx, func() bool { return e.peerHas >= m.Time })
}

func (e *ideal) watch(ctx context.Context, ready chan<- struct{}, seen func(key string) bool) error {
	e.mu.Lock()
	last := e.shared.arrival
	e.mu.Unlock()
	close(ready)
	for {
		var now idealState
		if err := e.wait(ctx, func() bool { now = e.shared; return now.arrival > last }); err != nil {
			return err
		}
		more, err := e.feed(now.ts, last, seen)
		if err != nil || !more {
			return err
		}
		last = now.arrival
	}
}

// feed reads the documents that changed after an arrival, as a watcher would.
func (e *ideal) feed(ts, since uint64, seen func(key string) bool) (bool, error) {
	txn := e.db.NewTransactionAt(ts, false)
	defer txn.Discard()
	it := txn.NewIterator(badger.IteratorOptions{Prefix: []byte("f")})
	defer it.Close()
	for it.Seek(feedKey(since + 1)); it.Valid(); it.Next() {
		key, err := it.Item().ValueCopy(nil)
		if err != nil {
			return false, err
		}
		if _, err := get(txn, documentKey(string(key))); err != nil {
			return false, err
		}
		if !seen(string(key)) {
			return false, nil
		}
	}
	return true, nil
}

func (e *ideal) documents(context.Context) (int64, error) {
	e.mu.Lock()
	ts := e.shared.ts
	e.mu.Unlock()
	txn := e.db.NewTransactionAt(ts, false)
	defer txn.Discard()
	it := txn.NewIterator(badger.IteratorOptions{Prefix: []byte("d")})
	defer it.Close()
	n := int64(0)
	for it.Rewind(); it.Valid(); it.Next() {
		if it.Item().ValueSize() > 24 {
			n++
		}
	}
	return n, nil
}

func (e *ideal) inspect(context.Context, string, field) (shown, conflicted bool, err error) {
	return false, false, errors.New("the ideal knows no conflicts")
}

func (e *ideal) probe(context.Context, generator, probeArgs) (time.Duration, error) {
	return 0, fmt.Errorf("the ideal has no such operation")
}

func (e *ideal) fail(err error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.failed == nil && !e.closed {
		e.failed = err
	}
	e.moved.Broadcast()
}

func (e *ideal) close() error {
	e.mu.Lock()
	e.closed = true
	e.moved.Broadcast()
	e.mu.Unlock()
	err := e.net.close()
	close(e.stop)
	e.done.Wait()
	return errors.Join(err, e.db.Close())
}
