//go:build linux

package main

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/anabranch-db/anabranch/crdt"
	"github.com/anabranch-db/anabranch/net/quicnet"
	"github.com/anabranch-db/anabranch/replica"
)

// powerCuts returns how many cuts a test makes, and the seed of what is written and when the power is cut. The
// moment is not the same twice, so a seed does not replay a failure: the image of the disk is the evidence.
func powerCuts(t *testing.T) (rounds int, seed uint64) {
	t.Helper()
	rounds, seed = 3, 1
	var err error
	if text := os.Getenv("ANABRANCH_POWER_CUTS"); text != "" {
		if rounds, err = strconv.Atoi(text); err != nil {
			t.Fatalf("ANABRANCH_POWER_CUTS: %v", err)
		}
	}
	if text := os.Getenv("ANABRANCH_POWER_CUT_SEED"); text != "" {
		if seed, err = strconv.ParseUint(text, 10, 64); err != nil {
			t.Fatalf("ANABRANCH_POWER_CUT_SEED: %v", err)
		}
	}
	return rounds, seed
}

// manyCuts is how many cuts should meet with everything.
const manyCuts = 100

// cutTally counts what the cuts of a test met with, so that a test that has tested little says so.
type cutTally struct {
	opening, acked, lost, large, torn, doubt int
	replicas                                 map[crdt.ReplicaID]bool
}

// round starts the node, has its report judged, and cuts its power while it opens or while it writes.
func (d *cutDisk) round(spec cutSpec, tally *cutTally, judge func(where string, p *cutProcess)) {
	d.t.Helper()
	spec.Seed, spec.Writeback = d.rng.Uint64(), d.rng.IntN(2) == 0
	spec.Commit = []int{1, 5, 60}[d.rng.IntN(3)]
	p := d.start(spec)
	grace := time.Duration(d.rng.IntN(2)*d.rng.IntN(10)) * time.Millisecond
	if d.rng.IntN(6) == 0 {
		tally.opening++
		<-time.After(time.Duration(d.rng.IntN(80)) * time.Millisecond)
	} else {
		judge(fmt.Sprintf("boot %d", d.boots), p)
		p.run("ack", 1+d.rng.IntN(80), time.Duration(d.rng.IntN(20_000))*time.Microsecond)
	}
	p.cut(d.rng.IntN(2) == 0, grace)
	if strings.Contains(p.err.String(), "finishing a large commit") {
		tally.large++
	}
	if strings.Contains(p.err.String(), "was not written whole") {
		tally.torn++
	}
}

// judge checks what holds in each mode.
func (d *cutDisk) judge(where string, r cutReport) {
	d.t.Helper()
	for _, w := range r.Wrong {
		d.t.Errorf("%s: %s", where, w)
	}
	if d.t.Failed() {
		d.t.Fatalf("the disk as it was found is %s (with -artifacts it is kept)", d.evidence)
	}
}

// drewFresh notes the IDs that were used up to now, and checks that the node has given up the one of its former life.
func (tally *cutTally) drewFresh(t *testing.T, where string, r cutReport) {
	t.Helper()
	for _, dot := range r.Vector {
		tally.replicas[dot.Replica] = true
	}
	if tally.replicas[r.Replica] {
		t.Errorf("%s: the node goes on as replica %s, whose writes may be lost", where, r.Replica)
	}
}

func TestPowerCutLosesNothingAcknowledged(t *testing.T) {
	rounds, seed := powerCuts(t)
	d := newCutDisk(t, seed)
	tally := cutTally{replicas: make(map[crdt.ReplicaID]bool)}
	judge := func(where string, p *cutProcess) {
		r := p.report("ready")
		for _, n := range r.Lost {
			t.Errorf("%s: write %d was acknowledged and is lost", where, n)
		}
		for _, n := range r.Late {
			t.Errorf("%s: write %d was begun and acknowledged when there was no disk any more", where, n)
		}
		for _, back := range r.WentBack {
			t.Errorf("%s: %s", where, back)
		}
		d.judge(where, r)
		tally.drewFresh(t, where, r)
		tally.acked, tally.doubt = r.Acked, r.Doubt
	}
	for range rounds {
		d.round(cutSpec{Sync: replica.SyncAlways}, &tally, judge)
	}
	last := d.start(cutSpec{Sync: replica.SyncAlways, Commit: 5, Last: true})
	judge("in the end", last)
	if word, _ := last.next(); word != "closed" {
		last.end()
		t.Errorf("the store does not close well\n%s", last.err.String())
	}
	if rounds >= manyCuts && (tally.opening == 0 || tally.large == 0 || tally.torn == 0) {
		t.Errorf("%d cuts were while the store opened, %d in a large commit, %d in another one: the test has tested little",
			tally.opening, tally.large, tally.torn)
	}
	if tally.acked < rounds {
		t.Errorf("only %d writes were acknowledged in %d rounds: the test has tested little", tally.acked, rounds)
	}
	t.Logf("%d cuts, %d of them while the store opened; %d writes acknowledged, none lost; %d in the moment of a cut are gone; %d commits found torn, %d large ones finished from the redo file",
		rounds, tally.opening, tally.acked, tally.doubt, tally.torn, tally.large)
}

