package replica_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/anabranch-db/anabranch/crdt"
	"github.com/anabranch-db/anabranch/net/memnet"
	"github.com/anabranch-db/anabranch/replica"
	"github.com/anabranch-db/anabranch/replica/backup"
	"github.com/anabranch-db/anabranch/replica/store"
)

func backUp(t *testing.T, r *replica.Replica, files map[string][]byte) []byte {
	t.Helper()
	var out bytes.Buffer
	sum, err := r.Backup(t.Context(), &out, replica.BackupOptions{Files: files})
	if err != nil || sum.Size != int64(out.Len()) {
		t.Fatalf("%+v, %v", sum, err)
	}
	return out.Bytes()
}

func restore(t *testing.T, b []byte, o replica.RestoreOptions) replica.Restored {
	t.Helper()
	done, err := replica.Restore(t.Context(), bytes.NewReader(b), o)
	if err != nil {
		t.Fatal(err)
	}
	return done
}

// onlyEntry fails if the parent of dir holds anything else: a restore leaves nothing lying about.
func onlyEntry(t *testing.T, dir string) {
	t.Helper()
	entries, err := os.ReadDir(filepath.Dir(dir))
	if err != nil || len(entries) != 1 || entries[0].Name() != filepath.Base(dir) {
		t.Errorf("beside %s there are %v, %v", filepath.Base(dir), entries, err)
	}
}

// Each transaction counts in two documents. A backup taken while they run is of one moment: there the counters are equal, in every restore.
func TestBackupUnderWritesIsOfOneMoment(t *testing.T) {
	r := open(t, replica.Config{Dir: t.TempDir(), Sync: replica.SyncNever})
	s := space(t, r)
	ctx, cancel := context.WithCancel(t.Context())
	written := make(chan int, 1)
	go func() {
		n := 0
		for ; ctx.Err() == nil; n++ {
			_, err := s.Update(context.Background(), func(tx *replica.Tx) error {
				for _, key := range []string{"a", "z"} {
					tx.Doc(key).Increment(crdt.Path{"count"}, 1)
				}
				tx.Doc(fmt.Sprintf("doc/%d", n%500)).Set(crdt.Path{"text"}, strings.Repeat(fmt.Sprint(n), 20))
				if n%3 == 0 {
					tx.Doc(fmt.Sprintf("doc/%d", n%7)).Delete()
				}
				return nil
			})
			if err != nil {
				t.Error(err)
				break
			}
		}
		written <- n
	}()
	backups := make([][]byte, 3)
	for i := range backups {
		backups[i] = backUp(t, r, nil)
		for range 200 {
			set(t, s, "other", "n", i)
		}
	}
	cancel()
	if n := <-written; n == 0 {
		t.Fatal("nothing was written meanwhile")
	}
	last := int64(-1)
	for i, b := range backups {
		dir := filepath.Join(t.TempDir(), "restored")
		restore(t, b, replica.RestoreOptions{Dir: dir})
		onlyEntry(t, dir)
		restored := open(t, replica.Config{Dir: dir, Sync: replica.SyncNever})
		rs := space(t, restored)
		mustVerify(t, rs)
		count := func(key string) int64 {
			doc, err := rs.Get(t.Context(), key)
			if errors.Is(err, replica.ErrNotFound) {
				return 0
			}
			if err != nil {
				t.Fatal(err)
			}
			n, _ := doc.Get(crdt.Path{"count"})
			return n.(int64)
		}
		if a, z := count("a"), count("z"); a != z || a < last {
			t.Errorf("backup %d is of two moments: %d and %d, the one before has %d", i, a, z, last)
		} else {
			last = a
		}
	}
}

func TestRestoredNodeGetsItsLostWritesBack(t *testing.T) {
	network := memnet.New(1)
	dir := filepath.Join(t.TempDir(), "a")
	peers := []replica.Peer{{ID: memnet.ID("b"), Addr: "mem:b"}}
	b := open(t, replica.Config{Transport: network.Node("b")})
	sb := space(t, b)
	a, err := replica.Open(replica.Config{Dir: dir, Transport: network.Node("a"), Peers: peers})
	if err != nil {
		t.Fatal(err)
	}
	sa := space(t, a)
	set(t, sa, "one", "n", 1)
	copied := backUp(t, a, nil)
	before := a.ReplicaID()
	rc := set(t, sa, "two", "n", 2)
	if err := sa.WaitSynced(t.Context(), rc, 1); err != nil {
		t.Fatal(err)
	}
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}

	done := restore(t, copied, replica.RestoreOptions{Dir: dir, Replace: true})
	if done.Moved == "" {
		t.Error("the former directory was not kept")
	}
	a = open(t, replica.Config{Dir: dir, Transport: network.Node("a"), Peers: peers})
	sa = space(t, a)
	set(t, sa, "three", "n", 3)
	if a.ReplicaID() == before {
		t.Error("the restored store writes under the ReplicaID of its former life")
	}
	waitLevel(t, sa, sb)
	for _, key := range []string{"one", "two", "three"} {
		if x, y := show(t, sa, key), show(t, sb, key); x != y {
			t.Errorf("%s: %s and %s", key, x, y)
		}
	}
	mustVerify(t, sa)
}

