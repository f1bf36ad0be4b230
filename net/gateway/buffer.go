package gateway

import "sync"

// buffer is memory for one message. Messages are of many sizes, and those of all connections share the buffers.
type buffer struct{ text []byte }

var buffers = sync.Pool{New: func() any { return new(buffer) }}

// maxKeptBuffer: a larger one is not kept.
const maxKeptBuffer = 2 * maxBatchBytes

func takeBuffer() *buffer { return buffers.Get().(*buffer) }

func (b *buffer) free() {
	if cap(b.text) <= maxKeptBuffer {
		b.text = b.text[:0]
		buffers.Put(b)
	}
}
