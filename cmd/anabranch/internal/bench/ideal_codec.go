package bench

import (
	"encoding/binary"
	"errors"
	"io"
)

// packFields is the ideal's form of a document: for each field its name, a byte for its type, and its value.
func packFields(fields []field) []byte {
	b := make([]byte, 0, 128)
	for _, f := range fields {
		b = appendField(b, f)
	}
	return b
}

func appendField(b []byte, f field) []byte {
	b = appendText(b, f.Name)
	if f.IsText {
		return appendText(append(b, 1), f.Text)
	}
	return binary.AppendVarint(append(b, 0), f.Number)
}

func appendText(b []byte, s string) []byte {
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}

func unpackFields(b []byte) ([]field, error) {
	p := parser{b: b}
	var fields []field
	for len(p.b) > 0 && !p.bad {
		f := field{Name: string(p.text())}
		if f.IsText = p.byte() == 1; f.IsText {
			f.Text = string(p.text())
		} else {
			f.Number = p.varint()
		}
		fields = append(fields, f)
	}
	return fields, p.err()
}

// setPacked replaces or adds one field of a packed document.
func setPacked(old []byte, f field) []byte {
	fields, err := unpackFields(old)
	if err != nil {
		return appendField(nil, f)
	}
	for i := range fields {
		if fields[i].Name == f.Name {
			fields[i] = f
			return packFields(fields)
		}
	}
	return packFields(append(fields, f))
}

// frame is what the ideal sends: documents that one origin wrote after from, up to to, or just an acknowledgement.
type frame struct {
	from, to uint64
	bytes    []byte
}

const (
	frameDocs  = 1
	frameAck   = 2
	frameHello = 3
)

func encodeFrame(origin, from, to uint64, docs []change) *frame {
	b := make([]byte, 4, 64+160*len(docs))
	b = append(b, frameDocs)
	b = binary.BigEndian.AppendUint64(b, origin)
	b = binary.AppendUvarint(b, from)
	b = binary.AppendUvarint(b, to)
	b = binary.AppendUvarint(b, uint64(len(docs)))
	for _, d := range docs {
		b = appendText(b, d.key)
		b = binary.AppendUvarint(b, to-d.time)
		b = binary.AppendUvarint(b, uint64(len(d.value)))
		b = append(b, d.value...)
	}
	binary.BigEndian.PutUint32(b, uint32(len(b)-4))
	return &frame{from, to, b}
}

// encodeTime is an acknowledgement, or the hello that opens a session: what the sender holds of the receiver's writes.
func encodeTime(kind byte, time uint64) []byte {
	return binary.BigEndian.AppendUint64([]byte{0, 0, 0, 9, kind}, time)
}

const maxIdealFrame = 8 << 20

// readFrame reads one frame whole: a kind and a body. The body is the caller's to keep.
func readFrame(r io.Reader) (kind byte, body []byte, err error) {
	var head [4]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return 0, nil, err
	}
	n := binary.BigEndian.Uint32(head[:])
	if n == 0 || n > maxIdealFrame {
		return 0, nil, errFrame
	}
	b := make([]byte, n)
	if _, err := io.ReadFull(r, b); err != nil {
		return 0, nil, err
	}
	return b[0], b[1:], nil
}

// parseFrame returns the documents of a frame as one change.
func parseFrame(body []byte) (change, error) {
	p := parser{b: body}
	all := change{origin: p.uint64()}
	p.uvarint() // from: QUIC keeps the order, so it is what came before
	all.time = p.uvarint()
	n := p.uvarint()
	if n > uint64(len(p.b)) {
		return all, errFrame
	}
	all.frame = make([]change, 0, n)
	for ; n > 0 && !p.bad; n-- {
		c := change{key: string(p.text()), origin: all.origin}
		c.time = all.time - p.uvarint()
		if c.value = p.text(); len(c.value) == 0 {
			c.value = nil
		}
		all.frame = append(all.frame, c)
	}
	return all, p.err()
}

var errFrame = errors.New("malformed frame")

// parser reads packed values; once something is wrong everything it returns is zero.
type parser struct {
	b   []byte
	bad bool
}

func (p *parser) err() error {
	if p.bad {
		return errFrame
	}
	return nil
}

func (p *parser) take(n uint64) []byte {
	if p.bad || n > uint64(len(p.b)) {
		p.bad = true
		return nil
	}
	b := p.b[:n]
	p.b = p.b[n:]
	return b
}

func (p *parser) byte() byte {
	if b := p.take(1); b != nil {
		return b[0]
	}
	return 0
}

func (p *parser) uint64() uint64 {
	if b := p.take(8); b != nil {
		return binary.BigEndian.Uint64(b)
	}
	return 0
}

func (p *parser) uvarint() uint64 {
	n, size := binary.Uvarint(p.b)
	if p.bad || size <= 0 {
		p.bad = true
		return 0
	}
	p.b = p.b[size:]
	return n
}

func (p *parser) varint() int64 {
	n, size := binary.Varint(p.b)
	if p.bad || size <= 0 {
		p.bad = true
		return 0
	}
	p.b = p.b[size:]
	return n
}

func (p *parser) text() []byte { return p.take(p.uvarint()) }
