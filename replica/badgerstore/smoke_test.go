package badgerstore

import (
	"testing"

	"github.com/anabranch-db/anabranch/replica/store"
)

func TestSmoke(t *testing.T) {
	dir := t.TempDir() + "/s"
	s, err := Open(Options{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	a := s.Anchor()
	for i := range 10 {
		var b store.Batch
		b.Put([]byte{byte(i)}, []byte("x"))
		if err := s.Commit(&b); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s, err = Open(Options{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	if a == "" || s.Anchor() != a {
		t.Fatalf("%q %q", a, s.Anchor())
	}
	sn, _ := s.Snapshot()
	v, ok, err := sn.Get([]byte{3})
	if string(v) != "x" || !ok || err != nil {
		t.Fatal(v, ok, err)
	}
	n := 0
	for _, err := range sn.Keys(nil, nil) {
		if err != nil {
			t.Fatal(err)
		}
		n++
	}
	if n != 10 {
		t.Fatal(n)
	}
	sn.Close()
	s.Close()
}
