// Package list is an example of what the TypeScript client is for: a shopping list that several people edit at once, with or
// without a network. It is served by `anabranch demo --web`.
//
// files/list/list.js is the whole of it, and meant to be read. It shows a list that is there at once from the local copy, who is here and
// who edits what (a document for each window, written when the focus moves), the way of each change from this device to the node and
// to others, a plug that can be pulled, and a choice where two wrote the same.
package list

import (
	"embed"
	"io/fs"
)

//go:embed files
var embedded embed.FS

// Page is where the example is, on the gateway that serves its Files. It takes a token in its fragment: /list.html#token=…, and, if that
// is wanted, a name: &name=….
const Page = "/list.html"

// Files returns the example: list.html, and below list/ all that it loads. It needs the client library at /client/.
func Files() fs.FS {
	files, err := fs.Sub(embedded, "files")
	if err != nil {
		panic(err) // the name is good
	}
	return files
}
