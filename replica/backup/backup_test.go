package backup

import (
	"bytes"
	"encoding/binary"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"

	"github.com/anabranch-db/anabranch/replica/store"
)

var update = flag.Bool("update", false, "write golden files that are missing")

var header = Header{
	Store: "7af3436f149123569f3a9615013b9ed8", Created: time.Date(2026, 11, 25, 12, 0, 0, 0, time.UTC), Program: "1.0",
	Spaces: []Space{{Name: "main", Number: 1, Documents: 2, Digest: "ea2fea96d450f37960a87323afc8929c"}},
}

type entry struct{ key, value string }

func write(t testing.TB, entries []entry, files ...string) []byte {
	t.Helper()
	var out bytes.Buffer
	w, err := NewWriter(&out, header)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range files {
		if err := w.AddFile(name, []byte("content of "+name)); err != nil {
			t.Fatal(err)
		}
	}
	for _, e := range entries {
		if err := w.Add([]byte(e.key), []byte(e.value)); err != nil {
			t.Fatal(err)
		}
	}
	sum, err := w.Close()
	if err != nil || sum.Size != int64(out.Len()) || sum.Entries != int64(len(entries)) {
		t.Fatalf("closed with %+v, %v; %d bytes were written", sum, err, out.Len())
	}
	return out.Bytes()
}

// read returns what a backup holds, as text.
func read(b []byte) (string, Summary, error) {
	r, err := NewReader(bytes.NewReader(b))
	if err != nil {
		return "", Summary{}, err
	}
	var held strings.Builder
	sum, err := r.Read(Visitor{
		File:  func(name string, content []byte) error { fmt.Fprintf(&held, "%s: %s\n", name, content); return nil },
		Entry: func(key, value []byte) error { fmt.Fprintf(&held, "%q = %q\n", key, value); return nil },
	})
	return held.String(), sum, err
}

func isTyped(err error) bool {
	return errors.Is(err, ErrDamaged) || errors.Is(err, ErrNewer) || errors.Is(err, ErrNoFile)
}

func TestBackupReadsBack(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 1))
	var entries []entry
	want := "identity.pem: content of identity.pem\n"
	for i := range 3000 { // several blocks: those of random bytes stay as they are, those of text are compressed
		e := entry{fmt.Sprintf("key %05d", i), strings.Repeat("text ", i%200)}
		if i < 1500 {
			random := make([]byte, 1000)
			for k := range random {
				random[k] = byte(rng.Uint32())
			}
			e.value = string(random)
		}
		entries = append(entries, e)
		want += fmt.Sprintf("%q = %q\n", e.key, e.value)
	}
	b := write(t, entries, "identity.pem")
	got, sum, err := read(b)
	if err != nil || got != want || sum.Entries != 3000 || sum.Size != int64(len(b)) || len(sum.SHA256) != 64 {
		t.Fatalf("read %d bytes of %d, %+v: %v", len(got), len(want), sum, err)
	}
}

func TestGreatestEntryReadsBack(t *testing.T) {
	e := entry{strings.Repeat("k", store.MaxKeyBytes), strings.Repeat("v", store.MaxValueBytes)}
	before := entry{"a", strings.Repeat("x", blockBytes-20)}
	if _, sum, err := read(write(t, []entry{before, e})); err != nil || sum.Entries != 2 {
		t.Fatalf("%+v: %v", sum, err)
	}
}

// small is a backup with a block of each kind.
func small(t testing.TB) []byte {
	return write(t, []entry{{"m", "meta"}, {"x", strings.Repeat("many ", 50)}}, "identity.pem")
}

func TestEveryTruncationIsNoticed(t *testing.T) {
	b := small(t)
	for n := range b {
		if _, _, err := read(b[:n]); !isTyped(err) {
			t.Fatalf("the first %d of %d bytes: %v", n, len(b), err)
		}
	}
	if _, _, err := read(append(b, 0)); !errors.Is(err, ErrDamaged) {
		t.Fatalf("one byte more: %v", err)
	}
}

func TestEveryFlippedBitIsNoticed(t *testing.T) {
	b := small(t)
	for i := range b {
		for bit := range 8 {
			flipped := bytes.Clone(b)
			flipped[i] ^= 1 << bit
			if _, _, err := read(flipped); !isTyped(err) {
				t.Fatalf("bit %d of byte %d: %v", bit, i, err)
			}
		}
	}
}

