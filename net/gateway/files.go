package gateway

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io/fs"
	"net/http"
	"path"
	"strconv"
	"strings"
)

// Where the files are.
const (
	clientPrefix = "/client/"
	pagePrefix   = "/page/"
)

// files are the page and the client library. The latter is read once, so that no path of a request ever becomes one of a file.
type files struct {
	page   http.Handler // for / and what is below pagePrefix
	byPath map[string]*file
}

type file struct {
	content []byte
	media   string
	tag     string
}

// mediaTypes are those of what browsers load. The system's own table is not asked: it differs.
var mediaTypes = map[string]string{
	".html": "text/html; charset=utf-8", ".css": "text/css; charset=utf-8", ".js": "text/javascript; charset=utf-8", ".mjs": "text/javascript; charset=utf-8",
	".json": "application/json", ".map": "application/json", ".svg": "image/svg+xml", ".png": "image/png", ".ico": "image/x-icon", ".woff2": "font/woff2",
	".webmanifest": "application/manifest+json", ".ts": "text/plain; charset=utf-8", ".txt": "text/plain; charset=utf-8", ".md": "text/plain; charset=utf-8",
}

func loadFiles(page http.Handler, client fs.FS) (*files, error) {
	f := &files{page: page, byPath: make(map[string]*file)}
	if err := f.add(client, clientPrefix); err != nil {
		return nil, fmt.Errorf("client: %w", err)
	}
	return f, nil
}

func (f *files) add(from fs.FS, prefix string) error {
	if from == nil {
		return nil
	}
	return fs.WalkDir(from, ".", func(name string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		content, err := fs.ReadFile(from, name)
		if err != nil {
			return err
		}
		media := mediaTypes[path.Ext(name)]
		if media == "" {
			return nil // not for browsers
		}
		sum := sha256.Sum256(content)
		f.byPath[prefix+name] = &file{content: content, media: media, tag: `"` + hex.EncodeToString(sum[:12]) + `"`}
		return nil
	})
}

// ServeHTTP answers for the page and the paths that are files, and says of all others that there is nothing.
func (f *files) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	file := f.byPath[r.URL.Path]
	switch {
	case f.page != nil && (r.URL.Path == "/" || strings.HasPrefix(r.URL.Path, pagePrefix)):
		f.page.ServeHTTP(w, r)
		return
	case file == nil:
		notFound(w)
		return
	case r.Method != http.MethodGet && r.Method != http.MethodHead:
		w.Header().Set("Allow", "GET, HEAD, OPTIONS")
		writeProblem(w, &Problem{Status: http.StatusMethodNotAllowed, Code: CodeMethod, Detail: "this is a file"})
		return
	}
	h := w.Header()
	h.Set("Content-Type", file.media)
	h.Set("Cache-Control", "no-cache")
	h.Set("ETag", file.tag)
	if none := r.Header.Values("If-None-Match"); len(none) > 0 && matches(none, file.tag, true) {
		w.WriteHeader(http.StatusNotModified)
		return
	}
	h.Set("Content-Length", strconv.Itoa(len(file.content)))
	_, _ = w.Write(file.content) // an error means that the client has gone
}
