package badgerstore

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/procfs"

	"github.com/anabranch-db/anabranch/replica/store"
)

func openResident(t *testing.T) (s *Store, self procfs.Proc, dir string) {
	t.Helper()
	root, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	s, err = Open(Options{Dir: filepath.Join(root, "s"), Sync: SyncNever})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	if self, err = procfs.Self(); err != nil {
		t.Fatal(err)
	}
	return s, self, dataDir(s.opts.Dir)
}

// residentValue returns a value that does not compress, and that depends on nothing else.
func residentValue(key, revision int) []byte {
	v := make([]byte, 64<<10)
	_, _ = rand.NewChaCha8([32]byte{byte(key), byte(key >> 8), byte(revision)}).Read(v) // never fails
	return v
}

func putResident(t *testing.T, s *Store, key, revision int) {
	mustCommit(t, s, func(b *store.Batch) { b.Put(fmt.Appendf(nil, "k%03d", key), residentValue(key, revision)) })
}

// residentTables returns of each table in dir that is mapped, also if its file is deleted, how many bytes are in the process's resident set.
func residentTables(t *testing.T, dir string) map[string]int64 {
	t.Helper()
	text, err := os.ReadFile("/proc/self/smaps")
	if err != nil {
		t.Fatal(err)
	}
	found, table := make(map[string]int64), ""
	for line := range strings.Lines(string(text)) {
		f := strings.Fields(line)
		switch {
		case strings.Contains(f[0], "-"): // the head of the next map
			table = ""
			if len(f) > 5 && filepath.Dir(f[5]) == dir && filepath.Ext(f[5]) == ".sst" {
				table = filepath.Base(f[5])
			}
		case table != "" && f[0] == "Rss:":
			kib, err := strconv.ParseInt(f[1], 10, 64)
			if err != nil {
				t.Fatal(err)
			}
			found[table] += kib << 10
		}
	}
	return found
}

func sum(resident map[string]int64) (n int64) {
	for _, bytes := range resident {
		n += bytes
	}
	return n
}

func TestTablesLeaveTheResidentSet(t *testing.T) {
	s, self, dir := openResident(t)
	const keys = 512 // 32 MiB
	for i := range keys {
		putResident(t, s, i, 1)
	}
	expectAll := func() {
		snap, err := s.Snapshot()
		if err != nil {
			t.Fatal(err)
		}
		defer snap.Close()
		for i := range keys {
			if v, ok, err := snap.Get(fmt.Appendf(nil, "k%03d", i)); err != nil || !ok || !bytes.Equal(v, residentValue(i, 1)) {
				t.Fatalf("key %d: found %v, %d bytes, error %v", i, ok, len(v), err)
			}
		}
	}
	expectAll()
	before := sum(residentTables(t, dir))
	tables, err := s.emptyMaps(self, dir)
	if err != nil {
		t.Fatal(err)
	}
	after := sum(residentTables(t, dir))
	t.Logf("of %d tables: %d KiB before, %d after", tables, before>>10, after>>10)
	if tables < 2 || after > 1<<20 {
		t.Errorf("%d tables, of which %d bytes are resident: want at least 2, and at most 1 MiB", tables, after)
	}
	expectAll()
}

// Emptying a map that is not there any more would empty what is there in its place. This is what Badger must go on doing.
func TestHeldTablesStayMapped(t *testing.T) {
	s, _, dir := openResident(t)
	// How soon Badger flushes and compacts is its own affair.
	write := func(revision int) {
		for i := range 512 {
			putResident(t, s, i, revision)
		}
	}
	for revision := 1; len(tableNames(s.db)) < 2 && revision < 50; revision++ {
		write(revision)
	}
	held, letGo := holdTables(s.db)
	there, gone := tableNames(s.db), 0
	for revision := 50; gone == 0 && revision < 100; revision++ {
		write(revision)
		if err := s.db.Flatten(1); err != nil { // replaces all tables that no compaction has taken already
			t.Fatal(err)
		}
		there = tableNames(s.db)
		for name := range held {
			if !there[name] {
				gone++
			}
		}
	}
	mapped := residentTables(t, dir)
	for name := range held {
		if _, ok := mapped[name]; !ok {
			t.Errorf("table %s was held, and is not mapped any more", name)
		}
	}
	if gone == 0 {
		t.Errorf("none of the %d tables that were held was replaced: this shows nothing", len(held))
	}
	letGo()
	mapped = residentTables(t, dir)
	for name := range held {
		if _, ok := mapped[name]; ok && !there[name] {
			t.Errorf("table %s stays mapped for good", name)
		}
	}
}

// What is read, written and compacted while maps are emptied all the time is what it should be.
func TestMapsAreEmptiedBesideEverythingElse(t *testing.T) {
	s, self, dir := openResident(t)
	const keys, revisions = 64, 16
	var latest [keys]int
	var mu sync.Mutex // of latest, and of reading or writing a key by it
	stop := make(chan struct{})
	var rest sync.WaitGroup
	rest.Go(func() {
		tick := time.NewTicker(time.Millisecond)
		defer tick.Stop()
		for n := 0; ; n++ {
			select {
			case <-stop:
				t.Logf("emptied %d times", n)
				return
			case <-tick.C:
			}
			if _, err := s.emptyMaps(self, dir); err != nil {
				t.Error(err)
				return
			}
		}
	})
	rest.Go(func() {
		for i := 0; ; i = (i + 7) % keys {
			select {
			case <-stop:
				return
			default:
			}
			mu.Lock()
			want := latest[i]
			snap, err := s.Snapshot()
			mu.Unlock()
			if err != nil {
				t.Error(err)
				return
			}
			v, ok, err := snap.Get(fmt.Appendf(nil, "k%03d", i))
			snap.Close()
			if err != nil || ok != (want > 0) || ok && !bytes.Equal(v, residentValue(i, want)) {
				t.Errorf("key %d, revision %d: found %v, error %v", i, want, ok, err)
				return
			}
		}
	})
	for revision := 1; revision <= revisions; revision++ {
		for i := range keys {
			mu.Lock()
			putResident(t, s, i, revision)
			latest[i] = revision
			mu.Unlock()
		}
		if revision%4 == 0 {
			if err := s.db.Flatten(2); err != nil {
				t.Error(err)
			}
		}
	}
	close(stop)
	rest.Wait()
}
