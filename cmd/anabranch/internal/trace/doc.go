// Package trace reads edit histories of documents: who changed what, having seen what. `anabranch replay` runs them.
//
// A trace has one JSON object a line, parents before children:
//
//	{"commit":"a1","parents":[],"replica":"r01.1","time":1000,"state":"5d3c…","ops":[
//	    {"op":"put","key":"tea","path":["price"],"value":3}]}
//	{"commit":"b1","parents":["a1"],"replica":"r02.1","time":2000,"state":"77a0…","ops":[
//	    {"op":"put","key":"tea","path":["price"],"value":4}]}
//	{"commit":"a2","parents":["a1"],"replica":"r01.1","time":2500,"state":"e41b…","ops":[
//	    {"op":"delete","key":"tea"}]}
//	{"commit":"a3","parents":["a2","b1"],"replica":"r01.1","time":3000,"state":"77a0…","ops":[]}
//
// To run a line, its replica is brought to the merged state of the parents, as these were at their commits, and then
// makes the ops as one transaction. Here b1 had not seen a2 and a2 had not seen b1, so at a3 the price that b1 wrote
// survives the deletion. The ops are:
//
//	put     sets one field; value is a scalar, an array, or {}
//	del     removes the fields at path and below it
//	delete  removes the document
//
// State is the hash of all documents after the line (see Hash). Where it is not what a replica shows, Expect says what it
// should be: it works the state of a line out from the definition, with no merging at all.
//
// A trace may be compressed with gzip. What is not understood is refused, with file, line and member, rather than left out:
// a replay that skipped something would prove nothing.
package trace
