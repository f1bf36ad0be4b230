// Package badgerstore keeps a store.Store on disk, in Badger v4.
package badgerstore
