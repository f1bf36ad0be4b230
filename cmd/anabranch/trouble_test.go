package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
	"golang.org/x/sys/unix"

	"github.com/anabranch-db/anabranch/crdt"
	"github.com/anabranch-db/anabranch/replica"
	"github.com/anabranch-db/anabranch/replica/badgerstore"
	"github.com/anabranch-db/anabranch/replica/store"
)

// The script commands here bring a store into the states that `doctor`, and every user, hopes never to see.

var heldLocks = make(map[string]*os.File) // the scripts that use it run one after the other: there is one

func scriptHold(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, neg, len(args) == 1, "hold FILE")
	f, err := os.OpenFile(ts.MkAbs(args[0]), os.O_RDWR, 0)
	ts.Check(err)
	ts.Defer(func() { f.Close() })
	ts.Check(unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB))
	heldLocks[args[0]] = f
}

func scriptRelease(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, neg, len(args) == 1 && heldLocks[args[0]] != nil, "release FILE, after hold")
	ts.Check(heldLocks[args[0]].Close())
	delete(heldLocks, args[0])
}

func scriptReformat(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, neg, len(args) == 2, "reformat DIR N")
	path := filepath.Join(ts.MkAbs(args[0]), "STORE")
	text, err := os.ReadFile(path)
	ts.Check(err)
	line, _, _ := strings.Cut(string(text), "\n")
	var fields map[string]any
	ts.Check(json.Unmarshal([]byte(line), &fields))
	n, err := strconv.Atoi(args[1])
	ts.Check(err)
	fields["format"] = n
	changed, err := json.Marshal(fields)
	ts.Check(err)
	changed = append(changed, '\n')
	changed = fmt.Appendf(changed, "crc32c %08x\n", crc32.Checksum(changed, crc32.MakeTable(crc32.Castagnoli)))
	ts.Check(os.WriteFile(path, changed, 0o600))
}

func scriptFlip(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, neg, len(args) == 1, "flip GLOB")
	names, err := filepath.Glob(ts.MkAbs(args[0]))
	ts.Check(err)
	if len(names) == 0 {
		ts.Fatalf("no file is named %s", args[0])
	}
	for _, name := range names {
		text, err := os.ReadFile(name)
		ts.Check(err)
		text[len(text)/2] ^= 1
		ts.Check(os.WriteFile(name, text, 0o600))
	}
}

// kinds are the first bytes of a space's keys in the store.
var kinds = map[string]byte{"log": 'l', "feed": 'f', "meta": 'm'}

func scriptForget(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, neg, len(args) == 2 && kinds[args[1]] != 0, "forget DIR log|feed|meta")
	ts.Check(forget(ts.MkAbs(args[0]), kinds[args[1]]))
}

func forget(dir string, kind byte) (err error) {
	s, err := badgerstore.Open(badgerstore.Options{Dir: dir})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	snap, err := s.Snapshot()
	if err != nil {
		return err
	}
	defer snap.Close()
	for key, err := range snap.Keys([]byte{kind}, []byte{kind + 1}) {
		if err != nil {
			return err
		}
		var b store.Batch
		b.Delete(key)
		return s.Commit(&b)
	}
	return fmt.Errorf("%s has no entry of kind %c", dir, kind)
}

func scriptAhead(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, neg, len(args) == 1, "ahead DIR")
	r, err := replica.Open(replica.Config{Dir: ts.MkAbs(args[0]), Now: func() time.Time { return time.Now().Add(time.Hour) }})
	ts.Check(err)
	s, err := r.Space("main")
	ts.Check(err)
	_, err = s.Update(context.Background(), func(tx *replica.Tx) error { return tx.Doc("tomorrow").Set(crdt.Path{"n"}, 1) })
	ts.Check(errors.Join(err, r.Close()))
}
