package gateway

import (
	"context"
	"iter"
	"maps"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/anabranch-db/anabranch/replica"
)

// nodeView is the answer of GET /v1/node, and each event of /v1/node/events: how the node is, for a dashboard. Times are Unix
// milliseconds by the node's clock, 0 for never; durations are milliseconds.
type nodeView struct {
	Time    int64       `json:"time"`
	You     nodeYou     `json:"you"`
	Node    nodeSelf    `json:"node"`
	Ready   bool        `json:"ready"`
	Checks  []nodeCheck `json:"checks"`
	Store   nodeStore   `json:"store"`
	Clock   nodeClock   `json:"clock"`
	Spaces  []nodeSpace `json:"spaces"`
	Peers   []nodePeer  `json:"peers"`
	Totals  nodeTotals  `json:"totals"`
	Gateway nodeGateway `json:"gateway"`
	Rates   *nodeRates  `json:"rates,omitempty"` // over the time since the last look; absent at the first
}

// nodeYou says what the token is good for.
type nodeYou struct {
	Subject string `json:"subject"`
	Space   string `json:"space"`
	Rights  string `json:"rights"`
	Expires int64  `json:"expires"`
}

type nodeSelf struct {
	Peer      string   `json:"peer"`
	Version   string   `json:"version"`
	Started   int64    `json:"started"` // of the gateway
	Addresses []string `json:"addresses"`
}

type nodeCheck struct {
	Name     string `json:"name"`
	OK       bool   `json:"ok"`
	Advisory bool   `json:"advisory"` // failing it does not make the node unready
	Detail   string `json:"detail"`
}

type nodeStore struct {
	DiskBytes  int64 `json:"diskBytes"`
	FreeBytes  int64 `json:"freeBytes"`
	FloorBytes int64 `json:"floorBytes"` // free space below which nothing is written
}

type nodeClock struct {
	State    string     `json:"state"` // as replica.ClockStatus has it
	OffsetMS int64      `json:"offsetMs"`
	Peers    int        `json:"peers"`
	AheadOf  int        `json:"aheadOf"`
	BehindOf int        `json:"behindOf"`
	Held     []nodeHeld `json:"held"`
}

type nodeHeld struct {
	Space  string `json:"space"`
	Until  int64  `json:"until"`
	Reason string `json:"reason"`
}

type nodeSpace struct {
	Name       string          `json:"name"`
	ID         string          `json:"id,omitempty"` // of a space with a key
	Rights     string          `json:"rights"`       // of the token
	NodeRights string          `json:"nodeRights"`   // of the node
	Documents  int64           `json:"documents"`
	Conflicts  int64           `json:"conflicts"`  // values
	Conflicted int64           `json:"conflicted"` // documents
	Digest     string          `json:"digest"`
	Closed     bool            `json:"closed"`
	Cursor     string          `json:"cursor"`
	Vector     int             `json:"vector"` // replica IDs in it
	StableAge  int64           `json:"stableAgeMs"`
	Unpruned   int64           `json:"unpruned"`
	Sessions   int             `json:"sessions"`
	Members    int             `json:"members"`  // other nodes that keep it
	Counting   int             `json:"counting"` // of these, those that pruning waits for
	HeldBackBy []string        `json:"heldBackBy"`
	Mismatches int64           `json:"mismatches"`
	Repairs    int64           `json:"repairs"`
	Damaged    string          `json:"damaged,omitempty"`
	Snapshot   *nodeSnapshot   `json:"snapshot,omitempty"` // being taken
	Peers      []nodeSpacePeer `json:"peers"`
}

type nodeSnapshot struct {
	Peer           string `json:"peer"`
	Documents      uint64 `json:"documents"`
	KnownDocuments uint64 `json:"knownDocuments"`
	Bytes          uint64 `json:"bytes"`
	KnownBytes     uint64 `json:"knownBytes"`
	Active         bool   `json:"active"`
}

type nodeSpacePeer struct {
	Peer      string        `json:"peer"`
	Connected bool          `json:"connected"`
	Level     bool          `json:"level"`
	Known     int64         `json:"known"`
	Pending   int64         `json:"pending"`
	LagMS     int64         `json:"lagMs"`
	Mismatch  bool          `json:"mismatch"`
	Snapshot  *nodeSnapshot `json:"snapshot,omitempty"` // being given
	LastError string        `json:"lastError,omitempty"`
	ErrorAt   int64         `json:"errorAt,omitempty"`
}

