package page

import (
	"crypto/sha256"
	"encoding/hex"
	"io/fs"
	"regexp"
	"strings"
	"testing"
)

// contents returns all files of the page by the path at which they are served.
func contents(t *testing.T) map[string][]byte {
	t.Helper()
	all := make(map[string][]byte)
	err := fs.WalkDir(Files(), ".", func(name string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			all["/"+name], err = fs.ReadFile(Files(), name)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func TestTextCanNeverBecomeHTML(t *testing.T) {
	const want = `<meta http-equiv="Content-Security-Policy" content="require-trusted-types-for 'script'; trusted-types 'none'">`
	page := string(contents(t)["/index.html"])
	if at := strings.Index(page, want); at < 0 || at > strings.Index(page, "<script") {
		t.Error("the page does not ask for Trusted Types before its first script")
	}
}

// TestChartLibraryIsUnchanged holds files/page/uplot to what the package uplot 1.6.32 of the npm registry has in dist/, byte by byte:
// integrity sha512-KIMVnG68zvu5XXUbC4LQEPnhwOxBuLyW1AHtpm6IKTXImkbLgkMy+jabjLgSLMasNuGGzQm/ep3tOkyTxpiQIw==.
func TestChartLibraryIsUnchanged(t *testing.T) {
	want := map[string]string{
		"uPlot.iife.min.js": "19c8d4c6ad88929a79f4ae49d6f7161566dfd0ba3d15cc495e974f787eb78f1f",
		"uPlot.min.css":     "df630c6a8d6f8eeaff264b50f73ce5b114f646ffd9a0bb74f049b0a00135fa04",
		"LICENSE":           "8f989229699b4fe2f1a0432d0e9edc338a8a911e250e2d1b01ecd770a5f5b1bd",
	}
	entries, err := fs.ReadDir(embedded, "files/page/uplot")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		body, err := fs.ReadFile(embedded, "files/page/uplot/"+e.Name())
		if err != nil {
			t.Fatal(err)
		}
		sum := sha256.Sum256(body)
		if got := hex.EncodeToString(sum[:]); got != want[e.Name()] {
			t.Errorf("%s has the hash %s, want %q", e.Name(), got, want[e.Name()])
		}
		delete(want, e.Name())
	}
	for name := range want {
		t.Errorf("there is no %s", name)
	}
}

// forbidden are the ways by which a text becomes HTML, a script or a style within the page, in the sources that are ours.
var forbidden = map[string]*regexp.Regexp{
	"HTML from text":        regexp.MustCompile(`\b(innerHTML|outerHTML|insertAdjacentHTML|createContextualFragment|setHTMLUnsafe|DOMParser|srcdoc)\b|document\.write`),
	"code from text":        regexp.MustCompile(`\beval\(|new Function\(|javascript:`),
	"a style attribute":     regexp.MustCompile(`<[^>]+\sstyle=|setAttribute\(.style`),
	"an inline script":      regexp.MustCompile(`<script(\s[^>]*)?>[^<]|<script>`),
	"an inline style":       regexp.MustCompile(`<style`),
	"a handler in HTML":     regexp.MustCompile(`<[^>]+\son[a-z]+=`),
	"a file from elsewhere": regexp.MustCompile(`(src|href)="(https?:)?//|import\(?\s*['"]https?:|url\(`),
}

func TestSourcesMakeNoHTMLFromText(t *testing.T) {
	for at, body := range contents(t) {
		if strings.HasPrefix(at, "/page/uplot/") {
			continue // held to its hash; it draws, and its labels are not used
		}
		for what, pattern := range forbidden {
			if m := pattern.Find(body); m != nil {
				t.Errorf("%s has %s: %s", at, what, m)
			}
		}
	}
}

// TestPageNamesOnlyFilesThatAreThere follows the references of the page and the imports of its modules.
func TestPageNamesOnlyFilesThatAreThere(t *testing.T) {
	found, files := 0, contents(t)
	for _, m := range regexp.MustCompile(`(?:src|href)="(/[^"]*)"`).FindAllSubmatch(files["/index.html"], -1) {
		found++
		if _, ok := files[string(m[1])]; !ok {
			t.Errorf("the page refers to %s, which is not there", m[1])
		}
	}
	for at, body := range files {
		if !strings.HasSuffix(at, ".js") || strings.HasPrefix(at, "/page/uplot/") {
			continue
		}
		for _, m := range regexp.MustCompile(`(?m)^(?:import|export) .*?from '\./([^']+)'|^import '\./([^']+)'`).FindAllSubmatch(body, -1) {
			found++
			if _, ok := files["/page/"+string(m[1])+string(m[2])]; !ok {
				t.Errorf("%s imports %s, which is not there", at, m[1])
			}
		}
	}
	if found < 20 {
		t.Errorf("only %d references were found", found)
	}
}
