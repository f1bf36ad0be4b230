package badgerstore

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/dgraph-io/badger/v4"
	"github.com/dgraph-io/badger/v4/fb"
	"github.com/dgraph-io/badger/v4/options"
	"github.com/dgraph-io/badger/v4/pb"
	"github.com/dgraph-io/badger/v4/table"
	"github.com/klauspost/compress/snappy"
	"google.golang.org/protobuf/proto"
)

// Badger opens tables in goroutines of its own, and a table that is cut short, or whose last block is bad, makes it
// panic there, which nothing can catch. While it reads and compacts, a bad block ends an iteration early and
// without a word, and a compaction would then lose the rest for good. So we read the tables ourselves first:
//
//	table:  blocks, index, index length (4), checksum of the index, checksum length (4)
//	block:  (compressed:) entries, their offsets and count, checksum, checksum length (4)

const tableSuffix = ".sst"

// tableCompression is that of the tables that are written from now on. The manifest has that of each.
const tableCompression = options.Snappy

// tableInfo is what a table's index says.
type tableInfo struct {
	maxVersion uint64
	keys       int
	bytes      int64
}

// maxBlockBytes bounds what one block may decompress to: an entry of the largest key and value, and a block's
// worth of others.
const maxBlockBytes = 4 << 20

// A store has about maxTables tables at most: each is an open file, and a mapping of which the system allows some 65,000. Tables are small
// for as long as that holds, because what Badger holds in memory to write them is several times their size.
const (
	minTableBytes = 2 << 20
	maxTableBytes = 64 << 20
	maxTables     = 1024
)

// tableSize returns how large the tables become that are written to a store of so many bytes until it is closed.
func tableSize(stored int64) int64 {
	size := int64(minTableBytes)
	for size < maxTableBytes && stored/size > maxTables {
		size *= 2
	}
	return size
}

// checkTable reads a table's index and its last block or, if all is set, every block. It returns an error for
// anything that is not as it was written, and bounds each length before it allocates.
func checkTable(path string, compression options.CompressionType, all bool) (info tableInfo, err error) {
	f, err := os.Open(path)
	if err != nil {
		return info, err
	}
	defer f.Close()
	fi, err := f.Stat()
	if err != nil {
		return info, err
	}
	info.bytes = fi.Size()
	// The index is read by offsets within it. Its checksum is compared first, so a panic here means that it was
	// written wrong; still this is not the place to die.
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("its index makes no sense: %v", p)
		}
	}()
	index, blocksEnd, err := readIndex(f, fi.Size())
	if err != nil {
		return info, err
	}
	info.maxVersion, info.keys = index.MaxVersion(), int(index.KeyCount())
	n := index.OffsetsLength()
	if n == 0 {
		return info, errors.New("it has no blocks")
	}
	return info, checkBlocks(f, index, n, blocksEnd, compression, all)
}

// readIndex returns the index and where the blocks end.
func readIndex(f *os.File, size int64) (*fb.TableIndex, int64, error) {
	sumText, at, err := readBack(f, size, 128)
	if err != nil {
		return nil, 0, fmt.Errorf("its end: %w", err)
	}
	text, at, err := readBack(f, at, size)
	if err != nil {
		return nil, 0, fmt.Errorf("its index: %w", err)
	}
	if err := checkSum(text, sumText); err != nil {
		return nil, 0, fmt.Errorf("its index: %w", err)
	}
	if len(text) < 8 {
		return nil, 0, errors.New("its index is too short")
	}
	return fb.GetRootAsTableIndex(text, 0), at, nil
}

// readBack reads a piece that ends, with its length in four bytes, at end. It returns where the piece begins.
func readBack(f io.ReaderAt, end, limit int64) ([]byte, int64, error) {
	var length [4]byte
	if end < int64(len(length)) {
		return nil, 0, errors.New("it is cut short")
	}
	end -= int64(len(length))
	if _, err := f.ReadAt(length[:], end); err != nil {
		return nil, 0, err
	}
	n := int64(binary.BigEndian.Uint32(length[:]))
	if n > end || n > limit {
		return nil, 0, fmt.Errorf("a length of %d where %d is the most", n, min(end, limit))
	}
	piece := make([]byte, n)
	_, err := f.ReadAt(piece, end-n)
	return piece, end - n, err
}