type nodePeer struct {
	Peer      string `json:"peer"` // "" for an address whose node is not known yet
	Address   string `json:"address"`
	Source    string `json:"source"`
	Connected bool   `json:"connected"`
	Dialled   bool   `json:"dialled"`
	Since     int64  `json:"since"`
	Seen      int64  `json:"seen"`
	Sent      uint64 `json:"sentBytes"`
	Received  uint64 `json:"receivedBytes"`
	SkewMS    int64  `json:"skewMs"`
	LagMS     int64  `json:"lagMs"`   // the greatest of all spaces
	Pending   int64  `json:"pending"` // of all spaces
	LastError string `json:"lastError,omitempty"`
	ErrorAt   int64  `json:"errorAt,omitempty"`
}

type nodeTotals struct {
	Transactions  uint64  `json:"transactions"` // local ones
	Deltas        uint64  `json:"deltas"`       // received
	Commits       uint64  `json:"commits"`
	CommitSeconds float64 `json:"commitSeconds"` // all together
	CommitsFailed uint64  `json:"commitsFailed"`
	Refused       uint64  `json:"refused"` // deltas, by us or by peers
	Watchers      int64   `json:"watchers"`
}

type nodeGateway struct {
	Connections  map[string]int64  `json:"connections"`
	Items        map[string]uint64 `json:"items"`
	Transactions map[string]uint64 `json:"transactions"`
	Refused      map[string]uint64 `json:"refused"`
	Requests     uint64            `json:"requests"`
}

// nodeRates are per second.
type nodeRates struct {
	Seconds       float64 `json:"seconds"` // over which they were measured
	Transactions  float64 `json:"transactions"`
	Deltas        float64 `json:"deltas"`
	Items         float64 `json:"items"`
	Requests      float64 `json:"requests"`
	SentBytes     float64 `json:"sentBytes"`
	ReceivedBytes float64 `json:"receivedBytes"`
	CommitMS      float64 `json:"commitMs"` // mean time of a commit; 0 if there was none
}

// The node is looked at as often as somebody asks, but not more often than sampleEvery; rates are told over at most maxRateTime.
const (
	sampleEvery = time.Second
	maxRateTime = 30 * time.Second
)

// sample is the node at one moment.
type sample struct {
	at      time.Time
	metrics replica.Metrics
	checks  []replica.Check
	stats   Stats
	rates   *nodeRates
}

// sampler looks at the node for all who watch.
type sampler struct {
	mu   sync.Mutex // held while looking, so that one looks for all
	last *sample
}

// look returns what the node was like at most a moment ago.
func (g *Gateway) look(ctx context.Context) (*sample, error) {
	s := &g.sampler
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.last != nil && time.Since(s.last.at) < sampleEvery*9/10 {
		return s.last, nil
	}
	m, err := g.cfg.Replica.Metrics(ctx)
	if err != nil {
		return nil, err
	}
	next := &sample{at: time.Now(), metrics: m, checks: g.cfg.Replica.Ready(ctx), stats: g.Stats()}
	if s.last != nil && next.at.Sub(s.last.at) <= maxRateTime {
		next.rates = ratesBetween(s.last, next)
	}
	s.last = next
	return next, nil
}

func ratesBetween(a, b *sample) *nodeRates {
	seconds := b.at.Sub(a.at).Seconds()
	r := &nodeRates{
		Seconds:      seconds,
		Transactions: float64(b.metrics.Transactions-a.metrics.Transactions) / seconds,
		Deltas:       float64(b.metrics.Deltas-a.metrics.Deltas) / seconds,
		Items:        float64(total(maps.Values(b.stats.Items))-total(maps.Values(a.stats.Items))) / seconds,
		Requests:     float64(b.stats.Requests-a.stats.Requests) / seconds,
	}
	before := make(map[replica.PeerID]replica.PeerStatus)
	for _, p := range a.metrics.Peers {
		if p.Connected {
			before[p.ID] = p
		}
	}
	for _, p := range b.metrics.Peers {
		if !p.Connected {
			continue
		}
		old := before[p.ID]
		if !old.Since.Equal(p.Since) {
			old = replica.PeerStatus{} // another connection counts from zero
		}
		r.SentBytes += float64(p.Sent-old.Sent) / seconds
		r.ReceivedBytes += float64(p.Received-old.Received) / seconds
	}
	if n := total(slices.Values(b.metrics.Commits.Counts)) - total(slices.Values(a.metrics.Commits.Counts)); n > 0 {
		r.CommitMS = (b.metrics.Commits.Sum - a.metrics.Commits.Sum) / float64(n) * 1000
	}
	return r
}

