package wholefile_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/anabranch-db/anabranch/replica/wholefile"
)

func TestReplaceLeavesTheNewFileAlone(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "list")
	for _, want := range []string{"first", "second", ""} {
		if err := wholefile.Replace(path, []byte(want)); err != nil {
			t.Fatal(err)
		}
		got, err := os.ReadFile(path)
		if err != nil || string(got) != want {
			t.Errorf("%q, %v; want %q", got, err, want)
		}
		info, err := os.Stat(path)
		if err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%v, %v", info, err)
		}
	}
	wantOnly(t, dir, "list")
}

func TestWhatCannotBePutInPlaceChangesNothing(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "list")
	if err := wholefile.Replace(path, []byte("before")); err != nil {
		t.Fatal(err)
	}
	refused := errors.New("refused")
	if err := wholefile.Put(path, []byte("after"), func(string) error { return refused }); !errors.Is(err, refused) {
		t.Errorf("%v", err)
	}
	if got, err := os.ReadFile(path); err != nil || string(got) != "before" {
		t.Errorf("%q, %v", got, err)
	}
	wantOnly(t, dir, "list")
	if err := wholefile.Replace(filepath.Join(dir, "none", "list"), nil); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no directory: %v", err)
	}
}

func wantOnly(t *testing.T, dir, name string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 1 || entries[0].Name() != name {
		t.Errorf("%v, %v; want %s alone", entries, err, name)
	}
}
