//go:build linux

package quicnet_test

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/anabranch-db/anabranch/net/quicnet"
	"github.com/anabranch-db/anabranch/replica"
)

const (
	forgetKeeps    = 20 // one document in so many lives on
	forgetWriters  = 16
	forgetPatience = 5 * time.Minute
	forgetRest     = 20 * time.Second // after which the store has begun to give room back, if it does
	forgetDisk     = 1.5              // times what a store takes that never had them
)

// forgetDocuments is how many documents come and go. Of a few the store does not bother to give the room back.
func forgetDocuments(t *testing.T) (n int, all bool) {
	t.Helper()
	text := os.Getenv("ANABRANCH_FORGET_DOCUMENTS")
	if text == "" {
		return 500, false
	}
	n, err := strconv.Atoi(text)
	if err != nil {
		t.Fatal(err)
	}
	return n, n >= 50_000
}

// Of documents that were deleted, and that all members know to be deleted, nothing is left in a store: no document, no log entry, no feed
// entry, and, once it had a pause, no room on the disk. A fresh node gets what lives.
//
// ANABRANCH_FORGET_DOCUMENTS says how many documents come and go.
func TestDeletedDocumentsLeaveNoTrace(t *testing.T) {
	if testing.Short() {
		t.Skip("takes some seconds")
	}
	n, all := forgetDocuments(t)
	kept := n / forgetKeeps
	dirs := []string{t.TempDir(), t.TempDir(), t.TempDir(), t.TempDir()}
	tr, a, sa := openForgetful(t, dirs[0], 1)
	home := replica.Peer{ID: a.Self(), Addr: tr.Addrs()[0]}
	_, b, sb := openForgetful(t, dirs[1], 2, home)

	eachDocument(t, 0, kept, func(ctx context.Context, i int) error { return writeDocument(ctx, sa, i) })
	eachDocument(t, kept, kept+n, func(ctx context.Context, i int) error { return writeDocument(ctx, []*replica.Space{sa, sb}[i%2], i) })
	meet(t, sa, sb)
	deleted := time.Now()
	eachDocument(t, kept, kept+n, func(ctx context.Context, i int) error { // each node deletes what the other made
		_, err := []*replica.Space{sb, sa}[i%2].Update(ctx, func(tx *replica.Tx) error { tx.Doc(documentKey(i)).Delete(); return nil })
		return err
	})
	meet(t, sa, sb)
	last := time.Now()
	for _, s := range []*replica.Space{sa, sb} {
		awaitForgotten(t, s)
	}
	t.Logf("%d documents were deleted in %s, and forgotten by both nodes %s later", n, last.Sub(deleted).Round(time.Millisecond), time.Since(last).Round(time.Millisecond))
	expectOnly(t, int64(kept), sa, sb)

	_, c, sc := openForgetful(t, dirs[2], 3, home)
	meet(t, sa, sc)
	if found := verify(t, sc); found.Documents != int64(kept) {
		t.Errorf("the fresh node has %d documents, not %d", found.Documents, kept)
	}
	_, d, sd := openForgetful(t, dirs[3], 4)
	eachDocument(t, 0, kept, func(ctx context.Context, i int) error { return writeDocument(ctx, sd, i) })
	awaitForgotten(t, sd)
	if all {
		comeToRest(t, a)
		comeToRest(t, b)
	}
	for _, r := range []*replica.Replica{c, b, a, d} {
		if err := r.Close(); err != nil {
			t.Fatal(err)
		}
	}
	never := diskOf(t, dirs[3])
	for i, dir := range dirs[:2] {
		ratio := float64(diskOf(t, dir)) / float64(never)
		t.Logf("node %d takes %d KiB on the disk, %.2f times the %d KiB of a store that never had them", i, diskOf(t, dir)>>10, ratio, never>>10)
		if all && ratio > forgetDisk {
			t.Errorf("node %d takes %.2f times the disk of one that never had the documents, more than %.1f", i, ratio, forgetDisk)
		}
	}
}