// TestBlocksLeftOutOrMovedAreNoticed: each block is sound by itself, and the whole is not.
func TestBlocksLeftOutOrMovedAreNoticed(t *testing.T) {
	b := write(t, []entry{{"a", strings.Repeat("a", store.MaxValueBytes)}, {"b", strings.Repeat("b", store.MaxValueBytes)}, {"c", "c"}}, "one.pem", "two.pem")
	var blocks [][]byte
	for rest := b[len(magic)+1:]; len(rest) > 0; {
		n := blockHead + int(binary.LittleEndian.Uint32(rest[1:]))
		blocks, rest = append(blocks, rest[:n]), rest[n:]
	}
	if len(blocks) != 7 {
		t.Fatalf("there are %d blocks", len(blocks))
	}
	try := func(what string, order []int) {
		changed := bytes.Clone(b[:len(magic)+1])
		for _, i := range order {
			changed = append(changed, blocks[i]...)
		}
		if _, _, err := read(changed); !errors.Is(err, ErrDamaged) {
			t.Errorf("%s: %v", what, err)
		}
	}
	for i := range blocks {
		order := []int{0, 1, 2, 3, 4, 5, 6}
		try(fmt.Sprintf("without block %d", i), slices.Delete(slices.Clone(order), i, i+1))
		try(fmt.Sprintf("with block %d twice", i), slices.Insert(slices.Clone(order), i, i))
		if i > 0 {
			order[i-1], order[i] = order[i], order[i-1]
			try(fmt.Sprintf("with block %d too early", i), order)
		}
	}
}

func TestErrorsSayWhatAndWhere(t *testing.T) {
	b := small(t)
	newer := bytes.Clone(b)
	newer[len(magic)] = 9
	flipped := bytes.Clone(b)
	flipped[len(b)-60] ^= 1
	for name, c := range map[string]struct {
		backup []byte
		want   string
	}{
		"nothing":       {nil, "not a backup of anabranch: it is shorter than the beginning of one"},
		"something":     {bytes.Repeat([]byte("PK"), 50), `not a backup of anabranch: it begins with "PKPKPKPKPKPKPKPK"`},
		"newer":         {newer, "backup is of a newer format than this program knows: it is of format 9, this program knows 1: upgrade anabranch"},
		"cut short":     {b[:len(b)-1], fmt.Sprintf("backup is damaged: it ends after %d bytes, within block 4: the rest is missing", len(b)-1)},
		"flipped":       {flipped, fmt.Sprintf("backup is damaged: block 3, which ends at byte %d: its checksum does not match", len(b)-blockHead-trailerBytes)},
		"without entry": {append(bytes.Clone(b[:len(b)-blockHead-trailerBytes-3]), b[len(b)-blockHead-trailerBytes:]...), "backup is damaged"},
	} {
		if _, _, err := read(c.backup); err == nil || !strings.HasPrefix(err.Error(), c.want) {
			t.Errorf("%s: %v, want %s", name, err, c.want)
		}
	}
}

