package badgerstore

import (
	"os"

	"golang.org/x/sys/unix"
)

// syncData makes what a file holds durable, and of the rest what is needed to read it: not the time of its last change, which each
// commit changes.
func syncData(f *os.File) error {
	for {
		if err := unix.Fdatasync(int(f.Fd())); err != unix.EINTR {
			return os.NewSyscallError("fdatasync", err)
		}
	}
}
