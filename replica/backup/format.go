package backup

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"strings"
	"time"

	"github.com/anabranch-db/anabranch/replica/store"
)

// Errors that a Reader returns; test for them with errors.Is. The error returned says where in the file.
var (
	ErrDamaged = errors.New("backup is damaged")
	ErrNewer   = errors.New("backup is of a newer format than this program knows")
	ErrNoFile  = errors.New("not a backup of anabranch")
)

const (
	magic   = "anabranch backup"
	version = 1
)

// The kinds of blocks.
const (
	blockHeader     = 'H' // JSON; the first block, and the only one
	blockFile       = 'F' // how long the name is, the name itself, content; before the entries
	blockEntries    = 'E' // entries: a key and a value, each behind its length; keys ascend through the whole file
	blockCompressed = 'Z' // the same, as one zstd frame
	blockTrailer    = 'T' // number of entries (8), their bytes (8), SHA-256 of all before this block; the last block
)

// A block is its kind, the length of its payload (4, little endian), the CRC-32C of kind, length and payload, and the payload.
const blockHead = 1 + 4 + 4

// Limits. Each length is checked against them before memory is taken.
const (
	blockBytes     = 1 << 20 // of entries, from where on a block is full
	maxBlockBytes  = 4 << 20
	maxEntryBytes  = 2*binary.MaxVarintLen32 + store.MaxKeyBytes + store.MaxValueBytes
	maxRawBytes    = blockBytes + maxEntryBytes
	maxWindowBytes = 8 << 20 // of a zstd frame
	maxFileName    = 255
	maxFileBytes   = 1 << 20
	maxFiles       = 8 << 10
	maxAllFiles    = 16 << 20 // bytes of all of them
	trailerBytes   = 8 + 8 + 32
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func blockSum(head, payload []byte) uint32 {
	return crc32.Update(crc32.Checksum(head[:5], castagnoli), castagnoli, payload)
}

// Header tells what a backup is of.
type Header struct {
	Store   string    `json:"store,omitempty"` // its ID
	Created time.Time `json:"created"`
	Program string    `json:"program,omitempty"` // version of the program that wrote it
	Spaces  []Space   `json:"spaces"`
}

// Space is what a backup says of one space, to compare when it is restored.
type Space struct {
	Name      string `json:"name"`
	Number    uint32 `json:"number"`
	Documents int64  `json:"documents"` // that exist for a reader
	Digest    string `json:"digest"`
}

// Summary tells what was written or read.
type Summary struct {
	Entries int64  `json:"entries"`
	Bytes   int64  `json:"bytes"`  // of keys and values
	Size    int64  `json:"size"`   // of the file
	SHA256  string `json:"sha256"` // of all but the last block, as that has it
}

// CheckFileName reports whether a backup can hold a file of that name: one in the store's directory, or in a directory in that, and nothing
// else. Parts are separated by a slash.
func CheckFileName(name string) error {
	dir, file, found := strings.Cut(name, "/")
	if len(name) > maxFileName || !isPlainName(dir) || found && !isPlainName(file) {
		return fmt.Errorf("%w: file name %.60q", ErrDamaged, name)
	}
	return nil
}

func isPlainName(name string) bool {
	for i := range len(name) {
		c := name[i]
		if (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && c != '.' && c != '-' && c != '_' {
			return false
		}
	}
	return name != "" && name[0] != '.'
}
