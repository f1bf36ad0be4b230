package gateway

import (
	"fmt"
	"testing"

	"github.com/anabranch-db/anabranch/crdt"
	"github.com/anabranch-db/anabranch/net/memnet"
	"github.com/anabranch-db/anabranch/replica"
)

// rivals are two nodes that wrote the same documents while they were cut off from each other, and have met again. The first has the gateway.
func rivals(t *testing.T, docs int) (c *restClient, other *replica.Space) {
	t.Helper()
	network := memnet.New(1)
	network.Cut(memnet.ID("a"), memnet.ID("b"))
	g, tokens := accessGateway(t, func(c *Config) {
		if err := c.Replica.Close(); err != nil {
			t.Fatal(err)
		}
		r, err := replica.Open(replica.Config{Transport: network.Node("a")})
		if err != nil {
			t.Fatal(err)
		}
		c.Replica = r
	})
	b, err := replica.Open(replica.Config{Transport: network.Node("b"), Peers: []replica.Peer{{ID: memnet.ID("a"), Addr: "mem:a"}}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := b.Close(); err != nil {
			t.Error(err)
		}
	})
	c = newRESTClient(t, g, tokens, "notes", replica.WriteRights)
	if other, err = b.Space("notes"); err != nil {
		t.Fatal(err)
	}
	for i := range docs {
		c.want(201, "PUT", fmt.Sprintf("/v1/spaces/notes/docs/%d", i), `{"title":"ours","of":{"x":1}}`)
		_, err := other.Update(t.Context(), func(tx *replica.Tx) error {
			d := tx.Doc(fmt.Sprint(i))
			return firstError(d.Set(crdt.Path{"title"}, "theirs"), d.Set(crdt.Path{"of"}, 7), d.Set(crdt.Path{"only"}, true))
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	network.Heal()
	own, _ := g.cfg.Replica.Lookup("notes")
	for _, pair := range [][2]*replica.Space{{own, other}, {other, own}} {
		if err := pair[0].WaitVector(t.Context(), pair[1].Summary().Vector); err != nil {
			t.Fatal(err)
		}
	}
	return c, other
}

func firstError(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

func TestConflictsOverREST(t *testing.T) {
	c, other := rivals(t, 4)
	const path = "/v1/spaces/notes/conflicts"
	a := c.want(200, "GET", path+"?limit=2", "")
	if a["count"] != 8.0 || a["documents"] != 4.0 || a["next"] != "1" || len(a["conflicts"].([]any)) != 2 {
		t.Fatalf("%v", a)
	}
	if a = c.want(200, "GET", path+"?after=1", ""); len(a["conflicts"].([]any)) != 2 || a["next"] != nil {
		t.Errorf("%v", a)
	}
	if w := c.do("GET", "/v1/spaces/notes/docs/0", ""); w.Header().Get(conflictsHeader) != "2" {
		t.Errorf("%v", w.Header())
	}
	if item := c.want(200, "GET", "/v1/spaces/notes/docs/0?meta=1", ""); len(item["conflicts"].([]any)) != 2 {
		t.Errorf("%v", item)
	}

	// One by its number, the other by a value.
	a = c.want(200, "GET", path+"/0", "")
	contests := a["contests"].([]any)
	title := contests[1].(map[string]any)
	lost := title["lost"].([]any)[0].(map[string]any)
	if len(contests) != 2 || title["path"] != "/title" || title["shown"] == lost["value"] || a["count"] != 2.0 {
		t.Fatalf("%v", a)
	}
	tag := a["etag"].(string)
	s := c.want(200, "POST", path+"/0", `{"path":"/title","index":0}`, "If-Match", tag)
	if s["settled"] != 1.0 || s["left"] != 1.0 {
		t.Errorf("%v", s)
	}
	if doc := c.want(200, "GET", "/v1/spaces/notes/docs/0", ""); doc["title"] != lost["value"] {
		t.Errorf("%v shows, want %v", doc["title"], lost["value"])
	}
	c.wantProblem(412, CodePreconditionFailed, "POST", path+"/0", `{"path":"/title","index":0}`, "If-Match", tag)
	c.wantProblem(409, CodeConflict, "POST", path+"/0", `{"path":"/title","index":0}`)
	c.wantProblem(409, CodeConflict, "POST", path+"/0", `{"path":"/of","index":5}`)
	if s = c.want(200, "POST", path+"/0", `{"path":"/of","value":{"both":[1,7]}}`); s["settled"] != 1.0 || s["left"] != 0.0 || s["dot"] == nil {
		t.Errorf("%v", s)
	}
	if a = c.want(200, "GET", path+"/0", ""); a["count"] != 0.0 || len(a["contests"].([]any)) != 0 {
		t.Errorf("%v", a)
	}

	// By the rule: one path, and a whole document.
	before := c.want(200, "GET", "/v1/spaces/notes/docs/1", "")["title"]
	if s = c.want(200, "POST", path+"/1", `{"path":"/title","rule":"last-write-wins"}`); s["settled"] != 1.0 || s["left"] != 1.0 {
		t.Errorf("%v", s)
	}
	if after := c.want(200, "GET", "/v1/spaces/notes/docs/1", "")["title"]; after != before {
		t.Errorf("%v shows, want %v", after, before)
	}
	if s = c.want(200, "POST", path+"/1", `{"rule":"last-write-wins"}`); s["settled"] != 1.0 || s["left"] != 0.0 {
		t.Errorf("%v", s)
	}
	// Writing what shows settles as well, by a patch and not by a put, which writes only what differs.
	shown := c.want(200, "GET", "/v1/spaces/notes/docs/2", "")
	c.want(200, "PATCH", "/v1/spaces/notes/docs/2", fmt.Sprintf(`{"title":%q}`, shown["title"]))
	if a = c.want(200, "GET", path+"/2", ""); a["count"] != 1.0 {
		t.Errorf("%v", a)
	}
	if s = c.want(200, "POST", path+"/2?replicas=1&wait=1m", `{"rule":"last-write-wins"}`); s["replicated"] != 1.0 {
		t.Errorf("%v", s)
	}
	if d, err := other.Get(t.Context(), "2"); err != nil || d.ConflictCount() != 0 {
		t.Errorf("the other node: %v, %v", d, err)
	}
	for _, bad := range []string{``, `{}`, `[]`, `{"path":"/title"}`, `{"rule":"mine"}`, `{"rule":"last-write-wins","index":0}`, `{"index":0,"value":1}`, `{"path":"x","index":0}`, `{"index":1.5}`, `{"value":1}`, `{"x":1,"index":0}`} {
		c.wantProblem(400, CodeBadRequest, "POST", path+"/3", bad)
	}
	c.wantProblem(404, CodeNotFound, "POST", path+"/none", `{"rule":"last-write-wins"}`)
	c.wantProblem(404, CodeNotFound, "GET", path+"/none", "")
}
