package crdt_test

import (
	"strings"
	"testing"
)

// This file holds the rules of the repository's layout, each as a table *what -> why not* and a test. What the rules
// look at is in layout_tree_test.go, how they look in layout_check_test.go, and the proof that each can fail in
// layout_broken_test.go. Test files are exempt unless a rule says otherwise.

const layoutModule = "github.com/anabranch-db/anabranch"

// layoutLayers are the directories that hold Go code, lowest first. A package may import its own layer and those before it.
var layoutLayers = []string{"crdt", "replica", "net", "cmd"}

// layoutTop names what may lie at the top of the repository, apart from names that begin with a dot.
var layoutTop = map[string]string{
	"crdt": "the lattice", "replica": "the engine", "net": "transports and gateway", "cmd": "the command",
	"testdata": "test data that several packages share", "docs": "documentation",
	"go.mod": "module", "go.sum": "module", "README.md": "start here", "LICENSE": "licence", "CHANGELOG.md": "what users notice",
	"check.sh": "every check in one command", "Makefile": "build file",
}

// layoutPure names the packages, with all below them, that take messages and times and return state and effects.
var layoutPure = []string{"crdt", "replica/protocol", "replica/grant", "replica/mesh"}

// layoutPureImports says what a pure package must not import, nor anything below it.
var layoutPureImports = map[string]string{
	"bufio":       "it wraps I/O",
	"context":     "cancellation belongs to whoever runs the goroutines",
	"crypto/rand": "randomness comes in as an argument, so that a run can be repeated",
	"embed":       "it reads files",
	"io":          "reading and writing belong to the caller; a parser takes and returns bytes",
	"log":         "what is worth telling is returned",
	"net":         "the network belongs to package net",
	"os":          "files, environment and process belong to the caller",
	"plugin":      "it loads code",
	"runtime":     "the result must not depend on the process it runs in",
	"sync":        "there is one caller at a time, so there is nothing to lock",
	"syscall":     "the system belongs to the caller",
	"unsafe":      "these packages parse bytes that nobody vouches for",
}

// layoutPureModules says which modules a pure package may import; any other may do anything.
var layoutPureModules = map[string]string{
	"github.com/zeebo/xxh3":    "a hash: bytes in, number out",
	"golang.org/x/text":        "tables and functions over text",
	"pgregory.net/rapid":       "generators for crdttest",
	"github.com/tidwall/btree": "an ordered map; use its NoLocks form",
}

// layoutPureCalls says which functions a pure package must not use, of packages that it may import.
var layoutPureCalls = map[string]map[string]string{
	"time": layoutClockCalls,
	"fmt": {
		"Print": layoutPrints, "Printf": layoutPrints, "Println": layoutPrints,
		"Fprint": layoutPrints, "Fprintf": layoutPrints, "Fprintln": layoutPrints,
		"Scan": layoutPrints, "Scanf": layoutPrints, "Scanln": layoutPrints,
	},
	"math/rand":    layoutGlobalRand,
	"math/rand/v2": layoutGlobalRand,
}

const layoutPrints = "it does I/O: return the text"

// layoutClockCalls are what of package time reads the clock, waits, or reads files; its types, constants and arithmetic are free.
var layoutClockCalls = map[string]string{
	"Now": layoutClock, "Since": layoutClock, "Until": layoutClock, "Sleep": layoutClock, "After": layoutClock,
	"AfterFunc": layoutClock, "Tick": layoutClock, "NewTimer": layoutClock, "NewTicker": layoutClock,
	"LoadLocation": "it reads files: use time.UTC", "Local": "it differs from machine to machine: use time.UTC",
}

const layoutClock = "time comes in as an argument, so that the simulator can set it"

// layoutGlobalRand names what of math/rand is *not* the global source; the empty name stands for the rest.
var layoutGlobalRand = map[string]string{
	"":    "it draws from the global source: take a *rand.Rand or a seed as an argument",
	"New": "", "NewPCG": "", "NewChaCha8": "", "NewSource": "", "NewZipf": "",
	"Rand": "", "PCG": "", "ChaCha8": "", "Source": "", "Source64": "", "Zipf": "",
}

