// Package wire turns the messages of a session into bytes and back. It is the only door through which bytes of another
// node become values, so it believes none of them.
//
// A frame is a length, a type and a body:
//
//	00 00 00 14   20 bytes follow
//	12            Ack
//	91 c4 10 ...  body: a msgpack array, here of one element, a packed version vector of 16 bytes
//
// The length is big endian, counts type and body, and is checked before anything is read for it. A body is one
// msgpack array. A newer minor version may append elements, which an older reader skips, and may send frame
// types that an older reader does not know, which it skips too. Nothing else may change within a major version; the
// files in testdata/wire/v1 hold the bytes still.
//
// Parsing a body takes two passes. A scan over the raw bytes, without recursion or allocation, checks that all lengths
// fit into what is left, that nesting and number of elements are bounded and that nothing trails.
// Then the fields are decoded by explicit calls, each checked for its kind and limits. Every error is a
// *FrameError that names frame and field.
//
// A large frame is sent inside another one, compressed, where that pays (packed_frame.go).
//
// What it does not do: packed cells pass through unopened (crdt/codec checks them where they are merged), times are not
// compared with any clock, and nobody is asked whether a peer may say what it says.
package wire