// The same test without syncs has to find losses, or it would find none at all.
func TestPowerCutTakesWhatWasNotSynced(t *testing.T) {
	rounds, seed := powerCuts(t)
	d := newCutDisk(t, seed)
	tally := cutTally{replicas: make(map[crdt.ReplicaID]bool)}
	judge := func(where string, p *cutProcess) {
		r := p.report("ready")
		d.judge(where, r)
		tally.acked, tally.lost = r.Acked, len(r.Lost)
	}
	// A cut may find all written back by then, or nothing written yet; many in a row do not.
	cuts := 0
	for ; cuts < rounds || tally.lost == 0 && cuts < rounds+manyCuts; cuts++ {
		d.round(cutSpec{Sync: replica.SyncNever}, &tally, judge)
	}
	judge("in the end", d.start(cutSpec{Sync: replica.SyncNever, Commit: 5, Last: true}))
	if tally.lost == 0 {
		t.Errorf("of %d writes that were not synced none is lost in %d cuts: power cuts are not what they should be", tally.acked, cuts)
	}
	t.Logf("%d cuts, %d writes acknowledged, %d of them lost", cuts, tally.acked, tally.lost)
}

// In the mode that syncs now and then a cut takes the newest writes only, and what a peer has received comes back from there.
func TestPowerCutWritesComeBackFromPeer(t *testing.T) {
	rounds, seed := powerCuts(t)
	d := newCutDisk(t, seed)
	space, spec := d.peer(t)
	tally := cutTally{replicas: make(map[crdt.ReplicaID]bool)}
	cameBack := 0
	var level cutReport
	judge := func(where string, p *cutProcess) {
		r := p.report("ready")
		d.judge(where, r)
		tally.drewFresh(t, where, r)
		cameBack += len(r.Synced)
		if level = p.report("level"); len(level.Synced) > 0 {
			t.Errorf("%s: the peer had acknowledged writes %v, and they have not come back", where, level.Synced)
		}
		d.judge(where, level)
		tally.acked, tally.lost = level.Acked, len(level.Lost)
	}
	for range rounds {
		spec.PeerHas = vectorOf(t, space)
		d.round(spec, &tally, judge)
	}
	spec.PeerHas = vectorOf(t, space)
	spec.Last, spec.Commit = true, 5
	judge("in the end", d.start(spec))
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := space.WaitVector(ctx, crdt.NewVersionVector(level.Vector...)); err != nil {
		t.Fatalf("in the end, at the peer: %v", err)
	}
	report, err := space.Verify(ctx, replica.VerifyOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if len(report.Problems) > 0 || report.Digest.String() != level.Digest {
		t.Errorf("in the end the digests are %s and %s; problems at the peer: %v", level.Digest, report.Digest, report.Problems)
	}
	if rounds >= manyCuts && cameBack == 0 {
		t.Errorf("no cut of %d took anything that the peer had: the test has tested little", rounds)
	}
	t.Logf("%d cuts, %d of them while the store opened; %d writes acknowledged, %d lost that no peer had; %d came back of those that the peer had acknowledged",
		rounds, tally.opening, tally.acked, tally.lost, cameBack)
}

// Once the interval has passed, a cut takes nothing.
func TestPowerCutAfterTheIntervalTakesNothing(t *testing.T) {
	_, seed := powerCuts(t)
	d := newCutDisk(t, seed)
	spec := cutSpec{Sync: replica.SyncInterval, Seed: seed, Commit: 60, Writes: 10}
	p := d.start(spec)
	p.report("ready")
	p.run("resting", cutWriters, 100*cutInterval)
	p.cut(true, 0)
	spec.Last = true
	r := d.start(spec).report("ready")
	d.judge("after the cut", r)
	if r.Acked != cutWriters*spec.Writes || len(r.Lost) > 0 {
		t.Errorf("%d of %d writes were acknowledged, and writes %v are lost that are older than 100 intervals", r.Acked, cutWriters*spec.Writes, r.Lost)
	}
}

func vectorOf(t *testing.T, s *replica.Space) []crdt.Dot {
	t.Helper()
	st, err := s.Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return slices.Collect(st.Vector.All())
}

// peer opens the peer, which has power and lives in this process.
func (d *cutDisk) peer(t *testing.T) (*replica.Space, cutSpec) {
	t.Helper()
	node, err := quicnet.LoadOrCreateIdentity(d.identity)
	if err != nil {
		t.Fatal(err)
	}
	id, err := quicnet.GenerateIdentity()
	if err != nil {
		t.Fatal(err)
	}
	transport, err := quicnet.New(quicnet.Config{
		Identity: id, Listen: "127.0.0.1:0", Logger: slog.New(slog.DiscardHandler),
		Allow: func(p replica.PeerID) bool { return p == node.PeerID() },
	})
	if err != nil {
		t.Fatal(err)
	}
	r, err := replica.Open(replica.Config{Transport: transport})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close() })
	space, err := r.Space(cutSpace)
	if err != nil {
		t.Fatal(err)
	}
	return space, cutSpec{Sync: replica.SyncInterval, Peer: replica.Peer{ID: r.Self(), Addr: r.Addrs()[0]}}
}
