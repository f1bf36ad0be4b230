package quicnet_test

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"runtime/metrics"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/klauspost/compress/s2"
	"github.com/quic-go/quic-go"

	"github.com/anabranch-db/anabranch/crdt"
	"github.com/anabranch-db/anabranch/crdt/codec"
	"github.com/anabranch-db/anabranch/crdt/hlc"
	"github.com/anabranch-db/anabranch/net/quicnet"
	"github.com/anabranch-db/anabranch/net/wire"
	"github.com/anabranch-db/anabranch/replica"
	"github.com/anabranch-db/anabranch/replica/protocol"
)

// The tests here play, frame by frame, a peer that is allowed and means harm, against a whole node. While each attack goes on, an honest
// peer exchanges writes with the node all the time, and the memory of the process is watched, the attackers' own included.

// hostileBudget is what an attack may cost, beyond what the node takes when it is idle, garbage included.
const hostileBudget = 64 << 20

// besieged is a node under attack, and an honest peer beside.
type besieged struct {
	t      *testing.T
	tr     *quicnet.Transport
	node   *replica.Replica
	space  *replica.Space // the node's
	honest *replica.Space
	idle   uint64
	most   atomic.Uint64 // reachable, as the garbage collector found
	peak   atomic.Uint64 // the same with garbage
	beside atomic.Int64  // exchanges of the honest peer during the attack
	stop   context.CancelFunc
	done   sync.WaitGroup
}

// besiege starts a node and its honest peer, and watches both until the test is over.
func besiege(t *testing.T, config quicnet.Config) *besieged {
	t.Helper()
	config.Identity = identity(t, 1)
	b := &besieged{t: t, tr: open(t, config)}
	b.node, b.space = openSpace(t, replica.Config{Transport: b.tr})
	_, b.honest = openSpace(t, replica.Config{
		Transport: open(t, quicnet.Config{Identity: identity(t, 2)}), Peers: []replica.Peer{{ID: b.node.Self(), Addr: b.tr.Addrs()[0]}},
	})
	b.exchange(t.Context(), 0)
	b.idle = liveHeap()
	ctx, stop := context.WithCancel(t.Context())
	b.stop = stop
	b.done.Go(func() {
		for i := 1; ctx.Err() == nil; i++ {
			b.exchange(ctx, i)
		}
	})
	b.done.Go(func() { b.watch(ctx) })
	return b
}

// exchange writes at both ends and waits until the other has it.
func (b *besieged) exchange(ctx context.Context, i int) {
	for _, end := range [][2]*replica.Space{{b.space, b.honest}, {b.honest, b.space}} {
		rc, err := end[0].Update(ctx, func(tx *replica.Tx) error { return tx.Doc("honest").Set(crdt.Path{"x"}, i) })
		if err == nil {
			wait, cancel := context.WithTimeout(ctx, patience)
			err = end[1].WaitVector(wait, crdt.NewVersionVector(rc.Dot))
			cancel()
		}
		if err != nil && ctx.Err() == nil {
			b.t.Errorf("the honest peer is held up: %v", err)
			return
		}
	}
	b.beside.Add(1)
}

func (b *besieged) watch(ctx context.Context) {
	heap := []metrics.Sample{{Name: "/gc/heap/live:bytes"}, {Name: "/memory/classes/heap/objects:bytes"}}
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			metrics.Read(heap)
			b.most.Store(max(b.most.Load(), heap[0].Value.Uint64()))
			b.peak.Store(max(b.peak.Load(), heap[1].Value.Uint64()))
		case <-ctx.Done():
			return
		}
	}
}

// over ends the watch: the honest peer went on, memory kept within bounds, and the node is sound and level with the honest peer.
func (b *besieged) over() {
	b.t.Helper()
	before := b.beside.Load()
	for deadline := time.Now().Add(patience); b.beside.Load() < before+3 && time.Now().Before(deadline) && !b.t.Failed(); {
		<-time.After(time.Millisecond)
	}
	b.stop()
	b.done.Wait()
	b.most.Store(max(b.most.Load(), liveHeap()))
	grown := int64(b.peak.Load()) - int64(b.idle)
	b.t.Logf("%d honest exchanges beside it; at most %d KiB above idle, of which %d are reachable", b.beside.Load(), grown>>10, (int64(b.most.Load())-int64(b.idle))>>10)
	if b.beside.Load() < before+3 {
		b.t.Error("the honest peer did not get on")
	}
	if grown > hostileBudget {
		b.t.Errorf("it cost %d MiB", grown>>20)
	}
	report, err := b.space.Verify(b.t.Context(), replica.VerifyOptions{})
	if err != nil || len(report.Problems) > 0 {
		b.t.Errorf("the node's store: %v %v", err, report.Problems)
	}
}

