// Package wholefile puts small files in their place whole or not at all: whoever opens the name finds what was there before or
// all of the new content, also after a power cut, and the file is on disk when the call returns.
//
//	err := wholefile.Replace("/srv/a/list.json", content)
//
// The content goes to a file of another name in the same directory, which is synced and then given its name. Such a file,
// list.json.*.tmp, may be left by a crash; nothing reads it. It is not for large files, and locks nothing.
package wholefile
