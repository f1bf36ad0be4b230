// Package codec is the packed form of a document's cells and of version vectors. The store's records and the
// deltas between peers carry the same bytes, so a document is packed once and then stored, sent and relayed as it is.
//
// The form is canonical: a state has one packed form and ParseCells takes no other. So equal states have equal
// bytes, and bytes received may be stored without being packed again.
//
// # Cells
//
// A blob of no cells is empty. Any other is a header and the cells, in the order of their paths:
//
//	byte      version 1 in the high four bits; flags: 1 uniform, 2 single, 4 reissued
//	table     the replicas that the blob names, ascending, 8 bytes each (big endian); their number before them
//	          unless single, which says that it is one
//	base      the event that most cells are expected to have: index of its replica in the table unless single,
//	          its time (8 bytes, big endian) and, if reissued, index of its author and stamp
//	number    of cells
//
// The base is the event of the first cell that is plain, which means: one live entry, nothing observed. If no cell is
// plain it is that of the first live entry of the first cell, or else its first observed dot. Uniform says that all
// cells are plain and of that event, as they are in a document that one transaction wrote. Each cell is
//
//	byte      kind of the value in the low four bits; 0x30: how the event is given; 0x40 shared, 0x80 deep
//	shared    if shared: how many bytes of the path before are repeated (whole elements, at most 127 bytes)
//	elements  if deep: how many elements follow; otherwise it is one
//	path      the rest of the packed path
//	event     (0x00) none, that of the last plain cell; (0x10) given here; or (0x20) the cell is not plain
//	payload   of the value, see crdt.Value.AppendPayload
//
// and one that is not plain has, in place of event and payload, the number of its live entries, each with event,
// kind and payload, then the number of observed dots and those. Numbers are shortest varints, times are zigzag
// differences to the time of the base, stamps to the time of their dot.
//
// A document {"n": 7, "name": "Oslo"} that replica 5 wrote at time t is 33 bytes, 18 of them the header:
//
//	13  00 00 00 00 00 00 00 05  tttttttttttttttt  02
//	03  'n' 00  0e
//	05  'n' 'a' 'm' 'e' 00  04 'O' 's' 'l' 'o'
//
// The package knows nothing of documents' keys, checksums or compression: those belong to the store's records
// (package docstore) and to the wire's frames.
package codec
