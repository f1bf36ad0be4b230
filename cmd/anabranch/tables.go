package main

import (
	"github.com/anabranch-db/anabranch/replica/badgerstore"
)

// verifyTables opens the store, which examines its files, and reads it.
func verifyTables(dir string) error {
	s, err := badgerstore.Open(badgerstore.Options{Dir: dir})
	if err != nil {
		return err
	}
	return s.Close()
}