// vector returns what the node holds.
func (b *besieged) vector() crdt.VersionVector { return b.space.Summary().Vector }

// attacker is a connection with a session, played by hand.
type attacker struct {
	b      *besieged
	qc     *quic.Conn
	stream *quic.Stream
	mu     sync.Mutex
	heard  []protocol.Message
	ended  error
	closed chan struct{}
}

// attack connects and opens a stream for the space, without the vectors that open a session.
func (b *besieged) attack(number byte) *attacker {
	b.t.Helper()
	qc, err := rawDial(b.t, b.tr.Addrs()[0], rawTLS(certificate(b.t, edKey(number)), quicnet.ALPN))
	if err != nil {
		b.t.Fatal(err)
	}
	rawStream(b.t, qc, hello(b.t, wire.Major))
	return b.again(qc)
}

// again opens one more stream for the space.
func (b *besieged) again(qc *quic.Conn) *attacker {
	b.t.Helper()
	first, err := wire.AppendSpaceOpen(nil, "s")
	if err != nil {
		b.t.Fatal(err)
	}
	a := &attacker{b: b, qc: qc, stream: rawStream(b.t, qc, first), closed: make(chan struct{})}
	go a.listen()
	return a
}

func (a *attacker) listen() {
	defer close(a.closed)
	r := wire.NewReader(a.stream, wire.MaxFrameBytes)
	for {
		frame, err := r.ReadFrame()
		if err != nil {
			a.ended = err
			return
		}
		m, err := wire.Unmarshal(frame)
		if err != nil || m == nil {
			continue
		}
		a.mu.Lock()
		if len(a.heard) < 4096 {
			a.heard = append(a.heard, m)
		}
		a.mu.Unlock()
	}
}

// say sends messages; raw bytes are sent as they are. The node may have closed the stream already.
func (a *attacker) say(what ...any) {
	for _, m := range what {
		b, isRaw := m.([]byte)
		if !isRaw {
			var err error
			if b, err = wire.Marshal(nil, m.(protocol.Message)); err != nil {
				a.b.t.Fatal(err)
			}
		}
		if _, err := a.stream.Write(b); err != nil {
			return
		}
	}
}

// hears waits for a message.
func (a *attacker) hears(what string, is func(protocol.Message) bool) {
	a.b.t.Helper()
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); <-time.After(time.Millisecond) {
		a.mu.Lock()
		for _, m := range a.heard {
			if is(m) {
				a.mu.Unlock()
				return
			}
		}
		a.mu.Unlock()
	}
	a.b.t.Errorf("the node did not say: %s", what)
}

// isRefused waits for the refusal of a delta.
func (a *attacker) isRefused(code protocol.RefusalCode, text string) {
	a.b.t.Helper()
	a.hears(fmt.Sprintf("%s %q", code, text), func(m protocol.Message) bool {
		r, ok := m.(*protocol.Refusal)
		return ok && r.Code == code && strings.Contains(r.Text, text)
	})
}

// isCutOff waits until the node has closed the stream.
func (a *attacker) isCutOff(what string) {
	a.b.t.Helper()
	select {
	case <-a.closed:
	case <-time.After(patience):
		a.b.t.Errorf("%s: the stream was not closed", what)
		return
	}
	var stream *quic.StreamError
	if !errors.As(a.ended, &stream) {
		a.b.t.Errorf("%s: %v", what, a.ended)
	}
}

// meet opens the session as an honest peer does that holds nothing.
func (a *attacker) meet() *attacker {
	a.say(&protocol.Vectors{})
	a.hears("its vectors", func(m protocol.Message) bool { _, ok := m.(*protocol.Vectors); return ok })
	return a
}

const hostileID = crdt.ReplicaID(0xbad)

func nowTime() hlc.Time { return hlc.FromWall(time.Now()) }

// cellsOf packs one field.
func cellsOf(t *testing.T, c crdt.Cell) []byte {
	t.Helper()
	p, err := crdt.Path{"x"}.Pack()
	if err != nil {
		t.Fatal(err)
	}
	return codec.AppendCells(nil, []crdt.Field{{Path: p, Cell: c}})
}

