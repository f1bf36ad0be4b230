package main

import (
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/anabranch-db/anabranch/cmd/anabranch/internal/node"
)

func TestMain(m *testing.M) {
	if os.Getenv("ANABRANCH_GATEWAY") == "" { // nodes of tests must not meet at its default address
		if err := os.Setenv("ANABRANCH_GATEWAY", "off"); err != nil {
			panic(err)
		}
	}
	testscript.Main(m, map[string]func(){"anabranch": main})
}

// patience is how long a condition may take to come about on a busy machine.
const patience = 60 * time.Second

// TestScripts runs the sessions in testdata. Beside the usual commands they have:
//
//	exits CODE command…       run, and expect this exit code
//	await PATTERN command…    run again and again until it succeeds and its output matches
//	node VAR DIR              wait until a node serves DIR; set $VAR to its address, and $VAR_ID to its peer ID
//	repeat N FORMAT FILE      write a file of N lines, %d in FORMAT is the number
//	hold FILE, release FILE   take the lock of a store away, and give it back
//	reformat DIR N            make DIR look like a store of format N
//	flip GLOB                 change one bit in the middle of each file
//	forget DIR KIND           take one entry of a kind (log, feed, meta) out of a store
//	fetch DIR PATH            ask the admin listener of the node; the status and the body are the output
//	http TOKEN METHOD PATH [BODY]  ask the gateway, with the token in a file; status and body are the output
//	follow TOKEN PATH, followed    begin to read an event stream, and wait until it has ended
//	ahead DIR                 write a document as a node would whose clock is an hour ahead
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata",
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		Setup: func(env *testscript.Env) error {
			env.Setenv("ANABRANCH_DIR", filepath.Join(env.WorkDir, "store"))
			env.Setenv("ANABRANCH_LISTEN", "127.0.0.1:0")
			env.Setenv("ANABRANCH_GATEWAY", "off") // a script that wants one says where
			env.Setenv("HOME", env.WorkDir)
			env.Values[followKey] = make(chan struct{})
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"exits": scriptExits, "await": scriptAwait, "node": scriptNode, "repeat": scriptRepeat, "hold": scriptHold,
			"release": scriptRelease, "reformat": scriptReformat, "flip": scriptFlip, "forget": scriptForget, "ahead": scriptAhead,
			"fetch": scriptFetch, "http": scriptHTTP, "follow": scriptFollow, "followed": scriptFollowed,
		},
		Condition: func(cond string) (bool, error) {
			if cond == "mounts" { // may this user make mounts of its own?
				return exec.Command("unshare", "--mount", "--map-root-user", "true").Run() == nil, nil
			}
			return false, errors.New("unknown condition")
		},
	})
}

func usage(ts *testscript.TestScript, neg, ok bool, how string) {
	if neg || !ok {
		ts.Fatalf("usage: %s", how)
	}
}

func scriptExits(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, neg, len(args) > 1, "exits CODE command…")
	err := ts.Exec(args[1], args[2:]...)
	var exit *exec.ExitError
	code := 0
	switch {
	case errors.As(err, &exit):
		code = exit.ExitCode()
	case err != nil:
		ts.Fatalf("%v", err)
	}
	if strconv.Itoa(code) != args[0] {
		ts.Fatalf("exit code %d, want %s", code, args[0])
	}
}

func scriptAwait(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, neg, len(args) > 1, "await PATTERN command…")
	pattern, err := regexp.Compile("(?m)" + args[0])
	ts.Check(err)
	for giveUp := time.Now().Add(patience); ; {
		err := ts.Exec(args[1], args[2:]...)
		out := ts.ReadFile("stdout") + ts.ReadFile("stderr")
		if err == nil && pattern.MatchString(out) {
			return
		}
		if time.Now().After(giveUp) {
			ts.Fatalf("%v has not come to match %q in %s: %v\n%s", args[1:], args[0], patience, err, out)
		}
		<-time.After(20 * time.Millisecond)
	}
}

func scriptNode(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, neg, len(args) == 2, "node VAR DIR")
	var st node.Status
	for giveUp := time.Now().Add(patience); !st.Serving; {
		if time.Now().After(giveUp) {
			ts.Fatalf("no node serves %s after %s", args[1], patience)
		}
		// A store that is not served yet must not be opened meanwhile, or the node finds it in use.
		if _, err := os.Stat(filepath.Join(ts.MkAbs(args[1]), "control.sock")); err == nil {
			if ts.Exec("anabranch", "--json", "--dir", args[1], "status") == nil {
				ts.Check(json.Unmarshal([]byte(ts.ReadFile("stdout")), &st))
			}
		}
		<-time.After(20 * time.Millisecond)
	}
	ts.Setenv(args[0]+"_ID", st.PeerID)
	if len(st.Addresses) > 0 {
		ts.Setenv(args[0], st.Addresses[0])
	}
}

func scriptRepeat(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, neg, len(args) == 3, "repeat N FORMAT FILE")
	n, err := strconv.Atoi(args[0])
	ts.Check(err)
	var b strings.Builder
	for i := range n {
		b.WriteString(strings.ReplaceAll(args[1], "%d", strconv.Itoa(i+1)))
		b.WriteByte('\n')
	}
	ts.Check(os.WriteFile(ts.MkAbs(args[2]), []byte(b.String()), 0o600))
}
