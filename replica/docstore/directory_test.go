package docstore

import (
	"fmt"
	"strings"
	"testing"

	"github.com/anabranch-db/anabranch/crdt"
	"github.com/anabranch-db/anabranch/crdt/hlc"
)

// setLong sets n fields with the longest names there are, from the i-th on.
func (n *node) setLong(at hlc.Time, key string, i, count int) {
	n.t.Helper()
	n.write(at, func(tx *Transaction) error {
		for k := range count {
			p := mustPack(n.t, crdt.Path{fmt.Sprintf("%04d", i+k) + strings.Repeat("n", crdt.MaxPathBytes-5)})
			if err := tx.SetLeaves(key, p, []crdt.Leaf{{Path: p, Value: crdt.IntValue(int64(at))}}); err != nil {
				return err
			}
		}
		return nil
	})
}

func TestDirectoryLargerThanOneValueIsKept(t *testing.T) {
	a, b := newNode(t, 1), newNode(t, 2)
	a.setLong(10, "d", 0, 200)
	b.setLong(20, "d", 200, 200)
	a.pull(b)
	b.pull(a)
	equal(t, a, b)
	a.reload()
	a.setLong(30, "d", 100, 200)
	a.verify()
	b.pull(a)
	equal(t, a, b)
	d, ok, err := Read(b.snapshot(), 1, "d")
	if err != nil || !ok || len(d.Document.AppendFields(nil)) != 400 {
		t.Fatal(len(d.Document.AppendFields(nil)), ok, err)
	}
}