func entry(d crdt.Dot) crdt.Entry {
	return crdt.Entry{Dot: d, Stamp: d.Time, Author: d.Replica, Value: crdt.IntValue(666)}
}

func deltaOf(origin crdt.ReplicaID, from, to hlc.Time, cells []byte) *protocol.Delta {
	return &protocol.Delta{Delta: crdt.Delta{Origin: origin, From: from, To: to, Documents: []crdt.DocumentDelta{{Key: "evil", Cells: cells}}}}
}

// isUntouched fails if anything of the attacker's got in.
func (b *besieged) isUntouched() {
	b.t.Helper()
	if vv := b.vector(); vv.Get(hostileID) != 0 {
		b.t.Errorf("the node holds %s of the attacker", vv.Get(hostileID))
	}
	if _, err := b.space.Get(b.t.Context(), "evil"); !errors.Is(err, replica.ErrNotFound) {
		b.t.Errorf("the document is there: %v", err)
	}
}

// frame makes a frame of any type and body.
func frame(kind wire.Type, body []byte) []byte {
	b := binary.BigEndian.AppendUint32(nil, uint32(1+len(body)))
	return append(append(b, byte(kind)), body...)
}

func TestHostileForgedSizes(t *testing.T) {
	zeros, err := wire.Marshal(nil, deltaOf(hostileID, 0, nowTime(), make([]byte, 7<<20)))
	if err != nil {
		t.Fatal(err)
	}
	huge := binary.BigEndian.AppendUint32(nil, 1<<31)
	attacks := map[string][]byte{
		"a frame of 2 GiB":                       append(huge, byte(wire.TypeDelta)),
		"a frame of 8 MiB and a byte":            append(binary.BigEndian.AppendUint32(nil, wire.MaxFrameBytes+1), byte(wire.TypeDelta)),
		"an array of four thousand million":      frame(wire.TypeDelta, []byte{0xdd, 0xff, 0xff, 0xff, 0xff}),
		"bytes of four thousand million":         frame(wire.TypeAck, []byte{0x91, 0xc6, 0xff, 0xff, 0xff, 0xff}),
		"text of four thousand million":          frame(wire.TypeRefusal, []byte{0x95, 1, 1, 1, 1, 0xdb, 0xff, 0xff, 0xff, 0xff}),
		"a map of four thousand million":         frame(wire.TypeLevel, []byte{0x91, 0xdf, 0xff, 0xff, 0xff, 0xff}),
		"a packed frame that says it is 1 GiB":   frame(wire.TypePacked, append([]byte{0x92, 0xce, 0x40, 0, 0, 0, 0xc4, 4}, s2.Encode(nil, nil)...)),
		"a packed frame that unpacks to another": frame(wire.TypePacked, packed(zeros)),
		"seven million zeros for cells":          zeros,
	}
	b := besiege(t, quicnet.Config{})
	for name, bytes := range attacks {
		a := b.attack(200).meet()
		a.say(bytes)
		a.isCutOff(name)
		a.qc.CloseWithError(0, "")
	}
	// The same again, from many streams of many peers at once.
	var all sync.WaitGroup
	for i := range 4 {
		a := b.attack(byte(201 + i))
		all.Go(func() {
			for range 6 {
				a.say(&protocol.Vectors{}, zeros)
				a = b.again(a.qc)
			}
		})
	}
	all.Wait()
	b.isUntouched()
	b.over()
}

// packed compresses a frame into another.
func packed(inner []byte) []byte {
	block := s2.Encode(nil, inner[4:])
	body := []byte{0x92, 0xce}
	body = binary.BigEndian.AppendUint32(body, uint32(len(inner)-4))
	body = append(body, 0xc6)
	body = binary.BigEndian.AppendUint32(body, uint32(len(block)))
	return append(body, block...)
}