func total(counts iter.Seq[uint64]) (sum uint64) {
	for n := range counts {
		sum += n
	}
	return sum
}

// viewFor says what a grant may see of a sample: its spaces and the nodes that keep them, and, with a token for all spaces or the rights of
// an admin, all peers and their addresses.
func (g *Gateway) viewFor(s *sample, gr Grant) *nodeView {
	sees := gr.Space == AllSpaces || gr.Rights >= replica.AdminRights
	m := &s.metrics
	v := &nodeView{
		Time: millis(g.cfg.Now()), You: nodeYou{Subject: gr.Subject, Space: gr.Space, Rights: gr.Rights.String(), Expires: millis(gr.Expires)},
		Node:  nodeSelf{Peer: g.cfg.Replica.Self().String(), Version: g.cfg.Version, Started: millis(g.started), Addresses: []string{}},
		Ready: true, Checks: []nodeCheck{}, Store: nodeStore{DiskBytes: m.Usage.DiskBytes, FreeBytes: m.Usage.FreeBytes, FloorBytes: m.Usage.FloorBytes},
		Clock: clockOf(m.Clock, gr), Spaces: []nodeSpace{}, Peers: []nodePeer{}, Rates: s.rates,
		Totals: nodeTotals{
			Transactions: m.Transactions, Deltas: m.Deltas, Commits: total(slices.Values(m.Commits.Counts)), CommitSeconds: m.Commits.Sum,
			CommitsFailed: m.CommitsFailed, Watchers: m.Watchers,
		},
		Gateway: gatewayOf(s.stats),
	}
	for _, r := range m.Refused {
		v.Totals.Refused += r.Count
	}
	for _, c := range s.checks {
		v.Ready = v.Ready && (c.OK || c.Advisory)
		detail := c.Detail
		if !sees {
			detail = "" // may name files, and other spaces
		}
		v.Checks = append(v.Checks, nodeCheck{Name: c.Name, OK: c.OK, Advisory: c.Advisory, Detail: detail})
	}
	if sees {
		v.Node.Addresses = append(v.Node.Addresses, g.cfg.Replica.Addrs()...)
	}
	inSpaces := make(map[replica.PeerID]*nodeSpacePeer) // all spaces together
	for i := range m.Spaces {
		sp := &m.Spaces[i]
		if !gr.May(sp.Name, replica.ReadRights) {
			continue
		}
		v.Spaces = append(v.Spaces, g.spaceView(sp, gr, sees))
		for k, p := range sp.Peers {
			all := inSpaces[p.Peer]
			if all == nil {
				all = new(nodeSpacePeer)
				inSpaces[p.Peer] = all
			}
			all.Pending += p.Pending
			all.LagMS = max(all.LagMS, sp.Lag[k].Milliseconds())
		}
	}
	for _, p := range m.Peers {
		all := inSpaces[p.ID]
		if all == nil && !sees {
			continue
		}
		v.Peers = append(v.Peers, peerView(p, all, sees))
	}
	return v
}

func gatewayOf(s Stats) nodeGateway {
	return nodeGateway{Connections: s.Connections, Items: s.Items, Transactions: s.Transactions, Refused: s.Refused, Requests: s.Requests}
}

func clockOf(c replica.ClockStatus, gr Grant) nodeClock {
	out := nodeClock{State: c.State(), OffsetMS: c.Offset.Milliseconds(), Peers: c.Peers, AheadOf: c.Ahead, BehindOf: c.Behind, Held: []nodeHeld{}}
	for _, h := range c.Held {
		if gr.May(h.Space, replica.ReadRights) {
			out.Held = append(out.Held, nodeHeld{Space: h.Space, Until: millis(h.Until), Reason: h.Reason})
		}
	}
	return out
}

