package list

import (
	"io/fs"
	"regexp"
	"strings"
	"testing"
)

// TestExampleIsWhole follows what the page and its script load, and holds both to the policy of the gateway: nothing within the page, nothing
// from elsewhere, no HTML from text.
func TestExampleIsWhole(t *testing.T) {
	page, err := fs.ReadFile(Files(), strings.TrimPrefix(Page, "/"))
	if err != nil {
		t.Fatal(err)
	}
	found := 0
	for _, m := range regexp.MustCompile(`(?:src|href)="/([^"]*)"`).FindAllSubmatch(page, -1) {
		found++
		if _, err := fs.Stat(Files(), string(m[1])); err != nil {
			t.Errorf("the page refers to %s: %v", m[1], err)
		}
	}
	if found != 3 {
		t.Errorf("%d references were found", found)
	}
	script, err := fs.ReadFile(Files(), "list/list.js")
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
