// Package crdt is the data model: documents whose copies may be edited apart and then joined, in any order and any number
// of times, and are equal when they have seen the same transactions.
//
// A Document maps paths to Cells. A Cell has live entries, each written by one transaction and named by its Dot, and the
// dots that it has observed and that are not live: dead ones, and removals. Joining compares the two: an entry that only one
// side has is new to the other if that has not observed its dot, and dead if it has.
//
// # Example
//
// A's dots are A1, A2, ..., B's are B1, B2, .... A sets /lang to "de", B receives that, then both work apart:
//
//	A1  A sets /lang "de"       A: live {A1 "de"}                      B: (nothing)
//	    B receives A's cell     A: live {A1 "de"}                      B: live {A1 "de"}
//	B2  B removes /lang         A: live {A1 "de"}                      B: live {}            observed {A1 B2}
//	A3  A sets /lang "en"       A: live {A3 "en"}                      B: live {}            observed {A1 B2}
//	    they meet               both: live {A3 "en"}  observed {B2}
//
// A3 is live: B has not observed it, so B's removal cannot have meant it. A1 is dead, B had seen and removed it. In A's cell A1
// needs no mention, because an entry of A itself that is newer than A1 says it; for the same reason the joined cell names A1 no
// more. B2 stays in observed until everybody has it, so that a peer can tell that it lacks the removal, and then the cell is
// pruned to live {A3 "en"}. The field reads "en" everywhere, whoever met whom first.
//
// Had A written "en" without ever having sent A1, and B set "fr" at B2 meanwhile, both entries would be live: siblings. Reading shows the
// one with the greatest (stamp, author), and Conflicts lists the other until somebody who sees both writes or removes the field.
//
// # Parts
//
//   - dot.go, vector.go, value.go, path.go: what cells are made of
//   - cell.go: the lattice: Write, Remove, Increment, Merge, Prune
//   - sight.go, lane.go: transactions of authors who have not seen everything
//   - document.go, replace.go: operations on documents, and what they changed
//   - read.go, conflict.go: what shows of siblings, and what does not
//   - json.go, govalue.go, decode.go: from and to JSON and Go data, exact or refused
//   - orderkey.go: keys for lists
//   - delta.go, digest.go: what travels, and what is compared
//
// # The caller's duties
//
//  1. Each transaction has a dot of its own, with a time greater than every time that its replica has seen (package hlc), and is made
//     on a Document that was made for it: Changes, and writing and removing a field in one transaction, count from there.
//  2. A vector given as stable covers only what its replica has seen whole, and only peers that have seen that much are
//     given cells pruned by it.
//  3. Reading and Replace take complete documents; Set, Remove and Increment the cells at, above and below their path.
//
// The package is pure: no clock, goroutine or I/O. It does not know of document keys beyond their limits, of spaces, storage
// or peers; package replica does. The packed form of cells is in package codec, the check of all this against the
// definition in package crdttest.
//
// The model follows delta state CRDTs (Almeida, Shoker, Baquero, arXiv:1603.01529) and OR-sets without tombstones (Bieniusa
// et al., arXiv:1210.3368), with siblings as in dotted version vectors (Preguiça et al., arXiv:1011.5808) and pruning by causal
// stability (arXiv:1710.04469). It differs in keeping an exact context for each cell, not one for the whole state.
package crdt
