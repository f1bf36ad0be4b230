package badgerstore

import "testing"

func TestTablesAreSmallUntilThereAreMany(t *testing.T) {
	for stored, want := range map[int64]int64{
		0: 2 << 20, 1 << 30: 2 << 20, 2 << 30: 2 << 20, 5 << 30: 8 << 20, 60 << 30: 64 << 20, 1 << 40: 64 << 20,
	} {
		if got := tableSize(stored); got != want {
			t.Errorf("a store of %d bytes writes tables of %d bytes, want %d", stored, got, want)
		}
	}
}
