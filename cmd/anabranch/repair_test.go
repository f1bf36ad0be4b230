package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/anabranch-db/anabranch/cmd/anabranch/internal/control"
	"github.com/anabranch-db/anabranch/cmd/anabranch/internal/node"
	"github.com/anabranch-db/anabranch/replica/badgerstore"
	"github.com/anabranch-db/anabranch/replica/store"
)

// identity returns the peer ID of a directory, and makes one.
func identity(t *testing.T, dir string) string {
	t.Helper()
	return strings.TrimSpace(command(t, "--dir", dir, "id"))
}

// serveOn starts a node that listens, and waits until it answers.
func serveOn(t *testing.T, dir string, args ...string) (*process, *control.Client) {
	t.Helper()
	p := start(t, append([]string{"--dir", dir, "serve", "--listen", "127.0.0.1:0"}, args...)...)
	t.Cleanup(p.kill)
	c := reach(t, dir)
	t.Cleanup(func() { c.Close() })
	return p, c
}

func addressOf(t *testing.T, c *control.Client) string {
	t.Helper()
	st, err := c.Status(t.Context())
	if err != nil || len(st.Addresses) == 0 {
		t.Fatalf("%+v, %v: want an address", st, err)
	}
	return st.Addresses[0]
}

// until waits for something, and fails the test with the last reason why not.
func until(t *testing.T, what string, ok func() error) {
	t.Helper()
	var err error
	for giveUp := time.Now().Add(2 * patience); time.Now().Before(giveUp); <-time.After(50 * time.Millisecond) {
		if err = ok(); err == nil {
			return
		}
	}
	t.Fatalf("%s: %v", what, err)
}

func spaceOf(t *testing.T, c *control.Client) node.SpaceStatus {
	t.Helper()
	st, err := c.Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range st.Spaces {
		if s.Name == "main" {
			return s
		}
	}
	return node.SpaceStatus{}
}

// equalSpaces reports whether two nodes hold the same, and know it.
func equalSpaces(t *testing.T, a, b *control.Client) error {
	x, y := spaceOf(t, a), spaceOf(t, b)
	if x.Documents == 0 || x.Digest != y.Digest || fmt.Sprint(x.Vector) != fmt.Sprint(y.Vector) {
		return fmt.Errorf("%d documents, digest %s, and %d documents, digest %s", x.Documents, x.Digest, y.Documents, y.Digest)
	}
	return nil
}

// changeAByte changes one byte of the record of a document, in a store that is closed.
func changeAByte(t *testing.T, dir, key string) {
	t.Helper()
	s, err := badgerstore.Open(badgerstore.Options{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	err = func() error {
		snap, err := s.Snapshot()
		if err != nil {
			return err
		}
		defer snap.Close()
		for e, err := range snap.Scan([]byte("d"), []byte("e")) {
			if err != nil {
				return err
			}
			if string(e.Key[5:]) != key {
				continue
			}
			value := bytes.Clone(e.Value)
			value[len(value)-2] ^= 1
			var b store.Batch
			b.Put(e.Key, value)
			return s.Commit(&b)
		}
		return fmt.Errorf("there is no %q", key)
	}()
	if err := errors.Join(err, s.Close()); err != nil {
		t.Fatal(err)
	}
}

// TestNodeMendsARecordOfWhichAByteChanged: who reads it gets a clear error, never something wrong, and soon after the document.
func TestNodeMendsARecordOfWhichAByteChanged(t *testing.T) {
	dir := t.TempDir()
	a, b := filepath.Join(dir, "a"), filepath.Join(dir, "b")
	ida, idb := identity(t, a), identity(t, b)
	_, ca := serveOn(t, a, "--allow", idb)
	pb, cb := serveOn(t, b, "--peer", ida+"@"+addressOf(t, ca))
	for i := range 50 {
		if _, err := ca.Commit(t.Context(), "main", []node.Op{{Op: node.OpPut, Key: fmt.Sprintf("d%02d", i), Value: fmt.Appendf(nil, `{"n":%d,"text":"some text"}`, i)}}); err != nil {
			t.Fatal(err)
		}
	}
	until(t, "b gets what a wrote", func() error { return equalSpaces(t, ca, cb) })
	if err := pb.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	if err := pb.Wait(); err != nil {
		t.Fatalf("%v: %s", err, pb.out.String())
	}

	changeAByte(t, b, "d42")
	out, err := exec.Command("anabranch", "--dir", b, "get", "d42").CombinedOutput()
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.ExitCode() != 5 || !strings.Contains(string(out), "checksum") || !strings.Contains(string(out), "anabranch doctor") {
		t.Errorf("reading the damaged document: %v, %s", err, out)
	}
	_, cb = serveOn(t, b, "--peer", ida+"@"+addressOf(t, ca))
	until(t, "the document is whole again", func() error {
		doc, err := cb.Get(t.Context(), "main", "d42")
		if err != nil {
			return err
		}
		if got := string(doc.Doc); got != `{"n":42,"text":"some text"}` {
			t.Fatalf("b shows %s", got)
		}
		return nil
	})
	until(t, "b says that it is repaired", func() error {
		if r := spaceOf(t, cb).Repair; r.Damaged != "" || r.Repairs == 0 {
			return fmt.Errorf("%+v", r)
		}
		return nil
	})
	for _, dir := range []string{a, b} {
		if out := command(t, "--dir", dir, "doctor"); !strings.Contains(out, "main: sound: 50 documents") {
			t.Errorf("doctor of %s says %s", dir, out)
		}
	}
	if err := equalSpaces(t, ca, cb); err != nil {
		t.Error(err)
	}
}

// TestWriterKilledForGoodInTheMiddleOfASync: two nodes get what they get of a third one's writes, which has had several lives, before
// it is killed for good; then they become equal without it.
func TestWriterKilledForGoodInTheMiddleOfASync(t *testing.T) {
	dir := t.TempDir()
	a, b, w := filepath.Join(dir, "a"), filepath.Join(dir, "b"), filepath.Join(dir, "w")
	ida, idb, idw := identity(t, a), identity(t, b), identity(t, w)
	for life := range 3 { // a killed node goes on under another replica ID
		pw, cw := serveOn(t, w)
		for i := range 30 {
			ops := []node.Op{{Op: node.OpIncrement, Key: "count", Path: "/n", By: 1}}
			for k := range 20 {
				ops = append(ops, node.Op{Op: node.OpSet, Key: fmt.Sprintf("d%03d", k), Path: "/f", Value: fmt.Appendf(nil, `"%d of life %d%s"`, i, life, strings.Repeat("x", 5000))})
			}
			if _, err := cw.Commit(t.Context(), "main", ops); err != nil {
				t.Fatal(err)
			}
		}
		pw.kill()
	}
	pw, cw := serveOn(t, w, "--allow", ida, "--allow", idb)
	at := addressOf(t, cw)
	_, ca := serveOn(t, a, "--peer", idw+"@"+at, "--allow", idb)
	_, cb := serveOn(t, b, "--peer", idw+"@"+at, "--peer", ida+"@"+addressOf(t, ca))
	until(t, "a gets something", func() error {
		if spaceOf(t, ca).Documents == 0 {
			return errors.New("nothing yet")
		}
		return nil
	})
	pw.kill()
	until(t, "a and b become equal", func() error { return equalSpaces(t, ca, cb) })
	for _, dir := range []string{a, b} {
		if out := command(t, "--dir", dir, "doctor"); !strings.Contains(out, "main: sound") {
			t.Errorf("doctor of %s says %s", dir, out)
		}
	}
}