func TestHostileDeepNesting(t *testing.T) {
	arrays := []byte(strings.Repeat("\x91", 8_000_000))
	maps := []byte(strings.Repeat("\x81\xa0", 4_000_000))
	attacks := map[string][]byte{
		"eight million arrays": frame(wire.TypeDelta, arrays),
		"four million maps":    frame(wire.TypeRefusal, maps),
		"in an unread element": frame(wire.TypeAck, append([]byte{0x92, 0xc4, 0}, arrays...)),
		"and packed":           frame(wire.TypePacked, packed(frame(wire.TypeDelta, arrays[:500_000]))),
	}
	b := besiege(t, quicnet.Config{})
	for name, bytes := range attacks {
		a := b.attack(200).meet()
		a.say(bytes)
		a.isCutOff(name)
		a.qc.CloseWithError(0, "")
	}
	// A value of arrays within arrays, well formed but for its depth.
	deep := []byte{0} // null
	for range 3000 {
		deep = append(binary.AppendUvarint([]byte{7}, uint64(len(deep)+1)), append([]byte{1}, deep...)...)
	}
	cells := cellsOf(t, crdt.Cell{Live: []crdt.Entry{{Dot: crdt.Dot{Replica: hostileID, Time: 1}, Stamp: 1, Author: hostileID}}})
	a := b.attack(200).meet()
	a.say(deltaOf(hostileID, 0, 1, append(cells[:len(cells)-3], append([]byte{7, 'x', 0}, deep[1:]...)...)))
	a.isRefused(protocol.RefusedMalformed, "")
	b.isUntouched()
	b.over()
}

// A vector says only what its sender holds: the node's own grows by what it merged, and by nothing else.
func TestHostileClaims(t *testing.T) {
	b := besiege(t, quicnet.Config{})
	a := b.attack(200)
	claims := b.vector().Clone()
	claims.Advance(crdt.Dot{Replica: hostileID, Time: hlc.Max})
	for d := range b.vector().All() {
		claims.Advance(crdt.Dot{Replica: d.Replica, Time: hlc.Max - 1})
	}
	a.say(&protocol.Vectors{Self: hostileID, VV: claims, Stable: claims, Ahead: claims})
	a.hears("its vectors", func(m protocol.Message) bool { _, ok := m.(*protocol.Vectors); return ok })
	for i := range 1000 { // acknowledgements of what it never had, and of what nobody ever wrote
		a.say(&protocol.Ack{VV: crdt.NewVersionVector(crdt.Dot{Replica: hostileID + crdt.ReplicaID(i), Time: hlc.Max})})
	}
	id := b.node.ReplicaID()
	a.say(&protocol.Ack{VV: crdt.NewVersionVector(crdt.Dot{Replica: id, Time: hlc.Max})}, &protocol.Level{})
	rc, err := b.space.Update(t.Context(), func(tx *replica.Tx) error { return tx.Doc("d").Set(crdt.Path{"x"}, 1) })
	if err != nil {
		t.Fatal(err)
	}
	// The lie counts for the liar, once; the honest peer still gets everything.
	if err := b.honest.WaitVector(withPatience(t), crdt.NewVersionVector(rc.Dot)); err != nil {
		t.Error(err)
	}
	if err := b.space.WaitSynced(withPatience(t), rc, 1); err != nil {
		t.Error(err)
	}
	if vv := b.vector(); vv.Max() > nowTime()+1<<20 || vv.Get(hostileID) != 0 {
		t.Errorf("the node believes it: %s", vv)
	}
	b.isUntouched()
	b.over()
}

func TestHostileFutureDots(t *testing.T) {
	b := besiege(t, quicnet.Config{})
	now, future := nowTime(), hlc.FromWall(time.Now().Add(365*24*time.Hour))
	good := crdt.Dot{Replica: hostileID, Time: now}
	stamped := entry(good)
	stamped.Stamp = future
	horizon := deltaOf(hostileID, 0, now, cellsOf(t, crdt.Cell{Live: []crdt.Entry{entry(good)}}))
	horizon.Horizon = crdt.NewVersionVector(crdt.Dot{Replica: 0xbeef, Time: future})
	for name, d := range map[string]*protocol.Delta{
		"its own time": deltaOf(hostileID, 0, future, cellsOf(t, crdt.Cell{Live: []crdt.Entry{entry(crdt.Dot{Replica: hostileID, Time: future})}})),
		"the end":      deltaOf(hostileID, 0, hlc.Max, cellsOf(t, crdt.Cell{Live: []crdt.Entry{entry(good)}})),
		"a stamp":      deltaOf(hostileID, 0, now, cellsOf(t, crdt.Cell{Live: []crdt.Entry{stamped}})),
		"another's, relayed": deltaOf(hostileID, 0, now, cellsOf(t, crdt.Cell{Live: []crdt.Entry{entry(good), entry(crdt.Dot{
			Replica: 0xbeef, Time: future,
		})}})),
		"an observed dot": deltaOf(hostileID, 0, now, cellsOf(t, crdt.Cell{
			Live: []crdt.Entry{entry(good)}, Observed: crdt.NewVersionVector(crdt.Dot{Replica: 0xbeef, Time: future}),
		})),
		"a horizon": horizon,
	} {
		a := b.attack(200).meet()
		a.say(d)
		a.isRefused(protocol.RefusedClock, "ahead of the local clock")
		a.qc.CloseWithError(0, "")
		if max := b.space.Summary().Horizon.Max(); max >= future {
			t.Fatalf("%s: it got in: %s", name, max)
		}
	}
	b.isUntouched()
	if rc, err := b.space.Update(t.Context(), func(tx *replica.Tx) error { return tx.Doc("d").Set(crdt.Path{"x"}, 1) }); err != nil || rc.Dot.Time >= future {
		t.Errorf("the clock was moved: %s, %v", rc.Dot, err)
	}
	b.over()
}

