package badgerstore

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/dgraph-io/badger/v4"

	"github.com/anabranch-db/anabranch/replica/store"
)

// A batch too large for one Badger transaction is first written whole to the redo file. When that is durable, the
// batch is decided: it is applied in several transactions at one and the same time, out of sight since lastTs is still
// below, and after a crash Open applies it again. (Memtables of 100 MiB, so that every batch fits one
// transaction, were the alternative: all memory, all of the time, for what happens rarely.)
//
//	redo file:  magic "ANREDO\x00\x01", time, count (8 bytes each, big endian),
//	            then each operation: kind (1), key length (4), value length (4), key, value;
//	            then crc32c of all that (4)
//
// The first transaction also sets pendingKey to the batch's time. A last one, at a time of its own, sets it to
// nothing and is what makes the batch visible. So a lost redo file does not go unnoticed.
const (
	redoName   = "REDO"
	redoMagic  = "ANREDO\x00\x01"
	redoHeader = len(redoMagic) + 8 + 8
	redoOpHead = 1 + 4 + 4
	redoPut    = 1
	redoDelete = 2

	maxRedoBytes = int64(redoHeader) + store.MaxBatchBytes + store.MaxBatchEntries*int64(redoOpHead) + 4
)

var pendingKey = []byte{ownKeys, 'p'}

func (s *Store) redoPath() string { return filepath.Join(s.opts.Dir, redoName) }

// writeLarge commits a batch through the redo file. The file is durable at once, whatever the mode, so the commits before
// it must be, too: a redo file of commit 63 is of no use to a store that has lost what followed commit 27.
func (s *Store) writeLarge(ts uint64, b *store.Batch) error {
	if s.opts.Sync != SyncAlways {
		if err := s.sync(); err != nil {
			return err
		}
	}
	if err := writeFile(s.redoPath(), packRedo(ts, b)); err != nil {
		return fmt.Errorf("write the redo file: %w", err)
	}
	return s.applyRedo(ts, b)
}

// applyRedo writes the batch in as many transactions as it takes, makes that durable and removes the redo file. The
// commit is complete at the time ts+1.
func (s *Store) applyRedo(ts uint64, b *store.Batch) error {
	w := &redoWriter{s: s, ts: ts}
	err := w.put(pendingKey, store.BatchOp{Value: binary.BigEndian.AppendUint64(nil, ts)})
	for key, op := range b.All() {
		if err != nil {
			break
		}
		err = w.put(engineKey([]byte(key)), op)
	}
	if err == nil {
		err = w.flush()
	}
	if err != nil {
		return err
	}
	w.ts = ts + 1
	if err := errors.Join(w.put(pendingKey, store.BatchOp{}), w.flush()); err != nil {
		return err
	}
	if err := s.syncAll(); err != nil {
		return err
	}
	if err := os.Remove(s.redoPath()); err != nil {
		return err
	}
	return syncPath(s.opts.Dir)
}

// redoWriter collects operations into transactions as large as Badger takes.
type redoWriter struct {
	s       *Store
	ts      uint64
	txn     *badger.Txn
	entries int
	bytes   int
}

func (w *redoWriter) put(key []byte, op store.BatchOp) error {
	size := len(key) + len(op.Value) + entryOverhead
	if w.entries+2 >= w.s.opts.maxTxnEntries() || w.bytes+size+2*entryOverhead >= w.s.opts.maxTxnBytes() {
		if err := w.flush(); err != nil {
			return err
		}
	}
	if w.txn == nil {
		w.txn = w.s.db.NewTransactionAt(w.ts, true)
	}
	w.entries++
	w.bytes += size
	return put(w.txn, key, op)
}

func (w *redoWriter) flush() error {
	if w.txn == nil {
		return nil
	}
	err := w.s.commitTxn(w.txn, w.ts)
	w.txn, w.entries, w.bytes = nil, 0, 0
	return err
}

// redoBatch is what a redo file holds.
type redoBatch struct {
	ts    uint64
	batch *store.Batch
}