// forge makes a backup of blocks that no Writer writes.
func forge(t *testing.T, blocks func(w *Writer) error) []byte {
	t.Helper()
	var out bytes.Buffer
	w, err := NewWriter(&out, header)
	if err == nil {
		err = blocks(w)
	}
	if err == nil {
		_, err = w.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func TestForgedBlocksAreRefused(t *testing.T) {
	encoder, err := zstd.NewWriter(nil)
	if err != nil {
		t.Fatal(err)
	}
	bomb := encoder.EncodeAll(make([]byte, 64<<20), nil)
	for name, blocks := range map[string]func(w *Writer) error{
		"a bomb":                  func(w *Writer) error { return w.block(blockCompressed, bomb) },
		"no zstd":                 func(w *Writer) error { return w.block(blockCompressed, []byte("xyz")) },
		"no entries in a block":   func(w *Writer) error { return w.block(blockEntries, nil) },
		"a kind that is not":      func(w *Writer) error { return w.block('?', nil) },
		"a second header":         func(w *Writer) error { return w.block(blockHeader, []byte("{}")) },
		"keys that do not ascend": func(w *Writer) error { return w.block(blockEntries, []byte("\x01b\x00\x01a\x00")) },
		"a key twice":             func(w *Writer) error { return w.block(blockEntries, []byte("\x01b\x00\x01b\x00")) },
		"a key beyond the block":  func(w *Writer) error { return w.block(blockEntries, []byte("\x7fb")) },
		"a length without end":    func(w *Writer) error { return w.block(blockEntries, bytes.Repeat([]byte{0xff}, 20)) },
		"a file elsewhere":        func(w *Writer) error { return w.block(blockFile, []byte("\x0b../../passwd")) },
		"a file further down":     func(w *Writer) error { return w.block(blockFile, []byte("\x05a/b/c")) },
		"a file above":            func(w *Writer) error { return w.block(blockFile, []byte("\x05keys/")) },
		"a hidden file":           func(w *Writer) error { return w.block(blockFile, []byte("\x02.x")) },
		"a file without a name":   func(w *Writer) error { return w.block(blockFile, nil) },
		"a trailer too early":     func(w *Writer) error { return w.block(blockTrailer, make([]byte, trailerBytes)) },
	} {
		if held, _, err := read(forge(t, blocks)); !errors.Is(err, ErrDamaged) || strings.Contains(held, "passwd") {
			t.Errorf("%s: %v, held %q", name, err, held)
		}
	}
}

func TestWriterRefusesWhatNoReaderTakes(t *testing.T) {
	w, err := NewWriter(&bytes.Buffer{}, header)
	if err != nil {
		t.Fatal(err)
	}
	if w.AddFile("../x", nil) == nil || w.AddFile("x", make([]byte, maxFileBytes+1)) == nil {
		t.Error("a file that cannot be restored was taken")
	}
	if w.Add(make([]byte, store.MaxKeyBytes+1), nil) == nil || w.Add([]byte("a"), make([]byte, store.MaxValueBytes+1)) == nil {
		t.Error("an entry that is too large was taken")
	}
	if err := w.Add([]byte("b"), nil); err != nil {
		t.Fatal(err)
	}
	if w.Add([]byte("b"), nil) == nil || w.Add([]byte("a"), nil) == nil || w.AddFile("y", nil) == nil {
		t.Error("what is out of order was taken")
	}
}

const goldenDir = "../../testdata/store/v1"

// TestGoldenBackup reads a backup that was written once and must stay readable. It is not compressed, so that it is written the same by
// each version of the library.
func TestGoldenBackup(t *testing.T) {
	name := filepath.Join(goldenDir, "backup-two-entries.bin")
	b := write(t, []entry{{"d\x00\x00\x00\x01todo/1", "record"}, {"m\x00\x00\x00\x01", "meta"}}, "identity.pem")
	if _, err := os.Stat(name); os.IsNotExist(err) && *update {
		if err := os.WriteFile(name, b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	golden, err := os.ReadFile(name)
	if err != nil {
		t.Fatalf("%v (go test -run TestGoldenBackup -update writes what is missing)", err)
	}
	if !bytes.Equal(golden, b) {
		t.Errorf("it is written as\n%q\nand the golden file has\n%q", b, golden)
	}
	held, _, err := read(golden)
	want := "identity.pem: content of identity.pem\n" + `"d\x00\x00\x00\x01todo/1" = "record"` + "\n" + `"m\x00\x00\x00\x01" = "meta"` + "\n"
	if err != nil || held != want {
		t.Errorf("it holds\n%s%v", held, err)
	}
}

// FuzzRead checks that any bytes give an error of the package or a backup that is written and read back as itself.
func FuzzRead(f *testing.F) {
	f.Add(small(f))
	f.Add(write(f, nil))
	f.Add([]byte(magic + "\x01"))
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := NewReader(bytes.NewReader(b))
		var entries []entry
		if err == nil {
			_, err = r.Read(Visitor{Entry: func(key, value []byte) error {
				entries = append(entries, entry{string(key), string(value)})
				return nil
			}})
		}
		if err != nil {
			if !isTyped(err) {
				t.Fatalf("an error of no kind: %v", err)
			}
			return
		}
		write(t, entries)
	})
}
