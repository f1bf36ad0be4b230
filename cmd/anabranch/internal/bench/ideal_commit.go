package bench

import (
	"encoding/binary"
	"slices"
	"strings"
	"time"

	"github.com/dgraph-io/badger/v4"
)

// batch is one Badger transaction of the ideal.
type batch struct {
	txn    *badger.Txn
	ts     uint64
	now    map[string]stored // the records that it writes
	state  idealState        // once it is durable
	own    []change          // local changes, for the frame to the peer
	from   uint64            // own time before it
	ended  []func(time uint64, err error)
	times  []uint64
	failed error
}

func (e *ideal) buildLoop() {
	defer close(e.built)
	state := e.shared
	for {
		select {
		case c := <-e.queue:
			b := e.build(c, state)
			state = b.state
			select {
			case e.built <- b:
			case <-e.stop:
				return
			}
		case <-e.stop:
			return
		}
	}
}

// build takes first and all that waits behind it.
func (e *ideal) build(first change, state idealState) *batch {
	changes := []change{first}
	docs := max(1, len(first.frame))
	for docs < idealBatchDocs {
		select {
		case c := <-e.queue:
			changes = append(changes, c)
			docs += max(1, len(c.frame))
			continue
		default:
		}
		break
	}
	e.mu.Lock()
	committed := e.shared.ts
	e.mu.Unlock()
	e.over = slices.DeleteFunc(e.over, func(b *batch) bool { return b.ts <= committed })

	e.ts++
	vv := make(map[uint64]uint64, len(state.vv)+1)
	for r, t := range state.vv {
		vv[r] = t
	}
	b := &batch{
		ts: e.ts, now: make(map[string]stored, docs), from: vv[e.self],
		state: idealState{ts: e.ts, arrival: state.arrival, vv: vv},
	}
	read := e.db.NewTransactionAt(committed, false)
	defer read.Discard()
	b.txn = e.db.NewTransactionAt(committed, true)
	for _, c := range changes {
		if b.failed != nil {
			break
		}
		b.failed = e.take(b, read, c)
	}
	b.note("m", 0, b.state.arrival)
	for r, t := range vv {
		b.note("v", r, t)
	}
	e.over = append(e.over, b)
	return b
}

func (b *batch) note(kind string, id, n uint64) {
	key := []byte(kind)
	if id != 0 {
		key = binary.BigEndian.AppendUint64(key, id)
	}
	b.set(key, binary.BigEndian.AppendUint64(nil, n))
}

func (b *batch) set(key, value []byte) {
	if err := b.txn.Set(key, value); err != nil && b.failed == nil {
		b.failed = err
	}
}

func (b *batch) delete(key []byte) {
	if err := b.txn.Delete(key); err != nil && b.failed == nil {
		b.failed = err
	}
}

// take puts one change, or one received frame, into b.
func (e *ideal) take(b *batch, read *badger.Txn, c change) error {
	if c.frame == nil {
		b.state.vv[e.self]++
		c.origin, c.time = e.self, b.state.vv[e.self]
		c, err := e.takeOne(b, read, c)
		b.own = append(b.own, c)
		b.ended, b.times = append(b.ended, c.ended), append(b.times, c.time)
		return err
	}
	slices.SortFunc(c.frame, func(x, y change) int { return strings.Compare(x.key, y.key) })
	for _, doc := range c.frame {
		if _, err := e.takeOne(b, read, doc); err != nil {
			return err
		}
	}
	b.state.vv[c.origin] = max(b.state.vv[c.origin], c.time)
	b.ended, b.times = append(b.ended, c.ended), append(b.times, c.time)
	return nil
}

func (e *ideal) takeOne(b *batch, read *badger.Txn, c change) (change, error) {
	old, found, err := e.find(b, read, c.key)
	if err != nil {
		return c, err
	}
	if c.edit != nil {
		c.value = c.edit(old.value)
	}
	if found {
		b.delete(logKey(old.origin, old.time, c.key))
		b.delete(feedKey(old.arrival))
	}
	b.state.arrival++
	r := stored{c.origin, c.time, b.state.arrival, c.value}
	b.now[c.key] = r
	b.set(documentKey(c.key), r.pack())
	b.set(logKey(c.origin, c.time, c.key), nil)
	b.set(feedKey(r.arrival), []byte(c.key))
	return c, nil
}

// find gets a document before it is written.
func (e *ideal) find(b *batch, read *badger.Txn, key string) (stored, bool, error) {
	if r, ok := b.now[key]; ok {
		return r, true, nil
	}
	for i := len(e.over) - 1; i >= 0; i-- {
		if r, ok := e.over[i].now[key]; ok {
			return r, true, nil
		}
	}
	v, err := get(read, documentKey(key))
	r, ok := parseStored(v)
	return r, ok, err
}

func (e *ideal) commitLoop() {
	for b := range e.built {
		err := b.failed
		if err == nil {
			err = b.txn.CommitAt(b.ts, nil)
		}
		b.txn.Discard()
		if err != nil {
			e.fail(err)
		} else {
			e.publish(b)
		}
		for i, ended := range b.ended {
			ended(b.times[i], err)
		}
	}
}

func (e *ideal) publish(b *batch) {
	var f *frame
	if len(b.own) > 0 {
		f = encodeFrame(e.self, b.from, b.state.vv[e.self], b.newest())
	}
	e.db.SetDiscardTs(b.ts)
	e.mu.Lock()
	defer e.mu.Unlock()
	e.shared = b.state
	if f != nil {
		e.recent = append(e.recent, f)
		e.recent = e.recent[max(0, len(e.recent)-idealRecent):]
	}
	e.moved.Broadcast()
}

// newest returns the local changes of the batch, the last for each document, in the order of the keys.
func (b *batch) newest() []change {
	slices.SortStableFunc(b.own, func(x, y change) int { return strings.Compare(x.key, y.key) })
	out := b.own[:0]
	for i, c := range b.own {
		if i+1 == len(b.own) || b.own[i+1].key != c.key {
			out = append(out, c)
		}
	}
	return out
}

// syncLoop is the sync of mode syncInterval.
func (e *ideal) syncLoop() {
	tick := time.NewTicker(syncEvery)
	defer tick.Stop()
	for {
		select {
		case <-e.stop:
			return
		case <-tick.C:
			if err := e.db.Sync(); err != nil {
				e.fail(err)
				return
			}
		}
	}
}
