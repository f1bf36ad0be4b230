package bench

import "golang.org/x/sys/unix"

// settle waits until the system has written what it was given so far.
func settle() { unix.Sync() }