// openForgetful opens a node on Badger that prunes at once.
func openForgetful(t *testing.T, dir string, number byte, peers ...replica.Peer) (*quicnet.Transport, *replica.Replica, *replica.Space) {
	t.Helper()
	tr := open(t, quicnet.Config{Identity: identity(t, number)})
	r, s := openSpace(t, replica.Config{Dir: dir, Transport: tr, Peers: peers, PruneDelay: -1})
	return tr, r, s
}

func documentKey(i int) string { return fmt.Sprintf("doc/%06d", i) }

func writeDocument(ctx context.Context, s *replica.Space, i int) error {
	_, err := s.Update(ctx, func(tx *replica.Tx) error {
		return tx.Doc(documentKey(i)).Replace(map[string]any{"title": fmt.Sprint("document ", i), "n": i, "done": i%2 == 0, "place": "shelf", "tags": map[string]any{"a": 1}})
	})
	return err
}

// eachDocument calls f for each number, many at once.
func eachDocument(t *testing.T, from, to int, f func(ctx context.Context, i int) error) {
	t.Helper()
	g, ctx := errgroup.WithContext(t.Context())
	g.SetLimit(forgetWriters)
	for i := from; i < to && ctx.Err() == nil; i++ {
		g.Go(func() error { return f(ctx, i) })
	}
	if err := g.Wait(); err != nil {
		t.Fatal(err)
	}
}

// meet returns when each has what the other has.
func meet(t *testing.T, a, b *replica.Space) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), forgetPatience)
	defer cancel()
	for _, pair := range [][2]*replica.Space{{a, b}, {b, a}} {
		if err := pair[1].WaitVector(ctx, pair[0].Summary().Vector); err != nil {
			t.Fatal(err)
		}
	}
}

// awaitForgotten returns when all that is here is stable, and pruned.
func awaitForgotten(t *testing.T, s *replica.Space) {
	t.Helper()
	giveUp := time.After(forgetPatience)
	for {
		st, err := s.Status(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if st.Stable.Equal(st.Vector) && st.Stability.Waiting == 0 && verify(t, s).LogEntries == 0 { // the last step may be on its way to the disk
			return
		}
		select {
		case <-time.After(50 * time.Millisecond):
		case <-giveUp:
			t.Fatalf("after %s stable is %s and the vector %s; %+v", forgetPatience, st.Stable, st.Vector, st.Stability)
		}
	}
}

// expectOnly: there are so many documents and no trace of others. The store is gone through record by record.
func expectOnly(t *testing.T, documents int64, spaces ...*replica.Space) {
	t.Helper()
	for i, s := range spaces {
		found := verify(t, s)
		if found.Documents != documents || found.FeedEntries != documents || found.LogEntries != 0 {
			t.Errorf("node %d has %d documents, %d feed entries and %d log entries, not %d, %d and none",
				i, found.Documents, found.FeedEntries, found.LogEntries, documents, documents)
		}
	}
}

func verify(t *testing.T, s *replica.Space) replica.VerifyReport {
	t.Helper()
	found, err := s.Verify(t.Context(), replica.VerifyOptions{})
	if err != nil || len(found.Problems) > 0 {
		t.Fatalf("verify: %v, %v", found.Problems, err)
	}
	return found
}

// comeToRest waits for the store to do what it does by itself once there is a pause.
func comeToRest(t *testing.T, r *replica.Replica) {
	t.Helper()
	giveUp := time.After(forgetPatience)
	for last, since := int64(0), time.Now(); time.Since(since) < forgetRest; {
		if now := r.Usage().DiskBytes; now != last {
			last, since = now, time.Now()
		}
		select {
		case <-time.After(100 * time.Millisecond):
		case <-giveUp:
			t.Fatalf("the store has not come to rest in %s", forgetPatience)
		}
	}
}

// diskOf returns the bytes that the files of a directory take on the disk.
func diskOf(t *testing.T, dir string) (bytes int64) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		if st, ok := info.Sys().(*syscall.Stat_t); ok {
			bytes += st.Blocks * 512
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return bytes
}
