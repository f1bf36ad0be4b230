package crdt_test

import (
	"slices"
	"strings"
	"testing"
	"testing/fstest"
)

// TestLayoutRulesCanFail breaks each rule once, in a tree made up for it, and expects the file, the line and the reason.
func TestLayoutRulesCanFail(t *testing.T) {
	mark, home, root := "TO"+"DO", "/ho"+"me/", "/ro"+"ot/"
	for _, test := range []struct {
		name  string
		path  string
		src   string
		check func(*layoutTree) []string
		want  []string // the start of each violation, or none if this is allowed
		why   string   // in each violation
	}{
		{"replica imports net", "replica/a.go", `package replica; import _ "` + layoutModule + `/net/wire"`,
			(*layoutTree).checkLayers, []string{"replica/a.go:1: "}, "never back"},
		{"crdt imports replica", "crdt/codec/a.go", "package codec\nimport _ \"" + layoutModule + "/replica/store\"",
			(*layoutTree).checkLayers, []string{"crdt/codec/a.go:2: "}, "small interface"},
		{"net imports crdt", "net/wire/a.go", `package wire; import _ "` + layoutModule + `/crdt"`,
			(*layoutTree).checkLayers, nil, ""},
		{"a test of replica imports net", "replica/a_test.go", `package replica_test; import _ "` + layoutModule + `/net/memnet"`,
			(*layoutTree).checkLayers, nil, ""},
		{"a package outside the layers", "tools/gen/a.go", `package gen`,
			(*layoutTree).checkLayers, []string{"tools/gen: "}, "move them"},

		{"pure imports I/O", "crdt/a.go", "package crdt\nimport (\n_ \"io\"\n_ \"net/netip\"\n_ \"sync/atomic\"\n)",
			(*layoutTree).checkPure, []string{"crdt/a.go:3: ", "crdt/a.go:4: ", "crdt/a.go:5: "}, "pure package"},
		{"pure imports an impure one of ours", "replica/protocol/a.go", `package protocol; import _ "` + layoutModule + `/replica/store"`,
			(*layoutTree).checkPure, []string{"replica/protocol/a.go:1: "}, "only import pure ones"},
		{"pure imports a module that nobody vouched for", "crdt/hlc/a.go", `package hlc; import _ "golang.org/x/sys/unix"`,
			(*layoutTree).checkPure, []string{"crdt/hlc/a.go:1: "}, "layoutPureModules"},
		{"pure reads the clock under another name", "crdt/a.go", "package crdt\nimport clock \"time\"\nvar boot = clock.Now()",
			(*layoutTree).checkPure, []string{"crdt/a.go:3: "}, "time.Now: time comes in"},
		{"pure uses types and constants of time", "crdt/a.go", "package crdt\nimport \"time\"\nfunc f(t time.Time) bool { return t.After(t.Add(time.Second)) }",
			(*layoutTree).checkPure, nil, ""},
		{"a variable named time is not the package", "crdt/a.go", "package crdt\nimport _ \"time\"\nfunc f(time interface{ Now() int }) int { return time.Now() }",
			(*layoutTree).checkPure, nil, ""},
		{"pure draws from the global source", "crdt/a.go", "package crdt\nimport \"math/rand/v2\"\nvar r = rand.New(rand.NewPCG(1, 2))\nvar n = rand.IntN(3)",
			(*layoutTree).checkPure, []string{"crdt/a.go:4: "}, "rand.IntN: it draws from the global source"},
		{"pure prints", "crdt/a.go", "package crdt\nimport \"fmt\"\nfunc f() string {\nfmt.Println()\nreturn fmt.Sprint() }",
			(*layoutTree).checkPure, []string{"crdt/a.go:4: "}, "fmt.Println: it does I/O"},
		{"pure starts a goroutine", "crdt/a.go", "package crdt\nfunc f() {\ngo f()\n}",
			(*layoutTree).checkPure, []string{"crdt/a.go:3: "}, "start a goroutine"},
		{"pure uses channels", "replica/protocol/a.go", "package protocol\nfunc f(c chan int) {\nc <- 1\n_ = <-c\nselect {}\n}",
			(*layoutTree).checkPure, []string{"replica/protocol/a.go:2: ", "replica/protocol/a.go:3: ", "replica/protocol/a.go:4: ", "replica/protocol/a.go:5: "}, "return the effect"},
		{"pure changes a global", "crdt/a.go", "package crdt\nvar n int\nvar m = map[int]int{}\nfunc f() {\nn++\nm[1] = 2\nn := 0\nn = 1\n_ = n\n}",
			(*layoutTree).checkPure, []string{"crdt/a.go:5: ", "crdt/a.go:6: "}, "the global "},
		{"pure has an init function", "crdt/a.go", "package crdt\nfunc init() {}",
			(*layoutTree).checkPure, []string{"crdt/a.go:2: "}, "init function"},
		{"a test of a pure package does what it likes", "crdt/a_test.go", "package crdt\nimport \"os\"\nfunc f() { go os.Exit(1) }",
			(*layoutTree).checkPure, nil, ""},
		{"an impure package does what it likes", "replica/a.go", "package replica\nimport \"os\"\nfunc f() { go os.Exit(1) }",
			(*layoutTree).checkPure, nil, ""},

		{"docstore opens files and reads the clock", "replica/docstore/a.go", "package docstore\nimport (\n\"os\"\n\"time\"\n)\nvar _, _ = os.Open(time.Now().String())",
			(*layoutTree).checkDocstore, []string{"replica/docstore/a.go:3: ", "replica/docstore/a.go:6: "}, "replica/docstore must not"},
		{"docstore locks, and starts a goroutine", "replica/docstore/a.go", "package docstore\nimport \"sync\"\nvar mu sync.Mutex\nfunc f() { go f() }",
			(*layoutTree).checkDocstore, []string{"replica/docstore/a.go:2: ", "replica/docstore/a.go:4: "}, "replica/docstore must not"},

		{"msgpack in the engine", "replica/a.go", `package replica; import _ "github.com/vmihailenco/msgpack/v5"`,
			(*layoutTree).checkDependencies, []string{"replica/a.go:1: "}, "only tests and net/wire may"},
		{"msgpack in net/wire", "net/wire/a.go", `package wire; import _ "github.com/vmihailenco/msgpack/v5"`,
			(*layoutTree).checkDependencies, nil, ""},
		{"badger in the command", "cmd/anabranch/a.go", `package main; import _ "github.com/dgraph-io/badger/v4"`,
			(*layoutTree).checkDependencies, []string{"cmd/anabranch/a.go:1: "}, "badgerstore"},
		{"badger in the benchmark's yardstick", "cmd/anabranch/internal/bench/a.go", `package bench; import _ "github.com/dgraph-io/badger/v4"`,
			(*layoutTree).checkDependencies, nil, ""},
		{"what reads /proc in the engine", "replica/a.go", `package replica; import _ "github.com/prometheus/procfs"`,
			(*layoutTree).checkDependencies, []string{"replica/a.go:1: "}, "only the store asks"},
		{"another library of Prometheus in the store", "replica/badgerstore/a.go", `package badgerstore; import _ "github.com/prometheus/common/model"`,
			(*layoutTree).checkDependencies, []string{"replica/badgerstore/a.go:1: "}, "any other library of theirs"},
		{"http3 beside QUIC", "net/quicnet/a.go", "package quicnet\nimport _ \"github.com/quic-go/quic-go\"\nimport _ \"github.com/quic-go/quic-go/http3\"",
			(*layoutTree).checkDependencies, []string{"net/quicnet/a.go:3: "}, "large surface"},
		{"the test library in the engine", "replica/a.go", `package replica; import _ "testing"`,
			(*layoutTree).checkDependencies, []string{"replica/a.go:1: "}, "registers flags"},

		{"a dependency in a parameter", "replica/a.go", "package replica\nimport \"github.com/dgraph-io/badger/v4\"\nfunc Open(o badger.Options) {}",
			(*layoutTree).checkSignatures, []string{"replica/a.go:3: "}, "badger.Options"},
		{"a dependency whose name is not its path's", "net/quicnet/a.go", "package quicnet\nimport \"github.com/quic-go/quic-go\"\ntype T struct { Conn *quic.Conn }",
			(*layoutTree).checkSignatures, []string{"net/quicnet/a.go:3: "}, "quic.Conn"},
		{"a dependency in a method, an interface and an alias", "replica/a.go",
			"package replica\nimport x \"example.com/go-x\"\ntype T[V any] int\nfunc (*T[V]) M() (x.A, error) { return nil, nil }\ntype I interface {\nF(x.B)\n}\ntype A = x.C\nvar V x.D",
			(*layoutTree).checkSignatures, []string{"replica/a.go:4: ", "replica/a.go:6: ", "replica/a.go:8: ", "replica/a.go:9: "}, "of a dependency"},
		{"a dependency that does not show", "replica/a.go", "package replica\nimport \"example.com/x\"\ntype T struct { c x.C }\nfunc (t t) M(x.C) {}\nfunc f(x.C) {}\nfunc F() { var _ x.C }",
			(*layoutTree).checkSignatures, nil, ""},
		{"a test library in test support", "crdt/crdttest/a.go", "package crdttest\nimport \"pgregory.net/rapid\"\nfunc Draw(t *rapid.T) {}",
			(*layoutTree).checkSignatures, nil, ""},

		{"a test sleeps", "replica/a_test.go", "package replica\nimport \"time\"\nfunc f() {\ntime.Sleep(1)\n}",
			(*layoutTree).checkSleep, []string{"replica/a_test.go:4: "}, "waits for the event"},
		{"a test in a bubble sleeps", "replica/a_test.go", "package replica\nimport (\n\"testing/synctest\"\n\"time\"\n)\nfunc f() { synctest.Wait(); time.Sleep(1) }",
			(*layoutTree).checkSleep, nil, ""},

		{"a package named utils", "replica/utils/a.go", "package utils",
			(*layoutTree).checkNames, []string{"replica/utils: "}, "name it for that"},
		{"a Go file in net", "net/a.go", "package net",
			(*layoutTree).checkNames, []string{"net: "}, "hide"},

		{"a stray file at the top", "notes.md", "", (*layoutTree).checkTop, []string{"notes.md: "}, "top of the repository"},
		{"a dot file at the top", ".editorconfig", "", (*layoutTree).checkTop, nil, ""},
		{"work put off", "docs/a.md", "first\n" + mark + ": second", (*layoutTree).checkLeftovers, []string{"docs/a.md:2: "}, "do it"},
		{"a word that contains the mark", "docs/a.md", "masto" + strings.ToLower(mark) + "n " + mark + "S", (*layoutTree).checkLeftovers, nil, ""},
		{"a path of a machine", "testdata/a.txt", "open " + home + "jane/x: no\n" + root + "x", (*layoutTree).checkMachinePaths,
			[]string{"testdata/a.txt:1: ", "testdata/a.txt:2: "}, "one machine"},
		{"a made-up path, and a part of a URL", "docs/a.md", home + "alice/x " + home + "u/x https://example.com" + root + "x", (*layoutTree).checkMachinePaths, nil, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			tree, err := readLayout(fstest.MapFS{test.path: &fstest.MapFile{Data: []byte(test.src)}})
			if err != nil {
				t.Fatal(err)
			}
			tree.paths = []string{test.path}
			got := test.check(tree)
			slices.Sort(got)
			if len(got) != len(test.want) {
				t.Fatalf("got %d violations, want %d:\n%s", len(got), len(test.want), strings.Join(got, "\n"))
			}
			for i, v := range got {
				if !strings.HasPrefix(v, test.want[i]) || !strings.Contains(v, test.why) {
					t.Errorf("got  %s\nwant %s... %s...", v, test.want[i], test.why)
				}
			}
		})
	}
}
