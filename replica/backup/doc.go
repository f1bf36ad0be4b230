// Package backup is the file that a whole store goes into: every key with its value, from one moment, with checksums.
//
//	"anabranch backup" 01        what this is, and the version of what follows
//	H  length  crc32c  {"store":"7af3…","created":"…","spaces":[…]}
//	F  length  crc32c  "identity.pem", the file           (if asked for)
//	Z  length  crc32c  about 1 MiB of entries, compressed; E: not compressed
//	Z  …
//	T  length  crc32c  entries, bytes, SHA-256 of all before this block
//
// A Writer and a Reader hold one block in memory, whatever the size of the store. A Reader checks each block before it
// looks into it, and the whole at the end: what it handed out counts only when Read has returned without an error. Any
// truncation, and any bit that is not as it was written, is such an error, and says where.
//
// The package knows nothing of what keys and values mean, nor of files and directories: see Replica.Backup and replica.Restore.
package backup
