package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/anabranch-db/anabranch/cmd/anabranch/internal/control"
	"github.com/anabranch-db/anabranch/cmd/anabranch/internal/node"
)

var (
	kills    = flag.Int("kills", 50, "how often TestKilledNodeLosesNothing kills the node")
	killSeed = flag.Uint64("kill-seed", 1, "seed of TestKilledNodeLosesNothing: what is written, and when the node is killed")
)

// process is a running command.
type process struct {
	*exec.Cmd
	out bytes.Buffer
}

func start(t *testing.T, args ...string) *process {
	t.Helper()
	p := &process{Cmd: exec.Command("anabranch", args...)}
	p.Stdout, p.Stderr = &p.out, &p.out
	if err := p.Start(); err != nil {
		t.Fatal(err)
	}
	return p
}

// kill kills it as `kill -9` does, and waits until it is gone.
func (p *process) kill() {
	p.Process.Kill()
	p.Wait()
}

// command runs a command to its end, and fails the test if it does not succeed.
func command(t *testing.T, args ...string) string {
	t.Helper()
	out, err := exec.Command("anabranch", args...).CombinedOutput()
	if err != nil {
		t.Fatalf("anabranch %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return string(out)
}

// reach waits until the node of dir answers; nil if the process ended before.
func reach(t *testing.T, dir string) *control.Client {
	t.Helper()
	for giveUp := time.Now().Add(patience); time.Now().Before(giveUp); <-time.After(2 * time.Millisecond) {
		c, err := control.Dial(t.Context(), dir)
		if err == nil {
			return c
		}
		if !errors.Is(err, control.ErrNoNode) {
			t.Fatal(err)
		}
	}
	t.Fatalf("no node serves %s after %s", dir, patience)
	return nil
}

const (
	killWriters    = 4
	keysPerWriter  = 8
	maxWritesAKill = 60
)

// ledger is what a writer knows of its keys. Each value is the number of a write, so that an older one shows. The
// writer notes an attempt before it asks for it, and an acknowledgement before it goes on; as it lives in the test's
// process, no kill of the node takes that away.
type ledger struct {
	mu        sync.Mutex
	attempted map[string]int64
	acked     map[string]int64
	synced    map[string]int64
}

func newLedger() *ledger {
	return &ledger{attempted: make(map[string]int64), acked: make(map[string]int64), synced: make(map[string]int64)}
}

func (l *ledger) note(m map[string]int64, key string, n int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	m[key] = max(m[key], n)
}

// write writes until the node is gone. Each write is of one document, or of two in one transaction.
func (l *ledger) write(ctx context.Context, c *control.Client, w int, rng *rand.Rand, next *atomic.Int64, acked func()) {
	for {
		n := next.Add(1)
		keys := []string{fmt.Sprintf("w%d-%d", w, rng.IntN(keysPerWriter))}
		if rng.IntN(3) == 0 {
			keys = append(keys, fmt.Sprintf("w%d-%d", w, keysPerWriter+rng.IntN(keysPerWriter)))
		}
		var ops []node.Op
		for _, key := range keys {
			l.note(l.attempted, key, n)
			ops = append(ops, node.Op{Op: node.OpSet, Key: key, Path: "/n", Value: fmt.Append(nil, n)})
		}
		rc, err := c.Commit(ctx, "main", ops)
		if err != nil {
			return
		}
		for _, key := range keys {
			l.note(l.acked, key, n)
		}
		acked()
		if rng.IntN(8) > 0 {
			continue
		}
		if _, err := c.Wait(ctx, "main", rc, 1, patience); err != nil {
			return
		}
		for _, key := range keys {
			l.note(l.synced, key, n)
		}
	}
}

// check compares a store with the ledger: each key shows what was acknowledged (or synced), or something newer that was attempted.
func (l *ledger) check(t *testing.T, where string, shown, least map[string]int64) {
	t.Helper()
	l.mu.Lock()
	defer l.mu.Unlock()
	for key, n := range least {
		if got := shown[key]; got < n || got > l.attempted[key] {
			t.Errorf("%s: %s shows %d; %d was acknowledged, %d attempted", where, key, got, n, l.attempted[key])
		}
	}
}

// exported returns the numbers that a store shows.
func exported(t *testing.T, dir string) map[string]int64 {
	t.Helper()
	shown := make(map[string]int64)
	for d := json.NewDecoder(strings.NewReader(command(t, "--dir", dir, "export"))); d.More(); {
		var rec struct {
			Key string
			Doc struct{ N int64 }
		}
		if err := d.Decode(&rec); err != nil {
			t.Fatal(err)
		}
		shown[rec.Key] = rec.Doc.N
	}
	return shown
}

// A node that writes and exchanges with a peer is killed again and again, at random moments: while it opens, while it commits, while
// it sends. Each time the store opens, is sound, and has every write that was acknowledged; the peer has every write that was said to be
// there. In the end both are the same.
func TestKilledNodeLosesNothing(t *testing.T) {
	dir := t.TempDir()
	a, b := filepath.Join(dir, "a"), filepath.Join(dir, "b")
	idA, idB := strings.TrimSpace(command(t, "--dir", a, "id")), strings.TrimSpace(command(t, "--dir", b, "id"))
	command(t, "--dir", a, "put", "first", `{"n":0}`)
	command(t, "--dir", b, "put", "second", `{"n":0}`)
	stable := start(t, "--dir", b, "serve", "--listen", "127.0.0.1:0", "--allow", idA)
	defer stable.kill()
	peer := reach(t, b)
	st, err := peer.Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	serve := []string{"--dir", a, "serve", "--listen", "127.0.0.1:0", "--peer", idB + "@" + st.Addresses[0]}
	rng := rand.New(rand.NewPCG(*killSeed, 0))
	l := newLedger()
	var next, total atomic.Int64
	for round := range *kills {
		p := start(t, serve...)
		if rng.IntN(6) == 0 { // while it opens, somewhere
			<-time.After(time.Duration(rng.IntN(60)) * time.Millisecond)
			p.kill()
		} else {
			killWhileWriting(t, p, reach(t, a), l, rng, &next, &total)
		}
		where := fmt.Sprintf("after kill %d of -kill-seed %d", round+1, *killSeed)
		if out := command(t, "--dir", a, "doctor"); !strings.Contains(out, "main: sound") {
			t.Fatalf("%s: doctor says\n%s", where, out)
		}
		l.check(t, where, exported(t, a), l.acked)
		l.check(t, where+", at the peer", exported(t, b), l.synced)
		if t.Failed() {
			return
		}
	}
	last := start(t, serve...)
	defer last.kill()
	awaitEqual(t, reach(t, a), peer)
	l.check(t, "in the end", exported(t, a), l.acked)
	l.check(t, "in the end, at the peer", exported(t, b), l.acked)
	command(t, "--dir", a, "doctor")
	command(t, "--dir", b, "doctor")
	if total.Load() < int64(*kills) || len(l.synced) == 0 {
		t.Errorf("only %d writes were acknowledged and %d documents synced in %d rounds: the test has tested little", total.Load(), len(l.synced), *kills)
	}
	t.Logf("%d kills, %d writes acknowledged, %d documents known to be synced", *kills, total.Load(), len(l.synced))
}

// killWhileWriting kills the node a moment after some number of acknowledgements, while other writes are on their way.
func killWhileWriting(t *testing.T, p *process, c *control.Client, l *ledger, rng *rand.Rand, next, total *atomic.Int64) {
	enough := int64(1 + rng.IntN(maxWritesAKill))
	var acked atomic.Int64
	reached := make(chan struct{})
	var writers sync.WaitGroup
	for w := range killWriters {
		own := rand.New(rand.NewPCG(rng.Uint64(), 0))
		writers.Go(func() {
			l.write(t.Context(), c, w, own, next, func() {
				total.Add(1)
				if acked.Add(1) == enough {
					close(reached)
				}
			})
		})
	}
	select {
	case <-reached:
	case <-time.After(patience):
		t.Errorf("the node has acknowledged %d writes in %s, not %d\n%s", acked.Load(), patience, enough, p.out.String())
	}
	<-time.After(time.Duration(rng.IntN(4000)) * time.Microsecond)
	p.kill()
	writers.Wait()
	c.Close()
}

// awaitEqual waits until both nodes hold the same writes, and compares their digests.
func awaitEqual(t *testing.T, a, b node.Node) {
	t.Helper()
	for giveUp := time.Now().Add(patience); ; <-time.After(10 * time.Millisecond) {
		sa, errA := a.Status(t.Context())
		sb, errB := b.Status(t.Context())
		if err := errors.Join(errA, errB); err != nil {
			t.Fatal(err)
		}
		if len(sa.Spaces) == 1 && len(sb.Spaces) == 1 && fmt.Sprint(sa.Spaces[0].Vector) == fmt.Sprint(sb.Spaces[0].Vector) {
			if sa.Spaces[0].Digest != sb.Spaces[0].Digest {
				t.Errorf("with the same writes the digests are %s and %s", sa.Spaces[0].Digest, sb.Spaces[0].Digest)
			}
			return
		}
		if time.Now().After(giveUp) {
			t.Fatalf("after %s they have not met:\n%+v\n%+v", patience, sa, sb)
		}
	}
}

// An import that is killed goes on where it stopped, and in the end nothing is missing.
func TestKilledImportGoesOn(t *testing.T) {
	dir := t.TempDir()
	const records = 20_000 // in 200 transactions: a killed import is far from its end
	var b bytes.Buffer
	for i := range records {
		fmt.Fprintf(&b, "{\"key\":\"k%05d\",\"doc\":{\"n\":%d}}\n", i, i)
	}
	file := filepath.Join(dir, "in.jsonl")
	if err := os.WriteFile(file, b.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	store := filepath.Join(dir, "store")
	rng := rand.New(rand.NewPCG(1, 2))
	resumed := 0
	for range 6 {
		before := checkpoints(t, store)
		p := start(t, "--dir", store, "import", "--batch", "100", file)
		for giveUp := time.Now().Add(patience); checkpoints(t, store) == before; <-time.After(time.Millisecond) {
			if time.Now().After(giveUp) {
				t.Fatalf("no progress in %s\n%s", patience, p.out.String())
			}
		}
		<-time.After(time.Duration(rng.IntN(30)) * time.Millisecond)
		p.kill()
		if strings.Contains(p.out.String(), "going on behind record") {
			resumed++
		}
	}
	out := command(t, "--dir", store, "import", "--batch", "100", file)
	if !strings.Contains(out, "20000 documents imported") {
		t.Errorf("the last import says %q", out)
	}
	if resumed != 5 {
		t.Errorf("%d of 5 imports went on where the one before stopped", resumed)
	}
	if got := command(t, "--dir", store, "export"); got != b.String() {
		t.Errorf("the export has %d bytes, the import had %d", len(got), b.Len())
	}
	command(t, "--dir", store, "doctor")
}

// checkpoints returns what the checkpoints of imports say.
func checkpoints(t *testing.T, store string) string {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(store, "imports", "*.json"))
	if err != nil {
		t.Fatal(err)
	}
	var all strings.Builder
	for _, name := range names {
		text, err := os.ReadFile(name)
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			t.Fatal(err)
		}
		all.Write(text)
	}
	return all.String()
}
