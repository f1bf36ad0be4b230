// Package keyfile keeps Ed25519 private keys in files: the identity of a node, and the keys of spaces.
//
// A file has mode 0600 and is refused if others may read it. It is written whole under another name, synced, and then given its name. Without a
// passphrase it is a PEM block with a PKCS #8 key, as other programs write them:
//
//	-----BEGIN PRIVATE KEY-----
//
// With one, the PKCS #8 key is encrypted by age (filippo.io/age: scrypt, ChaCha20-Poly1305), and the public half stands beside it, so that
// who the node is can be told without the passphrase:
//
//	-----BEGIN ANABRANCH ENCRYPTED KEY-----
//	Public-Key: pck7gdpxxideiznenoorn452uhuqv3qo4cplgtrjsouseyicyjmq
//
// Opening such a file takes about a second, on purpose: that is what each guess of a thief costs.
//
// It does not protect a key in the memory of a process, and not from whoever may replace the file and the program that reads it.
package keyfile
