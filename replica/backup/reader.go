package backup

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"

	"github.com/klauspost/compress/zstd"

	"github.com/anabranch-db/anabranch/replica/store"
)

// Reader reads a backup and checks it.
type Reader struct {
	r       io.Reader
	hash    hash.Hash
	decoder *zstd.Decoder // nil until it is needed
	header  Header
	payload []byte
	raw     []byte
	last    []byte // key
	sum     Summary
	blocks  int64
	files   int
	bytes   int // of files
}

// Visitor takes what a backup holds. Slices are valid during the call only. An error ends the reading.
type Visitor struct {
	File  func(name string, content []byte) error // nil: files are checked and left out
	Entry func(key, value []byte) error           // nil: entries are only checked
}

// NewReader reads the beginning of a backup.
func NewReader(r io.Reader) (*Reader, error) {
	b := &Reader{r: r, hash: sha256.New()}
	var begin [len(magic) + 1]byte
	if err := b.read(begin[:]); err != nil {
		if errors.Is(err, ErrDamaged) {
			err = fmt.Errorf("%w: it is shorter than the beginning of one", ErrNoFile)
		}
		return nil, err
	}
	switch {
	case string(begin[:len(magic)]) != magic:
		return nil, fmt.Errorf("%w: it begins with %q", ErrNoFile, begin[:len(magic)])
	case begin[len(magic)] > version:
		return nil, fmt.Errorf("%w: it is of format %d, this program knows %d: upgrade anabranch", ErrNewer, begin[len(magic)], version)
	case begin[len(magic)] == 0:
		return nil, b.damaged("format 0")
	}
	kind, payload, err := b.block()
	if err != nil {
		return nil, err
	}
	if kind != blockHeader {
		return nil, b.damaged("it begins with a block of kind %q", kind)
	}
	if err := json.Unmarshal(payload, &b.header); err != nil {
		return nil, b.damaged("header: %v", err)
	}
	return b, nil
}

// Header returns what the backup says of itself.
func (b *Reader) Header() Header { return b.header }

// Sum returns what was read so far.
func (b *Reader) Sum() Summary { return b.sum }

// damaged says what is wrong, and where.
func (b *Reader) damaged(format string, args ...any) error {
	return fmt.Errorf("%w: block %d, which ends at byte %d: %s", ErrDamaged, b.blocks, b.sum.Size, fmt.Sprintf(format, args...))
}

func (b *Reader) read(p []byte) error {
	n, err := io.ReadFull(b.r, p)
	b.hash.Write(p[:n])
	b.sum.Size += int64(n)
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return fmt.Errorf("%w: it ends after %d bytes, within block %d: the rest is missing", ErrDamaged, b.sum.Size, b.blocks+1)
	}
	if err != nil {
		return fmt.Errorf("read the backup: %w", err)
	}
	return nil
}

// block reads the next block. The payload is valid until the next call.
func (b *Reader) block() (kind byte, payload []byte, err error) {
	var head [blockHead]byte
	if err := b.read(head[:]); err != nil {
		return 0, nil, err
	}
	size := binary.LittleEndian.Uint32(head[1:])
	if size > maxBlockBytes {
		b.blocks++
		return 0, nil, b.damaged("it says that it has %d bytes, and at most %d are allowed", size, maxBlockBytes)
	}
	if cap(b.payload) < int(size) {
		b.payload = make([]byte, size)
	}
	payload = b.payload[:size]
	if err := b.read(payload); err != nil {
		return 0, nil, err
	}
	b.blocks++
	if blockSum(head[:], payload) != binary.LittleEndian.Uint32(head[5:]) {
		return 0, nil, b.damaged("its checksum does not match")
	}
	return head[0], payload, nil
}