// checkSum compares data with a checksum as Badger writes it.
func checkSum(data, sumText []byte) error {
	var sum pb.Checksum
	if err := proto.Unmarshal(sumText, &sum); err != nil {
		return fmt.Errorf("its checksum cannot be read: %w", err)
	}
	if sum.Algo != pb.Checksum_CRC32C {
		return fmt.Errorf("unknown checksum algorithm %d", sum.Algo)
	}
	if uint64(crc32.Checksum(data, castagnoli)) != sum.Sum {
		return errors.New("wrong checksum")
	}
	return nil
}

func checkBlocks(f io.ReaderAt, index *fb.TableIndex, n int, end int64, compression options.CompressionType, all bool) error {
	var block fb.BlockOffset
	var next int64
	var buf, plain []byte
	for i := range n {
		if !index.Offsets(&block, i) || int64(block.Offset()) != next {
			return fmt.Errorf("block %d is not where the one before it ends", i)
		}
		length := int64(block.Len())
		if next += length; next > end {
			return fmt.Errorf("block %d reaches beyond the index", i)
		}
		if !all && i < n-1 {
			continue
		}
		if int64(cap(buf)) < length {
			buf = make([]byte, length)
		}
		buf = buf[:length]
		if _, err := f.ReadAt(buf, next-length); err != nil {
			return fmt.Errorf("block %d: %w", i, err)
		}
		var err error
		if plain, err = checkBlock(buf, plain, compression); err != nil {
			return fmt.Errorf("block %d at %d: %w", i, next-length, err)
		}
	}
	if next != end {
		return fmt.Errorf("%d bytes between the last block and the index", end-next)
	}
	return nil
}

// checkBlock returns the buffer for the next call.
func checkBlock(data, plain []byte, compression options.CompressionType) ([]byte, error) {
	block := data
	switch compression {
	case options.None:
	case options.Snappy:
		n, err := snappy.DecodedLen(data)
		if err != nil {
			return plain, err
		}
		if n > maxBlockBytes {
			return plain, fmt.Errorf("it says that it holds %d bytes, at most %d are possible", n, maxBlockBytes)
		}
		if plain, err = snappy.Decode(plain[:cap(plain)], data); err != nil {
			return plain, err
		}
		block = plain
	default:
		return plain, fmt.Errorf("unknown compression %d", compression)
	}
	if len(block) < 8 {
		return plain, errors.New("it is too short")
	}
	n := int(binary.BigEndian.Uint32(block[len(block)-4:]))
	body := len(block) - 4 - n
	if n > 128 || body < 4 {
		return plain, errors.New("its checksum is not where it should be")
	}
	return plain, checkSum(block[:body], block[body:body+n])
}

// manifest returns the tables that must be there. Records at its end that were not written whole are left out, as
// Badger does: that is a crash at the wrong moment, or damage; see examineTables.
func readManifest(data string) (map[uint64]badger.TableManifest, error) {
	f, err := os.Open(filepath.Join(data, badger.ManifestFilename))
	if err != nil {
		return nil, err
	}
	defer f.Close()
	m, _, err := badger.ReplayManifestFile(f, 0, badger.DefaultOptions("").WithLogger(nil))
	return m.Tables, err
}

// tableFiles returns the IDs of the table files in the directory.
func tableFiles(data string) ([]uint64, error) {
	entries, err := os.ReadDir(data)
	if err != nil {
		return nil, err
	}
	var ids []uint64
	for _, e := range entries {
		if !strings.HasSuffix(e.Name(), tableSuffix) {
			continue
		}
		id, ok := table.ParseFileID(e.Name())
		if !ok {
			return nil, fmt.Errorf("the file %s is none of ours", e.Name())
		}
		ids = append(ids, id)
	}
	return ids, nil
}
