package gateway

import (
	"bufio"
	"context"
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	"github.com/anabranch-db/anabranch/net/memnet"
	"github.com/anabranch-db/anabranch/replica"
)

func TestNodeTellsHowItIs(t *testing.T) {
	c, _ := rivals(t, 2)
	a := c.want(200, "GET", "/v1/node", "")
	spaces := a["spaces"].([]any)
	if len(spaces) != 1 || a["ready"] != any(true) {
		t.Fatalf("%v", a)
	}
	s := spaces[0].(map[string]any)
	if s["name"] != "notes" || s["documents"] != 2.0 || s["conflicts"] != 4.0 || s["conflicted"] != 2.0 || s["rights"] != "write" || s["nodeRights"] != "admin" || s["vector"] != 2.0 {
		t.Errorf("%v", s)
	}
	peers := a["peers"].([]any)
	if len(peers) != 1 {
		t.Fatalf("%v", peers)
	}
	if p := peers[0].(map[string]any); p["peer"] != memnet.ID("b").String() || p["connected"] != any(true) || p["address"] != "" {
		t.Errorf("a token for one space sees an address: %v", p)
	}
	status := c.want(200, "GET", "/v1/spaces/notes/status", "")
	if status["digest"] != s["digest"] || len(status["peers"].([]any)) != 1 {
		t.Errorf("%v", status)
	}
}

func TestTokenOfOneSpaceSeesNoOther(t *testing.T) {
	g, tokens := accessGateway(t, nil)
	newRESTClient(t, g, tokens, AllSpaces, replica.AdminRights).want(201, "PUT", "/v1/spaces/secret/docs/k", `{}`)
	c := newRESTClient(t, g, tokens, "notes", replica.WriteRights)
	c.want(201, "PUT", "/v1/spaces/notes/docs/k", `{}`)
	if w := c.do("GET", "/v1/node", ""); w.Code != 200 || strings.Contains(w.Body.String(), "secret") {
		t.Errorf("%d %s", w.Code, w.Body)
	}
	all := newRESTClient(t, g, tokens, AllSpaces, replica.ReadRights).want(200, "GET", "/v1/node", "")
	if len(all["spaces"].([]any)) != 2 {
		t.Errorf("%v", all["spaces"])
	}
}

func TestNodeIsWatchedUntilTheTokenIsRevoked(t *testing.T) {
	g, tokens := accessGateway(t, nil)
	text, info := issue(t, tokens, TokenSpec{Space: AllSpaces, Rights: replica.ReadRights})
	r, err := http.NewRequestWithContext(context.Background(), http.MethodGet, "http://"+listen(t, g)+"/v1/node/events", nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+text)
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.Header.Get("Content-Type") != "text/event-stream" || g.Stats().Connections["dashboard"] != 1 {
		t.Errorf("%v", resp.Header)
	}
	lines := bufio.NewScanner(resp.Body)
	lines.Buffer(nil, 1<<20)
	seen := 0
	name := ""
	for lines.Scan() {
		line := lines.Text()
		if n, ok := strings.CutPrefix(line, "event: "); ok {
			name = n
		}
		data, ok := strings.CutPrefix(line, "data: ")
		if !ok {
			continue
		}
		switch name {
		case "node":
			var v nodeView
			if err := json.Unmarshal([]byte(data), &v); err != nil {
				t.Fatal(err)
			}
			if seen++; seen == 2 {
				if v.Rates == nil || v.Gateway.Connections["dashboard"] != 1 {
					t.Errorf("%s", data)
				}
				if _, err := tokens.Revoke(info.ID); err != nil {
					t.Fatal(err)
				}
			}
		case "error":
			if !strings.Contains(data, CodeTokenRevoked) {
				t.Error(data)
			}
			seen = -1
		}
	}
	if seen != -1 {
		t.Errorf("it ended after %d events without a reason: %v", seen, lines.Err())
	}
}
