package page

import (
	"bytes"
	"crypto/sha256"
	"embed"
	"encoding/base64"
	"fmt"
	"io/fs"
	"net/http"
	"path"
	"strings"
	"time"
)

// Policy is the Content-Security-Policy of the page: its own scripts and styles from files, requests to where it came from, and
// nothing else. No text can become HTML or a script, whatever the page does wrong.
const Policy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; " +
	"base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'"

// embedded holds the files in the directory files, as Serve wants them.
//
//go:embed files
var embedded embed.FS

// asset is a file as it is answered.
type asset struct {
	body []byte
	kind string // media type
	etag string // of the content
}

// types are given here, not taken from the system: a wrong one makes a browser refuse the file.
var types = map[string]string{
	".html": "text/html; charset=utf-8",
	".css":  "text/css; charset=utf-8",
	".js":   "text/javascript; charset=utf-8",
	".svg":  "image/svg+xml",
	"":      "text/plain; charset=utf-8",
}

// served are the files of a page by the path at which they are.
type served map[string]asset

// assets are those of the dashboard.
var assets = load(embedded, "/")

// Handler serves the page at "/" and its files below "/page/", to anybody: they hold nothing that is secret.
func Handler() http.Handler { return assets }

// Serve serves another page in the same way and with the same Policy: the files in the directory "files", each at root followed by its name,
// and index.html at root itself, which begins and ends with a slash. It panics if they cannot be read: they are part of the program.
func Serve(files fs.FS, root string) http.Handler { return load(files, root) }

func load(files fs.FS, root string) served {
	all := make(served)
	err := fs.WalkDir(files, "files", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		body, err := fs.ReadFile(files, name)
		if err != nil {
			return err
		}
		kind, ok := types[path.Ext(name)]
		if !ok {
			return fmt.Errorf("%s: the type of its name is not known", name)
		}
		sum := sha256.Sum256(body)
		at := root + strings.TrimPrefix(name, "files/")
		if at == root+"index.html" {
			at = root
		}
		all[at] = asset{body: body, kind: kind, etag: `"` + base64.RawURLEncoding.EncodeToString(sum[:12]) + `"`}
		return nil
	})
	if err != nil {
		panic(fmt.Sprintf("page: the embedded files cannot be read: %v", err))
	}
	return all
}

// ServeHTTP answers GET and HEAD. A browser asks each time whether a file has changed, so that a page of an older program is never
// mixed with a newer one.
func (s served) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	a, ok := s[r.URL.Path]
	if !ok {
		http.NotFound(w, r)
		return
	}
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		w.Header().Set("Allow", "GET, HEAD")
		http.Error(w, "the page is only read", http.StatusMethodNotAllowed)
		return
	}
	h := w.Header()
	h.Set("Content-Type", a.kind)
	h.Set("Content-Security-Policy", Policy)
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("Cross-Origin-Opener-Policy", "same-origin")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
	h.Set("Permissions-Policy", "camera=(), geolocation=(), microphone=(), payment=(), usb=()")
	h.Set("Cache-Control", "no-cache")
	h.Set("ETag", a.etag)
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(a.body))
}
