package demo

import (
	"context"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
)

// TestWebDemoServesListAndDashboardAndLeavesNothing runs the demonstration for browsers, without one: net/gateway/js/browser has those.
func TestWebDemoServesListAndDashboardAndLeavesNothing(t *testing.T) {
	leavesNothing(t)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	ready, ended := make(chan Web, 1), make(chan error, 1)
	go func() { ended <- RunWeb(ctx, WebOptions{Ready: func(w Web) { ready <- w }}) }()
	var web Web
	select {
	case web = <-ready:
	case err := <-ended:
		t.Fatalf("it ended: %v", err)
	}
	if len(web.People) != 2 || web.People[0].List == web.People[1].List {
		t.Errorf("%+v", web)
	}
	for _, p := range web.People {
		for address, want := range map[string]string{p.List: "<title>Shopping list</title>", p.Dashboard: "<title>Anabranch</title>"} {
			if status, body := fetch(t, address, ""); status != http.StatusOK || !strings.Contains(body, want) {
				t.Errorf("%s: %d, without %s", address, status, want)
			}
		}
		u, err := url.Parse(p.List)
		if err != nil {
			t.Fatal(err)
		}
		origin := u.Scheme + "://" + u.Host
		fragment, err := url.ParseQuery(u.Fragment)
		if err != nil {
			t.Fatal(err)
		}
		if status, body := fetch(t, origin+"/client/index.js", ""); status != http.StatusOK || body == "" {
			t.Errorf("the client library: %d", status)
		}
		if status, body := fetch(t, origin+"/v1/spaces", fragment.Get("token")); status != http.StatusOK || !strings.Contains(body, `"list"`) {
			t.Errorf("the spaces: %d %s", status, body)
		}
		if status, _ := fetch(t, origin+"/v1/spaces", "another"); status != http.StatusUnauthorized {
			t.Errorf("with another token: %d", status)
		}
	}
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

func fetch(t *testing.T, address, token string) (status int, body string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, address, nil)
	if err != nil {
		t.Fatal(err)
	}
	if token != "" {
		r.Header.Set("Authorization", "Bearer "+token)
	}
	res, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res.StatusCode, string(text)
}
