package admin

import (
	"cmp"
	"context"
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/anabranch-db/anabranch/net/gateway"
	"github.com/anabranch-db/anabranch/replica"
)

// Bounds of the labels, so that a node of many spaces and peers does not fill the memory of whoever collects. Spaces beyond are added up as one,
// named otherSpaces; of pairs of a space and a peer those that are connected come first.
const (
	maxSpaces   = 100
	maxPeers    = 100
	maxPairs    = 1000
	otherSpaces = "(other)"
)

// metric is one name that the collector knows. docs/operations.md lists them, and a test compares.
type metric struct {
	desc *prometheus.Desc
	kind prometheus.ValueType
}

// collector turns Metrics into what Prometheus reads, at each scrape.
type collector struct {
	source  Source
	gateway func() gateway.Stats // nil: there is none
	version string

	buildInfo, ready, writable                                                                                                           metric
	commitFailures, committing, transactions, deltas, refused, watchers                                                                  metric
	storeBytes, storeFree, storeFloor, storeSyncs                                                                                        metric
	clockOffset, clockHolding, heldSpaces                                                                                                metric
	peersConnected, peersConfigured, peerConnected, peerSent, peerReceived, peerSkew                                                     metric
	documents, conflicts, conflicted, sessions, stableAge, replicaIDs, unpruned, members, membersCounting, mismatches, repairs, repaired metric
	damaged, peerPending, peerLag, peerLevel, peerMismatch                                                                               metric
	gatewayConnections, gatewayItems, gatewayTransactions, gatewayRefused, gatewayRequests                                               metric
	commitSeconds, commitChanges                                                                                                         *prometheus.Desc
	all                                                                                                                                  []*prometheus.Desc
}

func newCollector(source Source, gatewayStats func() gateway.Stats, version string) *collector {
	c := &collector{source: source, gateway: gatewayStats, version: version}
	desc := func(name, help string, labels ...string) *prometheus.Desc {
		d := prometheus.NewDesc("anabranch_"+name, help, labels, nil)
		c.all = append(c.all, d)
		return d
	}
	gauge := func(name, help string, labels ...string) metric {
		return metric{desc(name, help, labels...), prometheus.GaugeValue}
	}
	counter := func(name, help string, labels ...string) metric {
		return metric{desc(name, help, labels...), prometheus.CounterValue}
	}
	c.buildInfo = gauge("build_info", "1, with the version of the program", "version")
	c.ready = gauge("ready", "1 if the node can read and write, as /readyz says")
	c.writable = gauge("store_writable", "1 if the store takes commits")
	c.commitSeconds = desc("commit_seconds", "how long commits of the store took, their sync included")
	c.commitChanges = desc("commit_changes", "transactions and received deltas that were committed together")
	c.commitFailures = counter("commit_failures_total", "commits that failed")
	c.committing = gauge("commit_in_progress_seconds", "how long the commit in progress has taken, 0 if there is none")
	c.transactions = counter("transactions_total", "local transactions that were committed")
	c.deltas = counter("received_deltas_total", "deltas of peers that were committed")
	c.refused = counter("refused_deltas_total", "deltas that were refused, by us or by the peer", "by", "reason")
	c.watchers = gauge("watchers", "readers that follow the changes of a space")
	c.storeBytes = gauge("store_bytes", "size of the files of the store")
	c.storeFree = gauge("store_free_bytes", "free space of its disk")
	c.storeFloor = gauge("store_floor_bytes", "free space below which it takes no commits")
	c.storeSyncs = counter("store_syncs_total", "syncs of the store to the disk")
	c.clockOffset = gauge("clock_offset_seconds", "how far the clock is ahead of the one in the middle of the connected peers")
	c.clockHolding = gauge("clock_holding", "1 while the clock is ahead of most peers and writes are held")
	c.heldSpaces = gauge("held_spaces", "spaces with writes that were made with a clock that was ahead, and are not sent")
	c.peersConnected = gauge("peers_connected", "connected peers")
	c.peersConfigured = gauge("peers_configured", "peers that the configuration names")
	c.peerConnected = gauge("peer_connected", "1 if the peer is connected", "peer")
	c.peerSent = counter("peer_sent_bytes_total", "bytes sent in the present connection", "peer")
	c.peerReceived = counter("peer_received_bytes_total", "bytes received in the present connection", "peer")
	c.peerSkew = gauge("peer_clock_skew_seconds", "how far the peer's clock is ahead of ours", "peer")
	c.documents = gauge("documents", "documents that exist", "space")
	c.conflicts = gauge("conflicts", "values that were written at the same time as what shows, and wait to be settled", "space")
	c.conflicted = gauge("conflicted_documents", "documents that have conflicts", "space")
	c.sessions = gauge("sessions", "exchanges going on", "space")
	c.stableAge = gauge("stable_age_seconds", "age of the oldest change that not every member is known to have", "space")
	c.unpruned = gauge("unpruned", "log entries that are stable and wait to be forgotten, counted up to 10000", "space")
	c.members = gauge("members", "other nodes that keep a replica of the space", "space")
	c.membersCounting = gauge("members_counting", "of these, those without which nothing that was removed is forgotten", "space")
	c.replicaIDs = gauge("replica_ids", "replica IDs in the version vector", "space")
	c.mismatches = counter("digest_mismatches_total", "comparisons that found the same writes and other contents", "space")
	c.repairs = counter("repairs_total", "repairs that ended well", "space")
	c.repaired = counter("repaired_documents_total", "documents that repairs changed", "space")
	c.damaged = gauge("damaged", "1 if something stored is damaged and not mended", "space")
	c.peerPending = gauge("peer_pending", "changes that the peer has not acknowledged, counted up to 10000", "space", "peer")
	c.peerLag = gauge("peer_lag_seconds", "age of the oldest change that the peer has not acknowledged", "space", "peer")
	c.peerLevel = gauge("peer_level", "1 if the peer is connected, and both hold the same", "space", "peer")
	c.peerMismatch = gauge("peer_mismatch", "1 if the peer has the same writes and other contents", "space", "peer")
	c.gatewayConnections = gauge("gateway_connections", "clients that are connected with the gateway", "channel")
	c.gatewayItems = counter("gateway_items_total", "changes that were sent to clients", "channel")
	c.gatewayTransactions = counter("gateway_transactions_total", "transactions that clients sent", "result")
	c.gatewayRefused = counter("gateway_refused_total", "requests and messages of clients that were refused", "code")
	c.gatewayRequests = counter("gateway_requests_total", "HTTP requests of clients")
	return c
}