func (g *Gateway) spaceView(m *replica.SpaceMetrics, gr Grant, sees bool) nodeSpace {
	out := nodeSpace{
		Name: m.Name, Rights: gr.Rights.String(), NodeRights: replica.NoRights.String(), Documents: m.Documents, Conflicts: m.Conflicts, Conflicted: m.Conflicted,
		Digest: m.Digest.String(), Closed: m.Closed, Cursor: m.Cursor.String(), Vector: m.Vector.Len(), StableAge: m.Stability.Age.Milliseconds(),
		Unpruned: m.Stability.Waiting, Sessions: m.Sessions, Members: len(m.Stability.Members), HeldBackBy: []string{},
		Mismatches: m.Repair.Mismatches, Repairs: m.Repair.Repairs, Snapshot: snapshotView(m.Snapshot), Peers: []nodeSpacePeer{},
	}
	if s, ok := g.cfg.Replica.Lookup(m.Name); ok {
		out.NodeRights = s.Rights().String()
		if id, ok := s.ID(); ok {
			out.ID = id.String()
		}
	}
	if m.Repair.Damaged {
		out.Damaged = m.Repair.DamageWas
	}
	for _, member := range m.Stability.Members {
		if member.Counts {
			out.Counting++
		}
	}
	for _, h := range m.Stability.HeldBack {
		out.HeldBackBy = append(out.HeldBackBy, h.Peer.String())
	}
	for i, p := range m.Peers {
		sp := nodeSpacePeer{
			Peer: p.Peer.String(), Connected: p.Connected, Level: p.Level, Known: p.Known, Pending: p.Pending, Mismatch: p.Mismatch,
			Snapshot: snapshotView(p.Snapshot), LagMS: m.Lag[i].Milliseconds(), ErrorAt: millis(p.ErrorAt),
		}
		if sees {
			sp.LastError = p.LastError
		}
		out.Peers = append(out.Peers, sp)
	}
	return out
}

func snapshotView(s *replica.SnapshotStatus) *nodeSnapshot {
	if s == nil {
		return nil
	}
	return &nodeSnapshot{
		Peer: s.Peer.String(), Documents: s.Documents, KnownDocuments: s.KnownDocuments, Bytes: s.Bytes, KnownBytes: s.KnownBytes, Active: s.Active,
	}
}

func peerView(p replica.PeerStatus, all *nodeSpacePeer, sees bool) nodePeer {
	out := nodePeer{
		Source: p.Source, Connected: p.Connected, Dialled: p.Dialled, Since: millis(p.Since), Seen: millis(p.Seen),
		Sent: p.Sent, Received: p.Received, SkewMS: p.Skew.Milliseconds(), ErrorAt: millis(p.ErrorAt),
	}
	if !p.ID.IsZero() {
		out.Peer = p.ID.String()
	}
	if all != nil {
		out.Pending, out.LagMS = all.Pending, all.LagMS
	}
	if sees {
		out.Address, out.LastError = p.Addr, p.LastError
	}
	return out
}

// millis returns a time as Unix milliseconds, 0 for the zero time.
func millis(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMilli()
}

func (g *Gateway) routeNode(routes *router) {
	routes.HandleFunc("GET /v1/node", g.answered(g.getNode))
	routes.HandleFunc("GET /v1/node/events", g.granted(g.watchNode))
}

func (g *Gateway) getNode(w http.ResponseWriter, r *http.Request, gr Grant) error {
	s, err := g.look(r.Context())
	if err != nil {
		return err
	}
	return writeJSON(w, http.StatusOK, g.viewFor(s, gr))
}

// watchNode sends what getNode answers, once a second, as server-sent events.
func (g *Gateway) watchNode(w http.ResponseWriter, r *http.Request, gr Grant) {
	release, err := g.admit(gr)
	if err != nil {
		writeProblem(w, err)
		return
	}
	defer release()
	defer g.meter.connected("dashboard")()
	ctx, stop := g.whileGranted(r.Context(), gr)
	defer stop()
	stream := g.newEventStream(w)
	tick := time.NewTicker(sampleEvery)
	defer tick.Stop()
	for {
		s, err := g.look(ctx)
		if err == nil {
			err = stream.sendJSON("node", g.viewFor(s, gr))
		}
		if err != nil {
			return // the client has gone, or the node closes
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			if p := problemOf(context.Cause(ctx)); p.Code == CodeTokenExpired || p.Code == CodeTokenRevoked {
				_ = stream.sendJSON("error", problemBody{http.StatusText(p.Status), p.Status, p.Detail, p.Code})
			}
			return
		}
	}
}
