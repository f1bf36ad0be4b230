// Package records reads and writes files of documents: what `anabranch import` takes and `anabranch export`
// gives. There are three formats:
//
//	lines    {"key":"apple","doc":{"price":3}}        one record a line (JSON Lines)
//	         {"key":"pear","doc":{"price":4}}
//	array    [{"key":"apple","doc":{"price":3}},
//	          {"key":"pear","doc":{"price":4}}]
//	object   {"apple":{"price":3},
//	          "pear":{"price":4}}
//
// In lines and arrays a record may also be a plain document that holds its key in a field of its own; Extract
// tells the two apart.
//
// A Reader only finds where each record begins and ends. It never holds more than one, whatever the size of the
// file, and it does not judge what is inside: that is for crdt.ParseJSON, which knows the limits of documents and keeps
// numbers exact. So a record that is broken inside costs that record alone, and the Reader goes on behind it. Only
// where the frame around the records is broken (a missing comma, an array that is never closed) is there no way on;
// such an Error is Fatal.
//
// A Reader can say where it stands (Position) and another one can go on from there, on the same bytes.
package records
