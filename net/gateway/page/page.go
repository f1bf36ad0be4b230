package page

import (
	"embed"
	"io/fs"
)

//go:embed files
var embedded embed.FS

// Files returns the page: index.html, which is what / shows, and below page/ all that it loads. They hold nothing that is secret.
func Files() fs.FS {
	files, err := fs.Sub(embedded, "files")
	if err != nil {
		panic(err) // the name is good
	}
	return files
}
