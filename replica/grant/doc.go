// Package grant says who may do what in a space that has a key of its own. It is pure: statements, keys and times go in,
// rights come out; who keeps, sends and obeys them is package replica.
//
// A space is named by the public half of an Ed25519 key. That key, and whoever it makes an admin, sign *statements*: grants and
// revocations. They are never changed and never taken back, so a Set of them merges by union, in any order, through anybody:
//
//	space key   grants admin to  oslo     epoch 1
//	oslo        grants write to  lima     epoch 1    by a ticket
//	oslo        grants admin to  quito    epoch 1
//	quito       revokes          lima     epoch 1    lima's grants up to epoch 1 are void, also those nobody knows of yet
//	oslo        grants read to   lima     epoch 2    having seen the revocation: it counts
//
// # Which statements count
//
//  1. A statement must be signed by the space key, or by a node that was ever granted admin, by a chain of such grants that begins with
//     the space key. Others are not taken into a Set.
//  2. A revocation counts for good, whatever became of its issuer. It voids the grants of its subject whose epoch is not greater than
//     its own; but what the space key granted only the space key revokes.
//  3. A grant counts while it is not void, not expired, and its issuer is an admin: a grant is worth no more than who gave it. So a
//     revoked admin cannot let anybody in by a grant with an old date; who revokes an admin signs anew the grants that are to stay.
//
// Epochs, not clocks, say what an author had seen: a grant has the epoch after the last revocation of its subject that its issuer knows, and a
// revocation the greatest epoch of its subject that is known. So a revocation beats the grants that were made without knowing of it. Clocks
// decide about expiry alone, and a statement of the future is not taken before its time; both with a tolerance.
//
// The rights of a node are the greatest of its grants that count. Cost: Set.At is linear in the statements, times the length of the longest chain,
// and is done anew only when the set or the time calls for it.
//
// # Tickets
//
// A Ticket carries a key of its own that is good for little but a proof (Ticket.Prove): the signature of that key over who joins what through whom. Who gave the
// ticket keeps the public half, so what it keeps opens nothing, and a proof that was seen is of no use to another node.
//
// # What it does not do
//
// Statements say who may write, not who wrote: documents are not signed, and members with write rights are trusted to speak for each
// other. What a node has received stays with it after its rights have ended.
package grant