// redo finishes a large commit that a crash interrupted. r is nil if there is no redo file.
func (s *Store) redo(r *redoBatch) error {
	dir, last := s.opts.Dir, s.lastTs.Load()
	pending, err := s.pending()
	switch {
	case err != nil:
		return err
	case r == nil && pending == 0:
		return nil
	case r == nil:
		return damagedInside(dir, "the file %s with the rest of commit %d is missing", redoName, pending)
	case pending == 0 && r.ts < last: // applied: the crash came between the last transaction and the removal
		if err := os.Remove(s.redoPath()); err != nil {
			return fmt.Errorf("open %s: %w", dir, err)
		}
		return nil
	case pending == 0 && r.ts == last+1, pending == r.ts && r.ts == last:
	default:
		return damagedInside(dir, "the file %s is of commit %d, but the last commit is %d", redoName, r.ts, last)
	}
	s.log.Info("finishing a large commit that was interrupted", "commit", r.ts, "entries", r.batch.Len())
	if err := s.applyRedo(r.ts, r.batch); err != nil {
		return fmt.Errorf("open %s: finish commit %d: %w", dir, r.ts, err)
	}
	s.published(r.ts + 1)
	return nil
}

// pending returns the time of a large commit of which only a part is in the tables and logs; 0 if there is none.
func (s *Store) pending() (uint64, error) {
	txn := s.db.NewTransactionAt(s.lastTs.Load(), false)
	defer txn.Discard()
	item, err := txn.Get(pendingKey)
	if errors.Is(err, badger.ErrKeyNotFound) {
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("open %s: %w", s.opts.Dir, err)
	}
	if item.ValueSize() == 0 {
		return 0, nil
	}
	return item.Version(), nil
}

func packRedo(ts uint64, b *store.Batch) []byte {
	dst := make([]byte, 0, redoHeader+b.Bytes()+b.Len()*redoOpHead+4)
	dst = append(dst, redoMagic...)
	dst = binary.BigEndian.AppendUint64(dst, ts)
	dst = binary.BigEndian.AppendUint64(dst, uint64(b.Len()))
	for key, op := range b.All() {
		kind := byte(redoPut)
		if op.Delete {
			kind = redoDelete
		}
		dst = append(dst, kind)
		dst = binary.BigEndian.AppendUint32(dst, uint32(len(key)))
		dst = binary.BigEndian.AppendUint32(dst, uint32(len(op.Value)))
		dst = append(append(dst, key...), op.Value...)
	}
	return binary.BigEndian.AppendUint32(dst, crc32.Checksum(dst, castagnoli))
}

// readRedo returns nil if there is no redo file.
func readRedo(path string) (*redoBatch, error) {
	fi, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	if fi.Size() > maxRedoBytes {
		return nil, fmt.Errorf("the file %s has %d bytes, at most %d are possible", redoName, fi.Size(), maxRedoBytes)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	ts, b, err := parseRedo(text)
	return &redoBatch{ts, b}, err
}

// parseRedo checks the sum first, so what follows can only be wrong if the writer was; it is bounded anyway.
func parseRedo(text []byte) (uint64, *store.Batch, error) {
	bad := func(why string) (uint64, *store.Batch, error) {
		return 0, nil, fmt.Errorf("the file %s %s", redoName, why)
	}
	if len(text) < redoHeader+4 || string(text[:len(redoMagic)]) != redoMagic {
		return bad("is not one of ours")
	}
	body := text[:len(text)-4]
	if crc32.Checksum(body, castagnoli) != binary.BigEndian.Uint32(text[len(body):]) {
		return bad("has a wrong checksum")
	}
	ts := binary.BigEndian.Uint64(body[len(redoMagic):])
	count := binary.BigEndian.Uint64(body[len(redoMagic)+8:])
	b := new(store.Batch)
	rest := body[redoHeader:]
	for ; count > 0; count-- {
		if len(rest) < redoOpHead {
			return bad("ends early")
		}
		kind, klen, vlen := rest[0], uint64(binary.BigEndian.Uint32(rest[1:])), uint64(binary.BigEndian.Uint32(rest[5:]))
		rest = rest[redoOpHead:]
		if klen+vlen > uint64(len(rest)) {
			return bad("ends early")
		}
		key, value := rest[:klen], rest[klen:klen+vlen]
		rest = rest[klen+vlen:]
		switch kind {
		case redoPut:
			b.Put(key, value)
		case redoDelete:
			b.Delete(key)
		default:
			return bad("has an unknown operation")
		}
	}
	if len(rest) > 0 {
		return bad("has bytes left over")
	}
	return ts, b, nil
}
