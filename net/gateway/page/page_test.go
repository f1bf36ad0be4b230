package page

import (
	"crypto/sha256"
	"encoding/hex"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"
)

func ask(t *testing.T, method, at string, header ...string) *http.Response {
	t.Helper()
	r := httptest.NewRequest(method, "http://127.0.0.1:7422"+at, nil)
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	w := httptest.NewRecorder()
	Handler().ServeHTTP(w, r)
	return w.Result()
}

func TestEachFileIsServedWithItsTypeAndThePolicy(t *testing.T) {
	if len(assets) < 10 {
		t.Fatalf("only %d files are embedded", len(assets))
	}
	for at, a := range assets {
		res := ask(t, "GET", at)
		if res.StatusCode != http.StatusOK || res.Header.Get("Content-Type") != a.kind || a.kind == "" {
			t.Errorf("%s: %d, type %q", at, res.StatusCode, res.Header.Get("Content-Type"))
		}
		for name, want := range map[string]string{
			"Content-Security-Policy": Policy, "X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer", "Cache-Control": "no-cache",
		} {
			if got := res.Header.Get(name); got != want {
				t.Errorf("%s: %s is %q, want %q", at, name, got, want)
			}
		}
	}
	if kind := assets["/"].kind; kind != "text/html; charset=utf-8" {
		t.Errorf("the page itself has type %q", kind)
	}
}

func TestAnUnchangedFileIsNotSentAgain(t *testing.T) {
	etag := ask(t, "GET", "/").Header.Get("ETag")
	if res := ask(t, "GET", "/", "If-None-Match", etag); res.StatusCode != http.StatusNotModified {
		t.Errorf("asked with its own tag: %d", res.StatusCode)
	}
	if res := ask(t, "GET", "/", "If-None-Match", `"other"`); res.StatusCode != http.StatusOK {
		t.Errorf("asked with another tag: %d", res.StatusCode)
	}
}

func TestNothingElseIsServed(t *testing.T) {
	for at, want := range map[string]int{
		"/page/": 404, "/page": 404, "/page/index.html": 404, "/page/nothing.js": 404, "/page/../page.go": 404, "/files/app.js": 404, "/page//app.js": 404,
	} {
		if res := ask(t, "GET", at); res.StatusCode != want {
			t.Errorf("GET %s: %d, want %d", at, res.StatusCode, want)
		}
	}
	if res := ask(t, "POST", "/"); res.StatusCode != http.StatusMethodNotAllowed || res.Header.Get("Allow") != "GET, HEAD" {
		t.Errorf("POST /: %d, Allow %q", res.StatusCode, res.Header.Get("Allow"))
	}
	if res := ask(t, "HEAD", "/"); res.StatusCode != http.StatusOK || res.ContentLength == 0 {
		t.Errorf("HEAD /: %d", res.StatusCode)
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
	for at, a := range assets {
		if strings.HasPrefix(at, "/page/uplot/") {
			continue // held to its hash; it draws, and its labels are not used
		}
		for what, pattern := range forbidden {
			if m := pattern.Find(a.body); m != nil {
				t.Errorf("%s has %s: %s", at, what, m)
			}
		}
	}
}

// TestPageNamesOnlyFilesThatAreThere follows the references of the page and the imports of its modules.
func TestPageNamesOnlyFilesThatAreThere(t *testing.T) {
	found := 0
	for _, m := range regexp.MustCompile(`(?:src|href)="(/[^"]*)"`).FindAllSubmatch(assets["/"].body, -1) {
		found++
		if _, ok := assets[string(m[1])]; !ok {
			t.Errorf("the page refers to %s, which is not there", m[1])
		}
	}
	for at, a := range assets {
		if !strings.HasSuffix(at, ".js") || strings.HasPrefix(at, "/page/uplot/") {
			continue
		}
		for _, m := range regexp.MustCompile(`(?m)^(?:import|export) .*?from '\./([^']+)'|^import '\./([^']+)'`).FindAllSubmatch(a.body, -1) {
			found++
			if _, ok := assets["/page/"+string(m[1])+string(m[2])]; !ok {
				t.Errorf("%s imports %s, which is not there", at, m[1])
			}
		}
	}
	if found < 20 {
		t.Errorf("only %d references were found", found)
	}
}
