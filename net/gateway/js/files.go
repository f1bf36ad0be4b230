// Package js holds the TypeScript client, @anabranch/client, as browsers load it. Its sources are beside this file, in src; dist
// is made from them by npm run build and is part of the repository, so that a Go program is built without Node.
package js

import (
	"embed"
	"io/fs"
)

//go:embed dist
var embedded embed.FS

// Files returns the built client: index.js, the chunks it loads, and the declarations (*.d.ts), all at the root.
func Files() fs.FS {
	files, err := fs.Sub(embedded, "dist")
	if err != nil {
		panic(err) // the path is constant
	}
	return files
}