// layoutDocstoreImports, the clock and goroutines are what replica/docstore must keep away from: it turns a state into reads and
// batches of a store that it is given, and the simulator runs it.
var layoutDocstoreImports = map[string]string{
	"net":         "it stores; it does not talk",
	"os":          "it reads and writes through the store that it is given",
	"crypto/rand": "randomness comes in as an argument, so that a run can be repeated",
	"sync":        "there is one caller at a time, so there is nothing to lock",
}

// layoutOnlyIn says which modules are confined, to which directories, and why. The empty list means that only tests may.
var layoutOnlyIn = []struct {
	module string
	dirs   []string
	why    string
}{
	{"github.com/vmihailenco/msgpack", []string{"net/wire"},
		"five bytes can make it allocate gigabytes, so it may only see what net/wire has checked: add a frame there"},
	{"github.com/quic-go/quic-go/http3", nil,
		"it is a large surface that nothing here needs"},
	{"github.com/quic-go/quic-go", []string{"net/quicnet", "net/nettest", "cmd/anabranch/internal"},
		"the engine knows a transport only as replica.Transport: use package quicnet"},
	{"github.com/dgraph-io", []string{"replica/badgerstore", "cmd/anabranch/internal"},
		"the engine knows a store only as store.Store: use package badgerstore"},
	{"filippo.io/age", []string{"replica/keyfile"}, "keys at rest are one package's business"},
	{"github.com/pion", []string{"net/discovery"}, "it parses packets of anybody on the local network: only who wants that links it"},
	{"github.com/spf13", []string{"cmd"}, "only the command has a command line"},
	{"github.com/prometheus/client_golang", []string{"cmd"}, "embedding the engine forces no metrics library: it tells its numbers by Replica.Metrics"},
	{"github.com/prometheus/procfs", []string{"replica/badgerstore", "cmd/anabranch/internal"},
		"it reads what Linux tells in /proc: only the store asks, for the maps of its files, and the benchmark, for memory"},
	{"github.com/prometheus", []string{"cmd"}, "nor is it forced to any other library of theirs"},
	{"github.com/vbauerster/mpb", []string{"cmd"}, "only the command draws on a terminal"},
	{"golang.org/x/term", []string{"cmd"}, "only the command draws on a terminal"},
	{"pgregory.net/rapid", layoutTestSupport, "it is for tests"},
	{"go.uber.org/goleak", layoutTestSupport, "it is for tests"},
	{"testing", append([]string{"cmd/anabranch/internal"}, layoutTestSupport...), "it registers flags in every program that links it"},
}

// layoutTestSupport are the packages that exist for tests of other packages. Their exported functions may take types of test libraries.
var layoutTestSupport = []string{"crdt/crdttest", "replica/storetest", "replica/replicatest", "net/nettest"}

// layoutEmptyNames are package names that say nothing about what the package holds.
var layoutEmptyNames = []string{"util", "utils", "common", "helper", "helpers", "misc", "shared", "types", "models", "base", "lib"}

func TestImportsPointDown(t *testing.T) {
	report(t, loadLayout(t).checkLayers())
}

func TestPurePackagesHaveNoEffects(t *testing.T) {
	report(t, loadLayout(t).checkPure())
}

func TestDocstoreUsesOnlyItsStore(t *testing.T) {
	report(t, loadLayout(t).checkDocstore())
}

func TestDependenciesStayWhereTheyBelong(t *testing.T) {
	report(t, loadLayout(t).checkDependencies())
}

func TestExportedSignaturesNameNoDependency(t *testing.T) {
	report(t, loadLayout(t).checkSignatures())
}

func TestNobodySleeps(t *testing.T) {
	report(t, loadLayout(t).checkSleep())
}

func TestPackagesAreNamedForWhatTheyHold(t *testing.T) {
	report(t, loadLayout(t).checkNames())
}

func TestTopOfRepositoryIsTidy(t *testing.T) {
	report(t, loadTracked(t).checkTop())
}

func TestNothingIsLeftForLater(t *testing.T) {
	report(t, loadTracked(t).checkLeftovers())
}

func TestNoMachinePaths(t *testing.T) {
	report(t, loadTracked(t).checkMachinePaths())
}

func report(t *testing.T, violations []string) {
	t.Helper()
	if len(violations) > 0 {
		t.Errorf("%d violations of the layout (docs/developing.md says what the rules are for):\n%s", len(violations), strings.Join(violations, "\n"))
	}
}
