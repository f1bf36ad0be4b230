package bench

import (
	"fmt"
	"slices"
	"time"
)

const (
	liveWrites = 1000
	livePause  = 5 * time.Millisecond

	figP50         = "write to visible at the peer, p50"
	figP99         = "write to visible at the peer, p99"
	figIntervalP50 = "the same with sync: interval, p50"
	figIntervalP99 = "the same with sync: interval, p99"
	figWireLive    = "wire, a write alone"
)

// sustained are the numbers of writers, and how many documents they write in a full run.
var sustained = []struct {
	writers, docs int
	figure        string
	bound         float64
}{
	{1, 5_000, "sustained, 1 writer", 0.8},
	{16, 25_000, "sustained, 16 writers", 0.5},
	{128, 100_000, "sustained, 128 writers", 0.5},
}

var live = workload{
	name:  "w2",
	title: "writes arrive at a peer, durable at both",
	ideal: true,
	figures: append([]figure{
		{figP50, "ms", target{of: ratioAtMost, bound: 1.5}},
		{figP99, "ms", target{of: valueAtMost, bound: 3}},
		{figIntervalP50, "ms", target{of: ratioAtMost, bound: 2}},
		{figIntervalP99, "ms", target{}},
		{figWireLive, "B", target{}},
	}, sustainedFigures()...),
	trial: (*trial).live,
}

func sustainedFigures() []figure {
	var figures []figure
	for _, s := range sustained {
		figures = append(figures, figure{s.figure, "writes/s", target{of: ratioAtLeast, bound: s.bound}})
	}
	return figures
}

func (t *trial) live() error {
	a, b, next, err := t.connected("", syncAlways)
	if err != nil {
		return err
	}
	if next, err = t.paced(a, b, next, figP50, figP99, figWireLive); err != nil {
		return err
	}
	for _, s := range sustained {
		docs := max(200, s.docs*min(t.o.Docs, fullDocs)/fullDocs)
		err := t.profiled(fmt.Sprintf("%dwriters", s.writers), []*process{a, b}, func() error {
			w, err := call[writeResult](a, "write", writeArgs{What: putDocument, First: next, Count: docs, Writers: s.writers})
			if err != nil {
				return err
			}
			done, err := call[at](a, "acked", ackedArgs{Mark: w.Last})
			t.record(s.figure, float64(docs)/time.Duration(done.At-w.Began).Seconds())
			return err
		})
		if err != nil {
			return err
		}
		next += docs
	}
	if err := t.expectDocuments(b, next); err != nil {
		return err
	}
	for _, p := range []*process{a, b} {
		if err := t.stop(p); err != nil {
			return err
		}
	}
	return t.liveInterval()
}

func (t *trial) liveInterval() error {
	a, b, next, err := t.connected("interval-", syncInterval)
	if err != nil {
		return err
	}
	_, err = t.paced(a, b, next, figIntervalP50, figIntervalP99, "")
	return err
}

// connected opens two nodes and returns when a first document has gone from a to b.
func (t *trial) connected(prefix, sync string) (a, b *process, next int, err error) {
	a, aOpen, err := t.node(prefix+"a", sync)
	if err != nil {
		return nil, nil, 0, err
	}
	if b, _, err = t.node(prefix+"b", sync); err != nil {
		return nil, nil, 0, err
	}
	w, err := call[writeResult](a, "write", writeArgs{What: putDocument, Count: 1, Writers: 1})
	if err != nil {
		return nil, nil, 0, err
	}
	if _, err = call[at](b, "dial", dialArgs{aOpen.Addr, aOpen.Peer}); err != nil {
		return nil, nil, 0, err
	}
	_, err = call[at](a, "acked", ackedArgs{Mark: w.Last})
	return a, b, 1, err
}

// paced writes one document after the other, with pauses, and records how long each took to be seen at the peer.
func (t *trial) paced(a, b *process, next int, p50, p99, wire string) (int, error) {
	writes := max(100, liveWrites*min(t.o.Docs, fullDocs)/fullDocs)
	if _, err := call[struct{}](b, "watch", watchArgs{next, writes}); err != nil {
		return next, err
	}
	before, err := call[usage](b, "usage", nil)
	if err != nil {
		return next, err
	}
	w, err := call[writeResult](a, "write", writeArgs{
		What: putDocument, First: next, Count: writes, Writers: 1, Every: livePause.Nanoseconds(), Stamps: true,
	})
	if err != nil {
		return next, err
	}
	seen, err := call[watchedResult](b, "watched", nil)
	if err != nil {
		return next, err
	}
	if _, err := call[at](a, "acked", ackedArgs{Mark: w.Last}); err != nil {
		return next, err
	}
	after, err := call[usage](b, "usage", nil)
	if err != nil {
		return next, err
	}
	times := make([]float64, writes)
	for i := range times {
		times[i] = float64(seen.Stamps[i]-w.Stamps[i]) / 1e6
	}
	slices.Sort(times)
	t.record(p50, percentile(times, 0.5))
	t.record(p99, percentile(times, 0.99))
	if wire != "" {
		t.record(wire, float64(after.Sent+after.Received-before.Sent-before.Received)/float64(writes))
	}
	return next + writes, nil
}