func TestHostileDotsInAnothersName(t *testing.T) {
	b := besiege(t, quicnet.Config{})
	now := nowTime()
	var honest crdt.Dot // a replica that both hold writes of
	for d := range b.vector().All() {
		honest = d
	}
	cells := func(d crdt.Dot) []byte { return cellsOf(t, crdt.Cell{Live: []crdt.Entry{entry(d)}}) }
	a := b.attack(200).meet()
	// What begins after what the node has of a replica is not taken.
	second := hlc.FromUnixMilli(1000)
	later := crdt.Dot{Replica: honest.Replica, Time: now + 50*second} // the honest one goes on meanwhile
	a.say(deltaOf(honest.Replica, now+40*second, later.Time, cells(later)))
	a.isRefused(protocol.RefusedGap, "begins after what is here")
	a.say(deltaOf(hostileID, 5, now, cells(crdt.Dot{Replica: hostileID, Time: now})))
	a.isRefused(protocol.RefusedGap, "begins after what is here")
	b.isUntouched()
	for name, d := range map[string]*protocol.Delta{
		"no replica":                    deltaOf(0, 0, now, cells(crdt.Dot{Replica: hostileID, Time: now})),
		"a dot at no time":              deltaOf(hostileID, 0, now, rawCell(t, crdt.Dot{Replica: hostileID})),
		"a dot of no replica":           deltaOf(hostileID, 0, now, rawCell(t, crdt.Dot{Time: now})),
		"no cells":                      deltaOf(hostileID, 0, now, nil),
		"a range that ends before":      deltaOf(hostileID, now, now-1, cells(crdt.Dot{Replica: hostileID, Time: now})),
		"a key that is too long":        {Delta: crdt.Delta{Origin: hostileID, To: now, Documents: []crdt.DocumentDelta{{Key: "k\xff", Cells: cells(crdt.Dot{Replica: hostileID, Time: now})}}}},
		"the same document, two times":  {Delta: crdt.Delta{Origin: hostileID, To: now, Documents: []crdt.DocumentDelta{{Key: "k", Cells: cells(crdt.Dot{Replica: hostileID, Time: now})}, {Key: "k", Cells: cells(crdt.Dot{Replica: hostileID, Time: now})}}}},
		"documents that are not sorted": {Delta: crdt.Delta{Origin: hostileID, To: now, Documents: []crdt.DocumentDelta{{Key: "l", Cells: cells(crdt.Dot{Replica: hostileID, Time: now})}, {Key: "k", Cells: cells(crdt.Dot{Replica: hostileID, Time: now})}}}},
	} {
		t.Run(name, func(*testing.T) {
			a := b.attack(200).meet()
			bytes, err := wire.Marshal(nil, d)
			if err != nil {
				return // it cannot even be said
			}
			a.say(bytes)
			select {
			case <-a.closed:
			case <-time.After(2 * time.Second): // ranges that are known already are passed over
			}
			a.qc.CloseWithError(0, "")
			b.isUntouched()
		})
	}
	b.over()
}

// rawCell packs an entry that no honest cell has.
func rawCell(t *testing.T, d crdt.Dot) []byte {
	t.Helper()
	return cellsOf(t, crdt.Cell{Live: []crdt.Entry{{Dot: d, Stamp: 1, Author: 1, Value: crdt.IntValue(1)}}})
}

