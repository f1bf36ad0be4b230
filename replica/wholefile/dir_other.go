//go:build !unix

package wholefile

// SyncDir does nothing where a directory cannot be synced.
func SyncDir(string) error { return nil }
