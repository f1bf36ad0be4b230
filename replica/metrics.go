package replica

import (
	"context"
	"slices"
	"sort"
	"sync"
	"sync/atomic"
	"time"

	"github.com/anabranch-db/anabranch/crdt"
	"github.com/anabranch-db/anabranch/replica/docstore"
	"github.com/anabranch-db/anabranch/replica/protocol"
	"github.com/anabranch-db/anabranch/replica/store"
)

// Metrics are the numbers of a replica at one moment, for whatever collects them. Counts are since it was opened.
type Metrics struct {
	Commits         Histogram // seconds that a commit of a group took, sync included
	CommitsFailed   uint64
	GroupChanges    Histogram // local transactions and received deltas in a group
	Transactions    uint64    // local ones that are durable
	Deltas          uint64    // received ones that are durable
	Watchers        int64     // going on now
	Refused         []Refused // deltas, by who refused them and why
	Usage           store.Usage
	Clock           ClockStatus
	ConfiguredPeers int
	Peers           []PeerStatus
	Spaces          []SpaceMetrics
	Committing      time.Duration // how long the commit in progress has taken; 0 if there is none
}

// SpaceMetrics are the numbers of one space.
type SpaceMetrics struct {
	SpaceStatus
	Sessions int
	// Lag is, for each of SpaceStatus.Peers, how long ago the oldest change was made that the peer has not acknowledged.
	Lag []time.Duration
}

// Refused counts deltas that were refused.
type Refused struct {
	By     string // "us" or "peer"
	Reason string // as protocol.RefusalCode has it
	Count  uint64
}

// Histogram counts values by size.
type Histogram struct {
	Bounds []float64 // upper bounds, ascending
	Counts []uint64  // of the values at or below each bound, the greater of them not in the smaller; one more for those above all
	Sum    float64
}

// histogram is a Histogram being made.
type histogram struct {
	bounds []float64
	mu     sync.Mutex
	counts []uint64
	sum    float64
}

func newHistogram(bounds ...float64) *histogram {
	return &histogram{bounds: bounds, counts: make([]uint64, len(bounds)+1)}
}

func (h *histogram) observe(v float64) {
	i := sort.SearchFloat64s(h.bounds, v)
	h.mu.Lock()
	h.counts[i]++
	h.sum += v
	h.mu.Unlock()
}

func (h *histogram) read() Histogram {
	h.mu.Lock()
	defer h.mu.Unlock()
	return Histogram{Bounds: h.bounds, Counts: slices.Clone(h.counts), Sum: h.sum}
}

// refusalCodes bounds what is counted apart: codes above are of a peer that is newer than this program.
const refusalCodes = 16

// meter counts what a replica does.
type meter struct {
	commits      *histogram
	changes      *histogram
	failed       atomic.Uint64
	transactions atomic.Uint64
	deltas       atomic.Uint64
	watchers     atomic.Int64
	committing   atomic.Int64                   // when the commit in progress began, in Unix nanoseconds; 0 if there is none
	refused      [2][refusalCodes]atomic.Uint64 // by us, by peers
}

const (
	refusedByUs = iota
	refusedByPeer
)

func newMeter() *meter {
	return &meter{
		commits: newHistogram(0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10),
		changes: newHistogram(1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024),
	}
}

func (m *meter) refuse(by int, code protocol.RefusalCode) {
	m.refused[by][min(int(code), refusalCodes-1)].Add(1)
}

// commit runs the commit of a group and counts it.
func (m *meter) commit(g *group, commit func() error) error {
	began := time.Now()
	m.committing.Store(began.UnixNano())
	err := commit()
	m.committing.Store(0)
	if err != nil {
		m.failed.Add(1)
		return err
	}
	m.commits.observe(time.Since(began).Seconds())
	local, received := 0, 0
	for _, p := range g.spaces {
		local += len(p.local)
		received += len(p.received)
	}
	m.transactions.Add(uint64(local))
	m.deltas.Add(uint64(received))
	if local+received > 0 {
		m.changes.observe(float64(local + received))
	}
	return nil
}

func (m *meter) readRefused() []Refused {
	var all []Refused
	for by, name := range []string{"us", "peer"} {
		for code := range refusalCodes {
			if n := m.refused[by][code].Load(); n > 0 {
				all = append(all, Refused{name, protocol.RefusalCode(code).String(), n})
			}
		}
	}
	return all
}

// maxMetricsCounted bounds the counting that SpaceStatus does up to MaxCounted: metrics are asked for each few seconds.
const maxMetricsCounted = 10_000

// Metrics returns the numbers of the replica. Cost: for each space and peer, counting what the peer lacks, up to 10,000.
func (r *Replica) Metrics(ctx context.Context) (Metrics, error) {
	m := Metrics{
		Commits: r.meter.commits.read(), CommitsFailed: r.meter.failed.Load(), GroupChanges: r.meter.changes.read(),
		Transactions: r.meter.transactions.Load(), Deltas: r.meter.deltas.Load(), Watchers: r.meter.watchers.Load(),
		Refused: r.meter.readRefused(), Usage: r.store.Usage(), Clock: r.Clock(), Peers: r.Peers(), ConfiguredPeers: len(r.cfg.Peers),
		Committing: r.committing(),
	}
	for _, name := range r.Spaces() {
		s, err := r.Space(name)
		if err != nil {
			return m, err
		}
		sm, err := s.Metrics(ctx)
		if err != nil {
			return m, err
		}
		m.Spaces = append(m.Spaces, sm)
	}
	return m, nil
}

// committing returns how long the commit in progress has taken.
func (r *Replica) committing() time.Duration {
	began := r.meter.committing.Load()
	if began == 0 {
		return 0
	}
	return max(time.Since(time.Unix(0, began)), 0)
}

// Metrics returns the numbers of the space. Cost: for each peer, counting what it lacks, up to 10,000.
func (s *Space) Metrics(ctx context.Context) (SpaceMetrics, error) {
	st, err := s.statusUpTo(ctx, maxMetricsCounted)
	m := SpaceMetrics{SpaceStatus: st}
	if err != nil {
		return m, err
	}
	s.mu.Lock()
	m.Sessions = len(s.sessions)
	acked := make([]crdt.VersionVector, len(st.Peers))
	for i, p := range st.Peers {
		member, _ := s.members.Get(p.Peer)
		acked[i] = member.VV
	}
	s.mu.Unlock()
	now := s.r.cfg.Now()
	err = s.view(ctx, func(snap store.Snapshot) error {
		for i := range st.Peers {
			lag, err := ageBeyond(snap, s.number, st.Vector, acked[i], now)
			if err != nil {
				return err
			}
			m.Lag = append(m.Lag, lag)
		}
		return nil
	})
	return m, err
}

// ageBeyond returns how old the oldest change is that the log has beyond a vector.
func ageBeyond(snap store.Snapshot, space uint32, vv, has crdt.VersionVector, now time.Time) (time.Duration, error) {
	oldest, ok, err := docstore.Oldest(snap, space, has, vv, maxSought)
	if err != nil || !ok {
		return 0, err
	}
	return max(now.Sub(oldest.Wall()), 0), nil
}
