// Package badgerstore keeps a store.Store on disk, in Badger v4, and stands between the engine and what Badger does
// when things go wrong.
//
//	dir/STORE     ID, format, how far the last session got, and the last commit known to be durable
//	dir/ANCHOR    a file that nobody writes to; see Anchor
//	dir/LOCK      held while the store is open
//	dir/REDO      a large batch on its way; see redo.go
//	dir/data/     Badger's files
//
// Commits are numbered 1, 2, 3, … and Badger is told these numbers as its timestamps (its managed mode). Three
// things follow. A snapshot reads at the number of the last complete commit: it waits for nobody, and of a commit
// in progress or a failed one it sees nothing. A reader of the files can count: if after a crash the tables end at
// commit 410, and the log begins at 412, then 411 is missing. And a batch too large for one Badger transaction can be
// written in several under one number.
//
// For example, a power cut hits a store that syncs twice a second. Log 7 ends at commit 500, of log 8 the
// disk has commits 521 to 530. Badger would open with 1 to 500 and 521 to 530. Open notices the gap, finds in STORE
// that the machine has been rebooted since and that these commits had not been promised, and goes on from 500. Had the
// store been set to SyncAlways, it would refuse with store.ErrDamaged.
//
// What it does not do: it repairs nothing (copy the directory, fetch from the peers, salvage from the copy); it does not
// check blocks of tables while it runs, nor at opening those beyond the first 256 MiB (use VerifyTables, and sums in the
// records); it cannot tell a bit that flips in the end mark of the very last commit before a crash from a crash in the
// middle of that commit; and where another program fills the disk within a tenth of a second from above the floor to the
// last byte, the kernel kills the process, which loses nothing. It runs on Unix.
//
// Begin reading at Store, then open.go and examine.go.
package badgerstore
