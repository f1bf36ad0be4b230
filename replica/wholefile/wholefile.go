package wholefile

import (
	"errors"
	"os"
	"path/filepath"
)

// Replace makes content what is in the file, with mode 0600, whether or not there is one.
func Replace(path string, content []byte) error {
	return Put(path, content, func(temp string) error { return os.Rename(temp, path) })
}

// Put writes content to a temporary file beside path, with mode 0600, and lets place give it its name. The temporary file is gone when
// Put returns.
func Put(path string, content []byte, place func(temp string) error) error {
	dir := filepath.Dir(path)
	f, err := os.CreateTemp(dir, filepath.Base(path)+".*.tmp") // with mode 0600
	if err != nil {
		return err
	}
	defer func() { _ = os.Remove(f.Name()) }() // gone already if it was renamed
	_, err = f.Write(content)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err == nil {
		err = place(f.Name())
	}
	if err != nil {
		return err
	}
	return SyncDir(dir)
}
