package bench

import (
	"fmt"
	"path/filepath"
	"time"
)

// transfer is what it took to bring a peer up.
type transfer struct {
	took time.Duration
	wire float64 // bytes, both ways, QUIC packets whole
	cpu  time.Duration
}

// catchUp lets b dial a and waits until a knows that b holds up to last. It counts from the dial.
func (t *trial) catchUp(what string, a *process, aOpen openResult, b *process, last mark) (transfer, error) {
	return t.catchUpTo(what, a, aOpen, b, last, 1)
}

// catchUpTo is catchUp where others hold it already: it waits until so many do.
func (t *trial) catchUpTo(what string, a *process, aOpen openResult, b *process, last mark, peers int) (tr transfer, err error) {
	nodes := []*process{a, b}
	err = t.profiled(what, nodes, func() error {
		before, err := t.usages(nodes)
		if err != nil {
			return err
		}
		dialled, err := call[at](b, "dial", dialArgs{aOpen.Addr, aOpen.Peer})
		if err != nil {
			return err
		}
		level, err := call[at](a, "acked", ackedArgs{last, peers})
		if err != nil {
			return err
		}
		after, err := t.usages(nodes)
		if err != nil {
			return err
		}
		tr.took = time.Duration(level.At - dialled.At)
		// The dialler's connection is a new one; what it counts is all that went over it.
		tr.wire = float64(after[1].Sent + after[1].Received)
		for i := range after {
			tr.cpu += time.Duration(after[i].CPU - before[i].CPU)
		}
		return nil
	})
	return tr, err
}

func (t *trial) usages(nodes []*process) ([]usage, error) {
	all := make([]usage, len(nodes))
	for i, p := range nodes {
		u, err := call[usage](p, "usage", nil)
		if err != nil {
			return nil, err
		}
		all[i] = u
	}
	return all, nil
}

// loadWriters is how many writers load a store.
const loadWriters = 128

func (t *trial) load(p *process, count int) (writeResult, error) {
	return call[writeResult](p, "write", writeArgs{What: putDocument, Count: count, Writers: loadWriters})
}

func (w writeResult) seconds() float64 { return time.Duration(w.Ended - w.Began).Seconds() }

const (
	figRate     = "catch-up of a fresh node"
	figCPU      = "CPU time, both nodes"
	figWire     = "wire"
	figDisk     = "disk of the fresh node, closed"
	figDiskA    = "disk of the writing node, closed"
	figPeakA    = "peak memory of the writing node"
	figPeakB    = "peak memory of the fresh node"
	figOwnPeakA = "the same without pages of files, writing node"
	figOwnPeakB = "the same without pages of files, fresh node"
	figLoad     = "loading, 128 writers, no peer"
	figBadger   = "limit: entries into Badger alone"
	figQUIC     = "limit: bytes over a bare QUIC stream"
	figAllDone  = "documents at the fresh node"
)

var bulk = workload{
	name:  "w1",
	title: "a fresh node catches up",
	ideal: true,
	figures: []figure{
		{figRate, "documents/s", target{of: ratioAtLeast, bound: 0.5}},
		{figCPU, "µs/document", target{of: ratioAtMost, bound: 2}},
		{figWire, "B/document", target{of: valueAtMost, bound: 165}},
		{figDisk, "B/document", target{of: valueAtMost, bound: 180, scaled: true}},
		{figDiskA, "B/document", target{}},
		{figPeakB, "MB", target{of: valueAtMost, bound: 200, scaled: true}},
		{figPeakA, "MB", target{of: valueAtMost, bound: 200, scaled: true}},
		{figOwnPeakB, "MB", target{}},
		{figOwnPeakA, "MB", target{}},
		{figLoad, "documents/s", target{}},
		{figBadger, "documents/s", target{}},
		{figQUIC, "documents/s", target{}},
	},
	trial: (*trial).bulk,
}

func (t *trial) bulk() error {
	n := t.o.Docs
	wire, err := t.bulkOf(n)
	if err != nil || t.engine != engineIdeal {
		return err
	}
	return t.machineLimits(n, wire)
}

// bulkOf measures the catch-up of n documents and returns the bytes on the wire.
func (t *trial) bulkOf(n int) (float64, error) {
	a, aOpen, err := t.node("a", syncAlways)
	if err != nil {
		return 0, err
	}
	loaded, err := t.load(a, n)
	if err != nil {
		return 0, err
	}
	b, _, err := t.node("b", syncAlways)
	if err != nil {
		return 0, err
	}
	tr, err := t.catchUp("catchup", a, aOpen, b, loaded.Last)
	if err != nil {
		return 0, err
	}
	if err := t.expectDocuments(b, n); err != nil {
		return 0, err
	}
	docs := float64(n)
	t.record(figLoad, docs/loaded.seconds())
	t.record(figRate, docs/tr.took.Seconds())
	t.record(figCPU, float64(tr.cpu.Microseconds())/docs)
	t.record(figWire, tr.wire/docs)
	return tr.wire, t.endBoth(a, b, docs)
}

func (t *trial) expectDocuments(p *process, want int) error {
	got, err := call[count](p, "documents", nil)
	if err == nil && got.Count != int64(want) {
		err = fmt.Errorf("node %s has %d documents, want %d", p.name, got.Count, want)
	}
	return err
}

// endBoth records what the two nodes took, and ends them.
func (t *trial) endBoth(a, b *process, docs float64) error {
	used, err := t.usages([]*process{a, b})
	if err != nil {
		return err
	}
	t.record(figPeakA, megabytes(used[0].PeakBytes))
	t.record(figPeakB, megabytes(used[1].PeakBytes))
	t.record(figOwnPeakA, megabytes(used[0].OwnPeakBytes))
	t.record(figOwnPeakB, megabytes(used[1].OwnPeakBytes))
	for _, p := range []*process{b, a} {
		if err := t.stop(p); err != nil {
			return err
		}
		size, err := t.disk(p.name)
		if err != nil {
			return err
		}
		t.record(map[*process]string{a: figDiskA, b: figDisk}[p], size/docs)
	}
	return nil
}

func megabytes(n int64) float64 { return float64(n) / 1e6 }

// machineLimits measures the parts alone, for as many documents and bytes.
func (t *trial) machineLimits(n int, wire float64) error {
	a, err := t.process("limit-a")
	if err != nil {
		return err
	}
	b, err := t.process("limit-b")
	if err != nil {
		return err
	}
	stored, err := call[limitResult](a, "limit-store", limitArgs{Dir: filepath.Join(t.dir, "limit"), Docs: n, Seed: t.o.Seed})
	if err != nil {
		return err
	}
	served, err := call[limitResult](a, "limit-listen", limitArgs{})
	if err != nil {
		return err
	}
	fetched, err := call[limitResult](b, "limit-fetch", limitArgs{Addr: served.Addr, Bytes: int64(wire)})
	if err != nil {
		return err
	}
	t.record(figBadger, float64(n)/time.Duration(stored.Nanos).Seconds())
	t.record(figQUIC, float64(n)/time.Duration(fetched.Nanos).Seconds())
	if err := t.stop(b); err != nil {
		return err
	}
	return t.stop(a)
}
