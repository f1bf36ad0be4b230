//go:build !unix

package quicnet

import "io/fs"

// checkMode does nothing where a mode does not tell who may read: the store directory's access list has to.
func checkMode(string, fs.FileInfo) error { return nil }

// syncDir does nothing where a directory cannot be synced.
func syncDir(string) error { return nil }
