// Package hlc is the hybrid logical clock that gives every transaction its time.
//
// A Time has 48 bits of Unix milliseconds and 16 bits of a logical counter. A tick is
// max(physical now, greatest time seen + 1), so times of one replica always grow, a transaction is later
// than everything that its author had seen, and a time stays close to the wall clock of some node:
//
//	physical now   seen          tick
//	1000 ms        (nothing)     1000 ms + 0
//	1000 ms        1000 ms + 0   1000 ms + 1    two transactions in one millisecond
//	 990 ms        1000 ms + 1   1000 ms + 2    the physical clock was set back
//	1001 ms        1000 ms + 2   1001 ms + 0
//
// The package reads no physical clock: readings are parameters. It is also the only place where a Time
// and a wall time are converted into each other. A time from elsewhere is to be checked with Check
// before it is observed; only the future side is checked, for an old time harms nobody.
//
// The algorithm is that of Kulkarni, Demirbas, Madappa, Avva and Leone, "Logical Physical Clocks and
// Consistent Snapshots in Globally Distributed Databases" (2014); packing both parts into one integer and
// letting the counter carry into the milliseconds is ours.
package hlc