// Describe implements prometheus.Collector.
func (c *collector) Describe(out chan<- *prometheus.Desc) {
	for _, d := range c.all {
		out <- d
	}
}

// Collect implements prometheus.Collector.
func (c *collector) Collect(out chan<- prometheus.Metric) {
	ctx, cancel := context.WithTimeout(context.Background(), scrapeTimeout)
	defer cancel()
	m, err := c.source.Metrics(ctx)
	if err != nil {
		out <- prometheus.NewInvalidMetric(c.ready.desc, err)
		return
	}
	put := func(m metric, v float64, labels ...string) {
		out <- prometheus.MustNewConstMetric(m.desc, m.kind, v, labels...)
	}
	put(c.buildInfo, 1, c.version)
	c.putChecks(put, c.source.Ready(ctx))
	out <- histogram(c.commitSeconds, m.Commits)
	out <- histogram(c.commitChanges, m.GroupChanges)
	put(c.commitFailures, float64(m.CommitsFailed))
	put(c.committing, m.Committing.Seconds())
	put(c.transactions, float64(m.Transactions))
	put(c.deltas, float64(m.Deltas))
	for _, r := range m.Refused {
		put(c.refused, float64(r.Count), r.By, r.Reason)
	}
	put(c.watchers, float64(m.Watchers))
	put(c.storeBytes, float64(m.Usage.DiskBytes))
	put(c.storeFree, float64(m.Usage.FreeBytes))
	put(c.storeFloor, float64(m.Usage.FloorBytes))
	put(c.storeSyncs, float64(m.Usage.Syncs))
	put(c.clockOffset, m.Clock.Offset.Seconds())
	put(c.clockHolding, number(m.Clock.Holding))
	put(c.heldSpaces, float64(len(m.Clock.Held)))
	put(c.peersConfigured, float64(m.ConfiguredPeers))
	c.putPeers(put, m.Peers)
	c.putSpaces(put, m.Spaces)
	c.putGateway(put)
}

// putGateway tells of the gateway, if there is one. Its labels are few: they are ours.
func (c *collector) putGateway(put putter) {
	if c.gateway == nil {
		return
	}
	st := c.gateway()
	put(c.gatewayRequests, float64(st.Requests))
	for channel, n := range st.Connections {
		put(c.gatewayConnections, float64(n), channel)
	}
	for _, counts := range []struct {
		metric metric
		by     map[string]uint64
	}{{c.gatewayItems, st.Items}, {c.gatewayTransactions, st.Transactions}, {c.gatewayRefused, st.Refused}} {
		for label, n := range counts.by {
			put(counts.metric, float64(n), label)
		}
	}
}

type putter func(m metric, v float64, labels ...string)

func (c *collector) putChecks(put putter, checks []replica.Check) {
	isReady := true
	for _, check := range checks {
		isReady = isReady && (check.OK || check.Advisory)
		if check.Name == "writable" {
			put(c.writable, number(check.OK))
		}
	}
	put(c.ready, number(isReady))
}

