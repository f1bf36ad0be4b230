// Package storetest is the conformance suite of store.Store: what the contract promises, a test each. An
// implementation's test is a few lines:
//
//	func TestStore(t *testing.T) {
//		storetest.Run(t, func(t *testing.T) store.Store { return memstore.New() })
//	}
//
// and, if it keeps its contents when closed, RunDurable with a constructor that takes a directory. Crashes, damage and
// full disks differ from one implementation to the next, and are tested there.
package storetest
