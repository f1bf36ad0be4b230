//go:build !unix

package keyfile

import "io/fs"

// checkMode does nothing where a mode does not tell who may read: the directory's access list has to.
func checkMode(fs.FileInfo) error { return nil }

// syncDir does nothing where a directory cannot be synced.
func syncDir(string) error { return nil }