func (c *collector) putPeers(put putter, peers []replica.PeerStatus) {
	connected := 0
	seen := make(map[string]bool)
	slices.SortStableFunc(peers, func(a, b replica.PeerStatus) int { return cmp.Compare(number(b.Connected), number(a.Connected)) })
	for _, p := range peers {
		if p.Connected {
			connected++
		}
		label := p.ID.Short()
		if p.ID.IsZero() || seen[label] || len(seen) == maxPeers {
			continue
		}
		seen[label] = true
		put(c.peerConnected, number(p.Connected), label)
		if p.Connected {
			put(c.peerSent, float64(p.Sent), label)
			put(c.peerReceived, float64(p.Received), label)
			put(c.peerSkew, p.Skew.Seconds(), label)
		}
	}
	put(c.peersConnected, float64(connected))
}

// spaceNumbers are what is told of a space, or of several together.
type spaceNumbers struct {
	name                                                                      string
	documents, conflicts, conflicted, mismatches, repairs, repaired, unpruned int64
	sessions, replicaIDs, members, counting                                   int
	stableAge                                                                 time.Duration
	damaged                                                                   bool
}

func (n *spaceNumbers) add(s replica.SpaceMetrics) {
	counting := 0
	n.documents += s.Documents
	n.conflicts += s.Conflicts
	n.conflicted += s.Conflicted
	n.mismatches += s.Repair.Mismatches
	n.repairs += s.Repair.Repairs
	n.repaired += s.Repair.Documents
	n.sessions += s.Sessions
	n.members = max(n.members, len(s.Stability.Members))
	for _, m := range s.Stability.Members {
		if m.Counts {
			counting++
		}
	}
	n.counting = max(n.counting, counting)
	n.unpruned += s.Stability.Waiting
	n.replicaIDs = max(n.replicaIDs, s.Vector.Len())
	n.stableAge = max(n.stableAge, s.Stability.Age)
	n.damaged = n.damaged || s.Repair.Damaged
}

func (c *collector) putSpaces(put putter, spaces []replica.SpaceMetrics) {
	var told []*spaceNumbers
	for i, s := range spaces {
		switch {
		case i < maxSpaces:
			told = append(told, &spaceNumbers{name: s.Name})
		case i == maxSpaces:
			told = append(told, &spaceNumbers{name: otherSpaces})
		}
		told[len(told)-1].add(s)
	}
	for _, n := range told {
		put(c.documents, float64(n.documents), n.name)
		put(c.conflicts, float64(n.conflicts), n.name)
		put(c.conflicted, float64(n.conflicted), n.name)
		put(c.sessions, float64(n.sessions), n.name)
		put(c.stableAge, n.stableAge.Seconds(), n.name)
		put(c.unpruned, float64(n.unpruned), n.name)
		put(c.members, float64(n.members), n.name)
		put(c.membersCounting, float64(n.counting), n.name)
		put(c.replicaIDs, float64(n.replicaIDs), n.name)
		put(c.mismatches, float64(n.mismatches), n.name)
		put(c.repairs, float64(n.repairs), n.name)
		put(c.repaired, float64(n.repaired), n.name)
		put(c.damaged, number(n.damaged), n.name)
	}
	c.putPairs(put, spaces[:min(len(spaces), maxSpaces)])
}

// putPairs tells how far each peer is in each space.
func (c *collector) putPairs(put putter, spaces []replica.SpaceMetrics) {
	type pair struct{ space, peer string }
	seen := make(map[pair]bool)
	for _, connected := range []bool{true, false} {
		for _, s := range spaces {
			for i, p := range s.Peers {
				at := pair{s.Name, p.Peer.Short()}
				if p.Connected != connected || seen[at] || len(seen) == maxPairs {
					continue
				}
				seen[at] = true
				put(c.peerPending, float64(p.Pending), at.space, at.peer)
				put(c.peerLag, s.Lag[i].Seconds(), at.space, at.peer)
				put(c.peerLevel, number(p.Connected && p.Level), at.space, at.peer)
				put(c.peerMismatch, number(p.Mismatch), at.space, at.peer)
			}
		}
	}
}

func number(on bool) float64 {
	if on {
		return 1
	}
	return 0
}

// histogram adds up the counts, as Prometheus wants them.
func histogram(desc *prometheus.Desc, h replica.Histogram) prometheus.Metric {
	buckets := make(map[float64]uint64, len(h.Bounds))
	count := uint64(0)
	for i, n := range h.Counts {
		count += n
		if i < len(h.Bounds) {
			buckets[h.Bounds[i]] = count
		}
	}
	return prometheus.MustNewConstHistogram(desc, count, h.Sum, buckets)
}