// A frame that is played again and again, in one session and in others, by anybody, changes nothing.
func TestHostileReplays(t *testing.T) {
	b := besiege(t, quicnet.Config{})
	now := nowTime()
	d := crdt.Dot{Replica: hostileID, Time: now}
	frame := deltaOf(hostileID, 0, now, cellsOf(t, crdt.Cell{Live: []crdt.Entry{entry(d)}}))
	a := b.attack(200).meet()
	a.say(frame)
	if err := b.honest.WaitVector(withPatience(t), crdt.NewVersionVector(d)); err != nil {
		t.Fatal(err)
	}
	if _, err := b.space.Update(t.Context(), func(tx *replica.Tx) error { return tx.Doc("evil").Delete() }); err != nil {
		t.Fatal(err)
	}
	for i := range 5 {
		again := b.attack(byte(200 + i)).meet()
		for range 500 {
			again.say(frame)
		}
		again.qc.CloseWithError(0, "")
	}
	if _, err := b.space.Get(t.Context(), "evil"); !errors.Is(err, replica.ErrNotFound) {
		t.Errorf("what was deleted is back: %v", err)
	}
	b.over()
}

// Whatever is asked for in any number, one answer waits at a time.
func TestHostileQuestionsWithoutEnd(t *testing.T) {
	b := besiege(t, quicnet.Config{})
	a := b.attack(200)
	a.say(&protocol.Vectors{})
	end := time.Now().Add(2 * time.Second)
	for i := 0; time.Now().Before(end); i++ {
		a.say(
			&protocol.Clock{Asked: uint64(i)}, &protocol.Clock{Asked: uint64(i), Wall: time.Now().Add(-time.Hour)},
			&protocol.Refusal{Code: protocol.RefusedGap, Origin: crdt.ReplicaID(i), To: hlc.Max}, &protocol.Level{},
			&protocol.Refusal{Code: protocol.RefusedClock, Origin: crdt.ReplicaID(i), Text: strings.Repeat("x", 1000)},
			&protocol.Ack{VV: crdt.NewVersionVector(crdt.Dot{Replica: crdt.ReplicaID(i + 1), Time: 1})},
			deltaOf(crdt.ReplicaID(1<<40+i), 7, nowTime(), cellsOf(t, crdt.Cell{Live: []crdt.Entry{entry(crdt.Dot{Replica: 9, Time: 9})}})),
		)
	}
	b.isUntouched()
	b.over()
}

func TestHostileHalfOpenStreams(t *testing.T) {
	b := besiege(t, quicnet.Config{HandshakeTimeout: time.Second})
	whole, err := wire.Marshal(nil, deltaOf(hostileID, 0, nowTime(), make([]byte, 1<<20)))
	if err != nil {
		t.Fatal(err)
	}
	for i := range 4 {
		a := b.attack(byte(200 + i)).meet()
		a.say(whole[:len(whole)/2]) // the rest never comes
		for {
			qs, err := a.qc.OpenStream()
			if err != nil {
				break
			}
			if _, err := qs.Write([]byte{0}); err != nil { // a length, and no more of it
				break
			}
		}
	}
	// Streams that end are followed by others, without end.
	qc := b.attack(220).qc
	end := time.Now().Add(3 * time.Second)
	for n := 0; time.Now().Before(end); n++ {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		qs, err := qc.OpenStreamSync(ctx)
		cancel()
		if err != nil {
			continue
		}
		_, _ = qs.Write([]byte{0, 0, 0, 9, byte(wire.TypeSpaceOpen)})
		if n%2 == 0 {
			qs.CancelWrite(1)
			qs.CancelRead(1)
		}
	}
	b.isUntouched()
	b.over()
}

func TestHostileFloodOfConnections(t *testing.T) {
	b := besiege(t, quicnet.Config{HandshakeTimeout: time.Second, Allow: func(id replica.PeerID) bool { return id == identity(t, 2).PeerID() }})
	var all sync.WaitGroup
	var refused atomic.Int64
	end := time.Now().Add(4 * time.Second)
	for i := range 16 {
		conf := rawTLS(certificate(t, edKey(byte(100+i))), quicnet.ALPN)
		all.Go(func() {
			for time.Now().Before(end) {
				ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
				qc, err := quic.DialAddr(ctx, b.tr.Addrs()[0], conf, &quic.Config{EnableStreamResetPartialDelivery: true})
				if err == nil {
					select {
					case <-qc.Context().Done():
					case <-ctx.Done():
					}
					qc.CloseWithError(0, "")
				}
				refused.Add(1)
				cancel()
			}
		})
	}
	all.Wait()
	t.Logf("%d connections were refused", refused.Load())
	if n := len(b.node.Peers()); n != 1 {
		t.Errorf("%d peers", n)
	}
	b.over()
}