// Read reads the rest and hands it to v. Only when it returns without an error is all that v was given known to be whole.
func (b *Reader) Read(v Visitor) (Summary, error) {
	for {
		before := b.hash.Sum(nil)
		kind, payload, err := b.block()
		if err != nil {
			return b.sum, err
		}
		switch kind {
		case blockFile:
			err = b.file(payload, v)
		case blockEntries:
			err = b.entries(payload, v)
		case blockCompressed:
			if err = b.unpack(payload); err == nil {
				err = b.entries(b.raw, v)
			}
		case blockTrailer:
			return b.sum, b.trailer(payload, before)
		default:
			err = b.damaged("its kind %q is not known", kind)
		}
		if err != nil {
			return b.sum, err
		}
	}
}

// unpack decompresses a payload into raw.
func (b *Reader) unpack(payload []byte) (err error) {
	if b.decoder == nil {
		b.decoder, err = zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true),
			zstd.WithDecoderMaxMemory(maxRawBytes), zstd.WithDecoderMaxWindow(maxWindowBytes))
		if err != nil {
			return fmt.Errorf("read the backup: %w", err)
		}
	}
	if b.raw, err = b.decoder.DecodeAll(payload, b.raw[:0]); err != nil {
		return b.damaged("it does not decompress: %v", err)
	}
	return nil
}

func (b *Reader) file(payload []byte, v Visitor) error {
	size, n := binary.Uvarint(payload)
	if n <= 0 || size > maxFileName || uint64(len(payload)-n) < size || b.sum.Entries > 0 {
		return b.damaged("it holds no file, or holds one in the wrong place")
	}
	name, content := string(payload[n:n+int(size)]), payload[n+int(size):]
	b.files, b.bytes = b.files+1, b.bytes+len(content)
	if b.files > maxFiles || len(content) > maxFileBytes || b.bytes > maxAllFiles {
		return b.damaged("file %q of %d bytes, the %dth", name, len(content), b.files)
	}
	if err := CheckFileName(name); err != nil {
		return err
	}
	if v.File == nil {
		return nil
	}
	return v.File(name, content)
}

func (b *Reader) entries(raw []byte, v Visitor) error {
	if len(raw) == 0 || len(raw) > maxRawBytes {
		return b.damaged("it has %d bytes of entries", len(raw))
	}
	for len(raw) > 0 {
		var key, value []byte
		var ok bool
		if key, raw, ok = cut(raw, store.MaxKeyBytes); ok {
			value, raw, ok = cut(raw, store.MaxValueBytes)
		}
		switch {
		case !ok:
			return b.damaged("an entry is cut short or too long")
		case b.sum.Entries > 0 && bytes.Compare(key, b.last) <= 0:
			return b.damaged("key %.60q is not after the one before", key)
		}
		b.last = append(b.last[:0], key...)
		b.sum.Entries++
		b.sum.Bytes += int64(len(key) + len(value))
		if v.Entry != nil {
			if err := v.Entry(key, value); err != nil {
				return err
			}
		}
	}
	return nil
}

// cut takes a length and as many bytes from b.
func cut(b []byte, most uint64) (part, rest []byte, ok bool) {
	size, n := binary.Uvarint(b)
	if n <= 0 || size > most || size > uint64(len(b)-n) {
		return nil, b, false
	}
	return b[n : n+int(size)], b[n+int(size):], true
}

// trailer checks the whole, and that nothing follows.
func (b *Reader) trailer(payload, sum []byte) error {
	if len(payload) != trailerBytes {
		return b.damaged("the trailer has %d bytes", len(payload))
	}
	entries, size := binary.LittleEndian.Uint64(payload), binary.LittleEndian.Uint64(payload[8:])
	switch {
	case int64(entries) != b.sum.Entries || int64(size) != b.sum.Bytes:
		return b.damaged("the trailer counts %d entries of %d bytes, and there are %d of %d", entries, size, b.sum.Entries, b.sum.Bytes)
	case !bytes.Equal(payload[16:], sum):
		return b.damaged("the checksum of the whole does not match")
	}
	b.sum.SHA256 = hex.EncodeToString(sum)
	var more [1]byte
	switch n, err := io.ReadFull(b.r, more[:]); {
	case n > 0:
		return b.damaged("something follows the end")
	case !errors.Is(err, io.EOF):
		return fmt.Errorf("read the backup: %w", err)
	}
	return nil
}
