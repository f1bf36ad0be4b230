package badgerstore_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/anabranch-db/anabranch/replica/badgerstore"
)

// anchorOf opens, writes something, and closes.
func anchorOf(t *testing.T, dir string) badgerstore.Anchor {
	t.Helper()
	s := open(t, small(dir))
	contents{}.commit(t, s, map[string]string{"k": time.Now().String()})
	a := s.Anchor()
	if a != s.Anchor() {
		t.Error("the anchor changed while the store was open")
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	return a
}

func TestAnchor(t *testing.T) {
	run := func(t *testing.T, name string, args ...string) {
		t.Helper()
		if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
			t.Skipf("%s: %v, %s", name, err, out)
		}
	}
	tests := []struct {
		name string
		same bool
		do   func(t *testing.T, dir string) (then string)
	}{
		{"closing and opening", true, func(t *testing.T, dir string) string { return dir }},
		{"renaming the directory", true, func(t *testing.T, dir string) string {
			if err := os.Rename(dir, dir+"2"); err != nil {
				t.Fatal(err)
			}
			return dir + "2"
		}},
		{"reading the files", true, func(t *testing.T, dir string) string {
			copyDir(t, dir)
			return dir
		}},
		{"copying the directory", false, func(t *testing.T, dir string) string {
			run(t, "cp", "-a", dir, dir+"2")
			return dir + "2"
		}},
		{"restoring the directory", false, func(t *testing.T, dir string) string {
			run(t, "cp", "-a", dir, dir+"2")
			run(t, "rm", "-r", dir)
			run(t, "cp", "-a", dir+"2", dir)
			return dir
		}},
		{"restoring over a newer state", false, func(t *testing.T, dir string) string {
			run(t, "cp", "-a", dir, dir+"2")
			anchorOf(t, dir)
			run(t, "rm", "-r", dir+"/data", dir+"/STORE")
			run(t, "cp", "-a", dir+"2/data", dir+"2/STORE", dir)
			return dir
		}},
		{"touching a file", false, func(t *testing.T, dir string) string {
			path := filepath.Join(dir, "data", "MANIFEST")
			if err := os.Chtimes(path, time.Time{}, time.Unix(1e9, 0)); err != nil {
				t.Fatal(err)
			}
			return dir
		}},
		{"writing the anchor file in place", false, func(t *testing.T, dir string) string {
			path := filepath.Join(dir, "ANCHOR")
			text, err := os.ReadFile(path)
			if err == nil {
				err = os.WriteFile(path, text, 0o600)
			}
			if err != nil {
				t.Fatal(err)
			}
			return dir
		}},
		{"losing the anchor file", false, func(t *testing.T, dir string) string {
			if err := os.Remove(filepath.Join(dir, "ANCHOR")); err != nil {
				t.Fatal(err)
			}
			return dir
		}},
		{"dying without closing", false, func(t *testing.T, dir string) string {
			if err := badgerstore.SetPhase(dir, "closing"); err != nil {
				t.Fatal(err)
			}
			return dir
		}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			dir := newDir(t)
			before := anchorOf(t, dir)
			if before == "" {
				t.Skip("this system has no boot ID")
			}
			dir = test.do(t, dir)
			after := anchorOf(t, dir)
			if after == "" || (after == before) != test.same {
				t.Errorf("before %q, after %q", before, after)
			}
			if again := anchorOf(t, dir); again != after {
				t.Errorf("then %q, after closing and opening %q", after, again)
			}
		})
	}
}
