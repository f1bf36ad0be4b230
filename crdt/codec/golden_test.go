package codec_test

import (
	"bytes"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/anabranch-db/anabranch/crdt/codec"
)

var update = flag.Bool("update", false, "write the golden files anew; stores of version 1 have what they say now")

const goldenDir = "../../testdata/store/v1"

var fileName = strings.NewReplacer(" ", "-", "'", "")

// TestGoldenBytes: what is in stores and on the way stays readable, and is written as it was.
func TestGoldenBytes(t *testing.T) {
	golden := map[string][]byte{}
	for name, fields := range states() {
		golden["cells-"+fileName.Replace(name)+".bin"] = codec.AppendCells(nil, fields)
	}
	for name, vv := range vectors() {
		golden["vector-"+fileName.Replace(name)+".bin"] = codec.AppendVector(nil, vv)
	}
	for name, written := range golden {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(goldenDir, name)
			if *update {
				if err := os.MkdirAll(goldenDir, 0o755); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(path, written, 0o644); err != nil {
					t.Fatal(err)
				}
			}
			kept, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(written, kept) {
				t.Errorf("written as\n%x, the file has\n%x", written, kept)
			}
			if strings.HasPrefix(name, "vector-") {
				if _, rest, err := codec.ParseVector(kept); err != nil || len(rest) > 0 {
					t.Errorf("%d bytes left, error %v", len(rest), err)
				}
				return
			}
			if _, err := codec.ParseCells(kept); err != nil {
				t.Error(err)
			}
		})
	}
	for _, pattern := range []string{"cells-*.bin", "vector-*.bin"} {
		found, err := filepath.Glob(filepath.Join(goldenDir, pattern))
		if err != nil {
			t.Fatal(err)
		}
		for _, path := range found {
			if golden[filepath.Base(path)] == nil && filepath.Base(path) != "cells-nothing.bin" {
				t.Errorf("%s belongs to no case of the test", path)
			}
		}
	}
}
