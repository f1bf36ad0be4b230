//go:build linux

package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// wires are network namespaces, each for one node, and a cable of its own between any two of them. So any two nodes can be cut
// off from each other as by pulling a plug: the system takes the route away, and whoever sends gets an error.
type wires struct {
	t     *testing.T
	names []string
	up    map[[2]int]bool // i < j
	deaf  map[[2]int]bool // i does not hear j, and j hears i
}

const (
	namespacePrefix = "anabranch-test-"
	nodePort        = "7420"
)

// newWires makes n namespaces. They go with the test; those of a test that was killed go with the next one.
func newWires(t *testing.T, n int) *wires {
	t.Helper()
	if os.Geteuid() != 0 {
		skipNamespaces(t, "they need root")
	}
	for _, tool := range []string{"ip", "nft"} {
		if _, err := exec.LookPath(tool); err != nil {
			skipNamespaces(t, fmt.Sprintf("there is no command %s (package iproute2 or nftables)", tool))
		}
	}
	sweepNamespaces(t)
	w := &wires{t: t, up: make(map[[2]int]bool), deaf: make(map[[2]int]bool)}
	for i := range n {
		name := fmt.Sprintf("%s%d-%d", namespacePrefix, os.Getpid(), i)
		if out, err := exec.Command("ip", "netns", "add", name).CombinedOutput(); err != nil {
			skipNamespaces(t, fmt.Sprintf("ip netns add: %v: %s", err, out))
		}
		t.Cleanup(func() { w.run("ip", "netns", "del", name) })
		w.names = append(w.names, name)
		w.run("ip", "-n", name, "link", "set", "lo", "up")
		w.run("ip", "netns", "exec", name, "nft", `
			add table inet test
			add set inet test deaf { type ifname; }
			add chain inet test in { type filter hook input priority 0; }
			add rule inet test in iifname @deaf drop`)
	}
	for i := range n {
		for j := range i {
			w.cable(j, i)
		}
	}
	return w
}

// skipNamespaces skips the test, or fails it where it must not be skipped.
func skipNamespaces(t *testing.T, why string) {
	t.Helper()
	if os.Getenv("ANABRANCH_CI") != "" {
		t.Fatalf("nodes in network namespaces are not tested, and must be in CI: %s", why)
	}
	t.Skipf("not tested: nodes in network namespaces: %s", why)
}

// sweepNamespaces removes what processes left that are gone.
func sweepNamespaces(t *testing.T) {
	t.Helper()
	left, err := filepath.Glob("/run/netns/" + namespacePrefix + "*")
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range left {
		name := filepath.Base(path)
		pid, _, _ := strings.Cut(strings.TrimPrefix(name, namespacePrefix), "-")
		if n, err := strconv.Atoi(pid); err == nil && errors.Is(unix.Kill(n, 0), unix.ESRCH) {
			t.Logf("removing the namespace %s of a test that was killed", name)
			if out, err := exec.Command("ip", "netns", "del", name).CombinedOutput(); err != nil {
				t.Logf("%v: %s", err, out)
			}
		}
	}
}

func (w *wires) run(name string, args ...string) {
	w.t.Helper()
	if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
		w.t.Errorf("%s %s: %v: %s", name, strings.Join(args, " "), err, out)
	}
}

func device(to int) string { return fmt.Sprint("to", to) }

// address returns where node i is reached by node j.
func (w *wires) address(i, j int) string {
	host := 1
	if i > j {
		host = 2
	}
	return fmt.Sprintf("10.77.%d.%d", 16*min(i, j)+max(i, j), host)
}

func (w *wires) cable(i, j int) {
	w.t.Helper()
	w.run("ip", "-n", w.names[i], "link", "add", device(j), "type", "veth", "peer", "name", device(i), "netns", w.names[j])
	for _, end := range [][2]int{{i, j}, {j, i}} {
		w.run("ip", "-n", w.names[end[0]], "addr", "add", w.address(end[0], end[1])+"/30", "dev", device(end[1]))
		w.run("ip", "-n", w.names[end[0]], "link", "set", device(end[1]), "up")
	}
	w.up[[2]int{i, j}] = true
}

// plug joins two nodes, or cuts them off from each other.
func (w *wires) plug(i, j int, up bool) {
	w.t.Helper()
	i, j = min(i, j), max(i, j)
	if w.up[[2]int{i, j}] == up {
		return
	}
	w.up[[2]int{i, j}] = up
	w.run("ip", "-n", w.names[i], "link", "set", device(j), map[bool]string{true: "up", false: "down"}[up])
}

// deafen lets node i hear nothing of node j any more, or hear it again.
func (w *wires) deafen(i, j int, deaf bool) {
	w.t.Helper()
	if w.deaf[[2]int{i, j}] == deaf {
		return
	}
	w.deaf[[2]int{i, j}] = deaf
	w.run("ip", "netns", "exec", w.names[i], "nft", map[bool]string{true: "add", false: "delete"}[deaf],
		"element", "inet", "test", "deaf", fmt.Sprintf("{ %q }", device(j)))
}

// mend joins everybody with everybody.
func (w *wires) mend() {
	w.t.Helper()
	for i := range w.names {
		for j := range w.names {
			if i != j {
				w.plug(i, j, true)
				w.deafen(i, j, false)
			}
		}
	}
}

// String shows what is cut.
func (w *wires) String() string {
	var cut []string
	for i := range w.names {
		for j := range w.names {
			if i < j && !w.up[[2]int{i, j}] {
				cut = append(cut, fmt.Sprintf("%d-%d", i, j))
			}
			if w.deaf[[2]int{i, j}] {
				cut = append(cut, fmt.Sprintf("%d deaf to %d", i, j))
			}
		}
	}
	return "cut: " + strings.Join(cut, ", ")
}
