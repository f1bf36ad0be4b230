package list

import (
	"io/fs"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"
)

// TestExampleIsWhole follows what the page and its script load, and holds both to the policy of the gateway: nothing within the page, nothing
// from elsewhere, no HTML from text.
func TestExampleIsWhole(t *testing.T) {
	page, err := fs.ReadFile(embedded, "files/index.html")
	if err != nil {
		t.Fatal(err)
	}
	found := 0
	for _, m := range regexp.MustCompile(`(?:src|href)="/([^"]*)"`).FindAllSubmatch(page, -1) {
		found++
		w := httptest.NewRecorder()
		Handler().ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/"+string(m[1]), nil))
		if w.Code != http.StatusOK {
			t.Errorf("the page refers to %s: %d", m[1], w.Code)
		}
	}
	if found != 3 {
		t.Errorf("%d references were found", found)
	}
	script, err := fs.ReadFile(embedded, "files/list.js")
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(script), "from '/client/index.js'") {
		t.Error("the script does not use the client library")
	}
	for _, text := range []string{string(page), string(script)} {
		if m := regexp.MustCompile(`innerHTML|insertAdjacentHTML|<style|\sstyle=|\son[a-z]+="|<script>|https?://`).FindString(text); m != "" {
			t.Errorf("there is %q, which the policy forbids or which is elsewhere", m)
		}
	}
}
