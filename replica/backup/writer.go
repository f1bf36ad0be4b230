package backup

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"hash"
	"io"

	"github.com/klauspost/compress/zstd"

	"github.com/anabranch-db/anabranch/replica/store"
)

// Writer writes a backup: NewWriter, files, entries, Close. After an error it is of no use.
type Writer struct {
	w       io.Writer
	hash    hash.Hash
	encoder *zstd.Encoder
	raw     []byte // entries that wait
	packed  []byte
	last    []byte // key
	files   int
	bytes   int // of files
	sum     Summary
}

// NewWriter begins a backup on w, which ought to be buffered.
func NewWriter(w io.Writer, h Header) (*Writer, error) {
	encoder, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1), zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithWindowSize(blockBytes))
	if err != nil {
		return nil, fmt.Errorf("begin the backup: %w", err)
	}
	b := &Writer{w: w, hash: sha256.New(), encoder: encoder}
	header, err := json.Marshal(h)
	if err != nil {
		return nil, fmt.Errorf("begin the backup: %w", err)
	}
	if err := b.write(append([]byte(magic), version)); err != nil {
		return nil, err
	}
	return b, b.block(blockHeader, header)
}

func (b *Writer) write(p []byte) error {
	b.hash.Write(p)
	b.sum.Size += int64(len(p))
	if _, err := b.w.Write(p); err != nil {
		return fmt.Errorf("write the backup: %w", err)
	}
	return nil
}

func (b *Writer) block(kind byte, payload []byte) error {
	if len(payload) > maxBlockBytes {
		return fmt.Errorf("write the backup: a block of %d bytes, at most %d", len(payload), maxBlockBytes)
	}
	var head [blockHead]byte
	head[0] = kind
	binary.LittleEndian.PutUint32(head[1:], uint32(len(payload)))
	binary.LittleEndian.PutUint32(head[5:], blockSum(head[:], payload))
	if err := b.write(head[:]); err != nil {
		return err
	}
	return b.write(payload)
}

// AddFile adds a small file of the store's directory. It must be called before Add.
func (b *Writer) AddFile(name string, content []byte) error {
	if err := CheckFileName(name); err != nil {
		return err
	}
	b.files, b.bytes = b.files+1, b.bytes+len(content)
	if b.files > maxFiles || len(content) > maxFileBytes || b.bytes > maxAllFiles || b.sum.Entries > 0 {
		return fmt.Errorf("write the backup: file %s: at most %d files of %d bytes, %d together, before the entries", name, maxFiles, maxFileBytes, maxAllFiles)
	}
	payload := append(binary.AppendUvarint(nil, uint64(len(name))), name...)
	return b.block(blockFile, append(payload, content...))
}

// Add adds one entry. Keys must ascend.
func (b *Writer) Add(key, value []byte) error {
	if len(key) > store.MaxKeyBytes || len(value) > store.MaxValueBytes {
		return fmt.Errorf("write the backup: key %.60q has %d bytes, its value %d: no store takes that", key, len(key), len(value))
	}
	if b.sum.Entries > 0 && bytes.Compare(key, b.last) <= 0 {
		return fmt.Errorf("write the backup: key %q is not after %q", key, b.last)
	}
	b.last = append(b.last[:0], key...)
	b.raw = append(binary.AppendUvarint(b.raw, uint64(len(key))), key...)
	b.raw = append(binary.AppendUvarint(b.raw, uint64(len(value))), value...)
	b.sum.Entries++
	b.sum.Bytes += int64(len(key) + len(value))
	if len(b.raw) >= blockBytes {
		return b.flush()
	}
	return nil
}

func (b *Writer) flush() error {
	if len(b.raw) == 0 {
		return nil
	}
	b.packed = b.encoder.EncodeAll(b.raw, b.packed[:0])
	raw := b.raw
	b.raw = b.raw[:0]
	if len(b.packed) >= len(raw) {
		return b.block(blockEntries, raw)
	}
	return b.block(blockCompressed, b.packed)
}

// Close writes what is left and the trailer. Without it the backup is incomplete, and no Reader takes it.
func (b *Writer) Close() (Summary, error) {
	if err := b.flush(); err != nil {
		return b.sum, err
	}
	sum := b.hash.Sum(nil)
	b.sum.SHA256 = hex.EncodeToString(sum)
	trailer := binary.LittleEndian.AppendUint64(nil, uint64(b.sum.Entries))
	trailer = binary.LittleEndian.AppendUint64(trailer, uint64(b.sum.Bytes))
	return b.sum, b.block(blockTrailer, append(trailer, sum...))
}
