//go:build unix

package keyfile

import (
	"fmt"
	"io/fs"
)

func checkMode(info fs.FileInfo) error {
	if mode := info.Mode().Perm(); mode&0o077 != 0 {
		return fmt.Errorf("%w: mode %04o lets other users at the key: set it to 0600 (chmod 600), and make a new one if others may have read it", ErrMode, mode)
	}
	return nil
}