func TestRestoreChangesNothingUntilAllIsChecked(t *testing.T) {
	r := open(t, replica.Config{Dir: t.TempDir()})
	set(t, space(t, r), "one", "n", 1)
	b := backUp(t, r, map[string][]byte{"identity.pem": []byte("secret")})
	dir := filepath.Join(t.TempDir(), "restored")
	flipped := bytes.Clone(b)
	flipped[len(b)/2] ^= 4
	for name, c := range map[string]struct {
		backup []byte
		err    error
	}{
		"cut short": {b[:len(b)-1], backup.ErrDamaged},
		"flipped":   {flipped, backup.ErrDamaged},
		"no backup": {[]byte("something else altogether"), backup.ErrNoFile},
	} {
		if _, err := replica.Restore(t.Context(), bytes.NewReader(c.backup), replica.RestoreOptions{Dir: dir}); !errors.Is(err, c.err) {
			t.Errorf("%s: %v", name, err)
		}
		if entries, err := os.ReadDir(filepath.Dir(dir)); err != nil || len(entries) > 0 {
			t.Errorf("%s: left %v, %v", name, entries, err)
		}
	}

	// A directory that is in use, or not a store, or not given up, stays as it is.
	restore(t, b, replica.RestoreOptions{Dir: dir})
	if secret, err := os.ReadFile(filepath.Join(dir, "identity.pem")); err != nil || string(secret) != "secret" {
		t.Errorf("identity %q, %v", secret, err)
	}
	if fi, err := os.Stat(filepath.Join(dir, "identity.pem")); err != nil || fi.Mode() != 0o600 {
		t.Errorf("identity has mode %v, %v", fi.Mode(), err)
	}
	if _, err := replica.Restore(t.Context(), bytes.NewReader(b), replica.RestoreOptions{Dir: dir}); !errors.Is(err, replica.ErrNotEmpty) {
		t.Errorf("into a directory that is not empty: %v", err)
	}
	open(t, replica.Config{Dir: dir})
	if _, err := replica.Restore(t.Context(), bytes.NewReader(b), replica.RestoreOptions{Dir: dir, Replace: true}); !errors.Is(err, store.ErrInUse) {
		t.Errorf("into a directory that is in use: %v", err)
	}
	onlyEntry(t, dir)
	home := t.TempDir()
	if err := os.WriteFile(filepath.Join(home, "letter"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := replica.Restore(t.Context(), bytes.NewReader(b), replica.RestoreOptions{Dir: home, Replace: true}); !errors.Is(err, replica.ErrNotEmpty) {
		t.Errorf("into a directory of other files: %v", err)
	}
}

func TestBackupOfAnEmptyStoreAndOfAMemoryStore(t *testing.T) {
	for _, c := range []replica.Config{{}, {Dir: filepath.Join(t.TempDir(), "store")}} {
		r := open(t, c)
		dir := filepath.Join(t.TempDir(), "restored")
		if done := restore(t, backUp(t, r, nil), replica.RestoreOptions{Dir: dir}); len(done.Header.Spaces) != 0 {
			t.Errorf("restored %+v", done)
		}
		if spaces := open(t, replica.Config{Dir: dir}).Spaces(); len(spaces) > 0 {
			t.Errorf("spaces %q", spaces)
		}
	}
}

// The files of a node are in the backup, or stay when its store is replaced; those of the backup win.
func TestKeysComeFromTheBackupOrStay(t *testing.T) {
	r := open(t, replica.Config{})
	b := backUp(t, r, map[string][]byte{"identity.pem": []byte("of the backup"), "keys/one.pem": []byte("of the backup")})
	dir := filepath.Join(t.TempDir(), "store")
	restore(t, b, replica.RestoreOptions{Dir: dir})
	for _, name := range []string{"identity.pem", "keys/two.pem", "anabranch.toml"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte("of the directory"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	done := restore(t, b, replica.RestoreOptions{Dir: dir, Replace: true, Keep: []string{"identity.pem", "anabranch.toml", "keys/", "none/"}})
	if want := []string{"anabranch.toml", "identity.pem", "keys/one.pem", "keys/two.pem"}; !slices.Equal(done.Files, want) {
		t.Errorf("files %q, want %q", done.Files, want)
	}
	for name, want := range map[string]string{
		"identity.pem": "of the backup", "keys/one.pem": "of the backup", "keys/two.pem": "of the directory", "anabranch.toml": "of the directory",
	} {
		path := filepath.Join(dir, name)
		got, err := os.ReadFile(path)
		if err != nil || string(got) != want {
			t.Errorf("%s is %q, %v, want %q", name, got, err, want)
		}
		if fi, err := os.Stat(path); err != nil || fi.Mode() != 0o600 {
			t.Errorf("%s has mode %v, %v", name, fi.Mode(), err)
		}
	}
	if fi, err := os.Stat(filepath.Join(dir, "keys")); err != nil || fi.Mode().Perm() != 0o700 {
		t.Errorf("the directory of the keys has mode %v, %v", fi.Mode(), err)
	}
}
