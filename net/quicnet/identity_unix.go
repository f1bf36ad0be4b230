//go:build unix

package quicnet

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
)

func checkMode(path string, info fs.FileInfo) error {
	if mode := info.Mode().Perm(); mode&0o077 != 0 {
		return fmt.Errorf("identity %s: mode %04o lets other users at the key: set it to 0600 (chmod 600), and make a new identity if others may have read it", path, mode)
	}
	return nil
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
