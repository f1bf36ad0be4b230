package gateway

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/anabranch-db/anabranch/replica"
)

// restClient asks a gateway with one token.
type restClient struct {
	t      *testing.T
	g      http.Handler
	token  string
	checks *apiChecks
}

func newRESTClient(t *testing.T, g http.Handler, tokens *Tokens, space string, rights replica.Rights) *restClient {
	t.Helper()
	text, _ := issue(t, tokens, TokenSpec{Subject: "test", Space: space, Rights: rights})
	return &restClient{t: t, g: g, token: text, checks: loadAPIChecks(t)}
}

// do sends a request and holds request and answer against the OpenAPI description.
func (c *restClient) do(method, target, body string, headers ...string) *httptest.ResponseRecorder {
	c.t.Helper()
	h := map[string]string{"Authorization": "Bearer " + c.token}
	if body != "" {
		h["Content-Type"] = "application/json"
	}
	for i := 0; i < len(headers); i += 2 {
		h[headers[i]] = headers[i+1]
	}
	w := send(c.g, method, target, h, body)
	c.checks.check(c.t, method, target, w)
	return w
}

// want sends a request and fails unless the answer has this status; it returns the answer as JSON.
func (c *restClient) want(status int, method, target, body string, headers ...string) map[string]any {
	c.t.Helper()
	w := c.do(method, target, body, headers...)
	if w.Code != status {
		c.t.Fatalf("%s %s: %d %s, want %d", method, target, w.Code, w.Body, status)
	}
	var v map[string]any
	if w.Body.Len() > 0 {
		if err := json.Unmarshal(w.Body.Bytes(), &v); err != nil {
			c.t.Fatalf("%s %s: %s: %v", method, target, w.Body, err)
		}
	}
	return v
}

func (c *restClient) wantProblem(status int, code, method, target, body string, headers ...string) {
	c.t.Helper()
	w := c.do(method, target, body, headers...)
	wantProblem(c.t, w, status, code)
	if c.t.Failed() {
		c.t.Logf("%s %s %s", method, target, body)
	}
}

func TestDocumentsOverREST(t *testing.T) {
	g, tokens := accessGateway(t, nil)
	c := newRESTClient(t, g, tokens, "notes", replica.WriteRights)
	const doc = "/v1/spaces/notes/docs/todo/1"
	c.wantProblem(404, CodeNotFound, "GET", doc, "")
	made := c.want(201, "PUT", doc, `{"title":"milk","n":9007199254740993,"tags":["a"],"of":{"x":1.0}}`)
	w := c.do("GET", doc, "")
	tag := w.Header().Get("ETag")
	if w.Body.String() != `{"n":9007199254740993,"of":{"x":1.0},"tags":["a"],"title":"milk"}` || tag == "" || tag != made["etag"] || w.Header().Get(cursorHeader) == "" {
		t.Errorf("%s %v, made %v", w.Body, w.Header(), made)
	}
	if h := c.do("HEAD", doc, ""); h.Header().Get("ETag") != tag || h.Header().Get("Content-Length") != fmt.Sprint(w.Body.Len()) {
		t.Errorf("HEAD: %v", h.Header())
	}
	if same := c.want(200, "PUT", doc, `{"title":"milk","n":9007199254740993,"tags":["a"],"of":{"x":1.0}}`); same["etag"] != tag || same["dot"] != nil {
		t.Errorf("nothing changed, and yet: %v", same)
	}
	if w := c.do("GET", doc, "", "If-None-Match", `"x", W/`+tag); w.Code != 304 || w.Body.Len() > 0 || w.Header().Get("ETag") != tag {
		t.Errorf("%d %s", w.Code, w.Body)
	}
	c.want(200, "GET", doc, "", "If-None-Match", `"x"`)

	patched := c.want(200, "PATCH", doc, `{"title":null,"of":{"y":2},"tags":[]}`, "Content-Type", mediaMergePatch)
	if w := c.do("GET", doc, ""); w.Body.String() != `{"n":9007199254740993,"of":{"x":1.0,"y":2},"tags":[]}` || w.Header().Get("ETag") != patched["etag"] || patched["etag"] == tag {
		t.Errorf("%s %v", w.Body, patched)
	}
	meta := c.want(200, "GET", doc+"?meta=1", "")
	if meta["key"] != "todo/1" || meta["dots"] == nil {
		t.Errorf("meta: %v", meta)
	}
	for i := range 3 {
		if a := c.want(200, "POST", doc+"?increment=/views&by=5", ""); a["value"] != float64(5*(i+1)) || a["dot"] == nil {
			t.Errorf("increment: %v", a)
		}
	}
	if w := c.do("DELETE", doc, ""); w.Code != 204 || w.Body.Len() > 0 {
		t.Errorf("%d %s", w.Code, w.Body)
	}
	c.wantProblem(404, CodeNotFound, "GET", doc, "")
	c.wantProblem(404, CodeNotFound, "DELETE", doc, "")
	c.want(201, "PUT", doc, `{}`)
	if w := c.do("GET", doc, ""); w.Body.String() != "{}" {
		t.Errorf("an empty document: %s", w.Body)
	}
}

func TestAnyKeyHasItsPath(t *testing.T) {
	g, tokens := accessGateway(t, nil)
	c := newRESTClient(t, g, tokens, "a b/ü", replica.WriteRights)
	for path, key := range map[string]string{"x": "x", "a%2F%2Fb": "a//b", "a//b/": "a//b/", "%2E%2E/c": "../c", "%C3%BC%3F%20%23": "ü? #", "%00": "\x00", "a%2525": "a%25"} {
		c.want(201, "PUT", "/v1/spaces/a%20b%2F%C3%BC/docs/"+path+"?", `{"was":`+fmt.Sprintf("%q", path)+`}`)
		list := c.want(200, "GET", "/v1/spaces/a%20b%2F%C3%BC/docs?keys=1&prefix="+strings.ReplaceAll(path, "%25", "%25"), "")["documents"].([]any)
		if len(list) == 0 || list[0].(map[string]any)["key"] != key {
			t.Errorf("%s: %v, want %q", path, list, key)
		}
		c.want(204, "DELETE", "/v1/spaces/a%20b%2F%C3%BC/docs/"+path, "")
	}
}

func TestWritesAreHeldToWhatWasSeen(t *testing.T) {
	g, tokens := accessGateway(t, nil)
	c := newRESTClient(t, g, tokens, "notes", replica.WriteRights)
	const doc = "/v1/spaces/notes/docs/k"
	c.wantProblem(412, CodePreconditionFailed, "PUT", doc, `{"a":1}`, "If-Match", "*")
	c.wantProblem(412, CodePreconditionFailed, "PUT", doc, `{"a":1}`, "If-Match", `"00"`)
	first := c.want(201, "PUT", doc, `{"a":1}`, "If-None-Match", "*")["etag"].(string)
	c.wantProblem(412, CodePreconditionFailed, "PUT", doc, `{"a":2}`, "If-None-Match", "*")
	second := c.want(200, "PUT", doc, `{"a":2}`, "If-Match", `"x", `+first)["etag"].(string)
	c.wantProblem(412, CodePreconditionFailed, "PUT", doc, `{"a":3}`, "If-Match", first)
	c.wantProblem(412, CodePreconditionFailed, "PATCH", doc, `{"a":3}`, "If-Match", first)
	c.wantProblem(412, CodePreconditionFailed, "DELETE", doc, "", "If-Match", first)
	c.wantProblem(412, CodePreconditionFailed, "POST", doc+"?increment=/n", "", "If-Match", first)
	c.wantProblem(412, CodePreconditionFailed, "PATCH", doc, `{"a":3}`, "If-Match", "W/"+second)
	if got := c.want(200, "GET", doc, "")["a"]; got != 2.0 {
		t.Errorf("%v was written", got)
	}
	c.want(200, "PATCH", doc, `{"a":3}`, "If-Match", second)
	c.want(204, "DELETE", doc, "", "If-Match", "*")
}

// The examples of RFC 7396, appendix A, for which the target is an object, and what a CRDT makes harder than it looks.
func TestMergePatch(t *testing.T) {
	g, tokens := accessGateway(t, nil)
	c := newRESTClient(t, g, tokens, "notes", replica.WriteRights)
	for i, tt := range []struct{ before, patch, want string }{
		{`{"a":"b"}`, `{"a":"c"}`, `{"a":"c"}`},
		{`{"a":"b"}`, `{"b":"c"}`, `{"a":"b","b":"c"}`},
		{`{"a":"b"}`, `{"a":null}`, `{}`},
		{`{"a":"b","b":"c"}`, `{"a":null}`, `{"b":"c"}`},
		{`{"a":["b"]}`, `{"a":"c"}`, `{"a":"c"}`},
		{`{"a":"c"}`, `{"a":["b"]}`, `{"a":["b"]}`},
		{`{"a":{"b":"c"}}`, `{"a":{"b":"d","c":null}}`, `{"a":{"b":"d"}}`},
		{`{"a":[{"b":"c"}]}`, `{"a":[1]}`, `{"a":[1]}`},
		{`{"e":null}`, `{"a":1}`, `{"a":1,"e":null}`},
		{`{}`, `{"a":{"bb":{"ccc":null}}}`, `{"a":{"bb":{}}}`},
		{`{"a":5}`, `{"a":{"b":null}}`, `{"a":{}}`},
		{`{"a":5}`, `{"a":{}}`, `{"a":{}}`},
		{`{"a":{"b":1}}`, `{"a":{}}`, `{"a":{"b":1}}`},
		{`{"a":{"b":1}}`, `{"a":{"b":null}}`, `{"a":{}}`},
		{`{"a":{"b":{"c":1}},"x":1}`, `{"a":{"b":{"c":null},"z":null}}`, `{"a":{"b":{}},"x":1}`},
		{`{"a":1}`, `{}`, `{"a":1}`},
		{`{"a":[1,null]}`, `{"b":[null]}`, `{"a":[1,null],"b":[null]}`},
		{`{"a":{"b":1}}`, `{"a":{"$bytes":"AAE="}}`, `{"a":{"$bytes":"AAE="}}`},
		{`{"a":1}`, `{"a":{"b":{"c":2}},"d":{"e":null,"f":{"g":null}}}`, `{"a":{"b":{"c":2}},"d":{"f":{}}}`},
	} {
		doc := fmt.Sprintf("/v1/spaces/notes/docs/%d", i)
		c.want(201, "PUT", doc, tt.before)
		c.want(200, "PATCH", doc, tt.patch)
		if w := c.do("GET", doc, ""); w.Body.String() != tt.want {
			t.Errorf("%s with %s: %s, want %s", tt.before, tt.patch, w.Body, tt.want)
		}
	}
	c.want(201, "PATCH", "/v1/spaces/notes/docs/new", `{"a":{"b":null}}`)
	if w := c.do("GET", "/v1/spaces/notes/docs/new", ""); w.Body.String() != `{"a":{}}` {
		t.Errorf("%s", w.Body)
	}
	c.wantProblem(400, CodeBadRequest, "PATCH", "/v1/spaces/notes/docs/0", `[1]`)
	c.wantProblem(400, CodeBadRequest, "PATCH", "/v1/spaces/notes/docs/0", `{"$bytes":"AA=="}`)
	c.wantProblem(415, CodeMediaType, "PATCH", "/v1/spaces/notes/docs/0", `[]`, "Content-Type", "application/json-patch+json")
}

func TestPagesOfDocuments(t *testing.T) {
	g, tokens := accessGateway(t, nil)
	c := newRESTClient(t, g, tokens, "notes", replica.WriteRights)
	for i := range 7 {
		c.want(201, "PUT", fmt.Sprintf("/v1/spaces/notes/docs/p/%d", i), fmt.Sprintf(`{"n":%d}`, i))
	}
	c.want(201, "PUT", "/v1/spaces/notes/docs/q", `{}`)
	var keys []string
	after := ""
	for pages := 1; ; pages++ {
		a := c.want(200, "GET", "/v1/spaces/notes/docs?prefix=p/&limit=3&after="+after, "")
		for _, d := range a["documents"].([]any) {
			d := d.(map[string]any)
			keys = append(keys, fmt.Sprint(d["key"], d["doc"]))
			if d["etag"] == nil {
				t.Errorf("%v", d)
			}
		}
		next, more := a["next"].(string)
		if !more {
			if pages != 3 {
				t.Errorf("%d pages", pages)
			}
			break
		}
		after = next
	}
	if fmt.Sprint(keys) != "[p/0map[n:0] p/1map[n:1] p/2map[n:2] p/3map[n:3] p/4map[n:4] p/5map[n:5] p/6map[n:6]]" {
		t.Error(keys)
	}
	a := c.want(200, "GET", "/v1/spaces/notes/docs?keys=1&limit=8", "")
	if len(a["documents"].([]any)) != 8 || a["next"] != nil {
		t.Errorf("%v", a)
	}
	a = c.want(200, "GET", "/v1/spaces/notes/docs?meta&prefix=q", "")
	if item := a["documents"].([]any)[0].(map[string]any); item["key"] != "q" || item["cursor"] == nil {
		t.Errorf("%v", item)
	}
	for _, bad := range []string{"limit=0", "limit=x", "keys=2", "meta=x", "prefix=" + strings.Repeat("k", 1025)} {
		c.wantProblem(400, CodeBadRequest, "GET", "/v1/spaces/notes/docs?"+bad, "")
	}
}

// A page of large documents ends early, with what comes next.
func TestPagesAreBoundedInBytes(t *testing.T) {
	g, tokens := accessGateway(t, nil)
	c := newRESTClient(t, g, tokens, "notes", replica.WriteRights)
	large := `{"t":"` + strings.Repeat("x", 500<<10) + `"}`
	for i := range 12 {
		c.want(201, "PUT", fmt.Sprintf("/v1/spaces/notes/docs/%02d", i), large)
	}
	a := c.want(200, "GET", "/v1/spaces/notes/docs", "")
	n := len(a["documents"].([]any))
	if n != 9 || a["next"] != "08" {
		t.Errorf("%d documents, next %v", n, a["next"])
	}
	if a = c.want(200, "GET", "/v1/spaces/notes/docs?after=08", ""); len(a["documents"].([]any)) != 3 || a["next"] != nil {
		t.Error("the rest does not come")
	}
}

func TestBatchIsOneTransaction(t *testing.T) {
	g, tokens := accessGateway(t, nil)
	c := newRESTClient(t, g, tokens, "notes", replica.WriteRights)
	const batch, docs = "/v1/spaces/notes/batch", "/v1/spaces/notes/docs/"
	a := c.want(200, "POST", batch, `{"ops":[
		{"op":"put","key":"a","value":{"x":1,"y":2},"ifMatch":""},
		{"op":"patch","key":"a","value":{"y":null},"ifMatch":"*"},
		{"op":"set","key":"b","path":"/deep/er","value":{"z":[1]}},
		{"op":"increment","key":"b","path":"/n","by":-3},
		{"op":"put","key":"c","value":{"gone":true}},{"op":"remove","key":"c","path":"/gone"},
		{"op":"put","key":"d","value":{}},{"op":"delete","key":"d"}]}`)
	if a["dot"] == nil || a["cursor"] == nil {
		t.Errorf("%v", a)
	}
	if w := c.do("GET", docs+"a", ""); w.Body.String() != `{"x":1}` {
		t.Errorf("%s", w.Body)
	}
	if w := c.do("GET", docs+"b", ""); w.Body.String() != `{"deep":{"er":{"z":[1]}},"n":-3}` {
		t.Errorf("%s", w.Body)
	}
	for _, gone := range []string{"c", "d"} {
		c.wantProblem(404, CodeNotFound, "GET", docs+gone, "")
	}
	tag := c.do("GET", docs+"a", "").Header().Get("ETag")
	c.want(200, "POST", batch, `{"ops":[{"op":"set","key":"a","path":"/x","value":2,"ifMatch":`+tag+`}]}`)
	c.wantProblem(412, CodePreconditionFailed, "POST", batch, `{"ops":[{"op":"put","key":"e","value":{}},{"op":"set","key":"a","path":"/x","value":3,"ifMatch":`+tag+`}]}`)
	c.wantProblem(404, CodeNotFound, "GET", docs+"e", "")
	w := c.do("POST", batch, `{"ops":[{"op":"delete","key":"a"},{"op":"set","key":"a","path":"x","value":1}]}`)
	wantProblem(t, w, 400, CodeBadRequest)
	if !strings.Contains(w.Body.String(), "ops[1]") {
		t.Errorf("%s", w.Body)
	}
	for _, bad := range []string{
		``, `{}`, `[]`, `{"ops":{}}`, `{"ops":[]}`, `{"ops":[1]}`, `{"ops":[{"op":"put","key":"a"}]}`, `{"ops":[{"op":"delete","key":"a","value":1}]}`,
		`{"ops":[{"op":"move","key":"a"}]}`, `{"ops":[{"op":"delete","key":""}]}`, `{"ops":[{"op":"delete","key":"a","kee":1}]}`, `{"ops":[{"op":"delete","op":"put","key":"a"}]}`,
		`{"ops":[{"op":"put","key":"a","value":[]}]}`, `{"ops":[{"op":"increment","key":"a"}]}`, `{"ops":[{"op":"increment","key":"a","path":"/n","by":1.5}]}`,
		`{"ops":[{"op":"increment","key":"a","path":"/n","by":9223372036854775808}]}`, `{"ops":[{"op":"put","key":"a","path":"/x","value":{}}]}`, `{"ops":[{"op":"remove","key":"a","by":1}]}`,
		`{"ops":[{"op":"delete","key":"a"}]} x`, "{\"ops\":[{\"op\":\"delete\",\"key\":\"\xff\"}]}", `{"ops":[{"op":"delete","key":"a"}`,
	} {
		c.wantProblem(400, CodeBadRequest, "POST", batch, bad)
	}
	c.wantProblem(413, CodeTooLarge, "POST", batch, `{"ops":[`+strings.Repeat(`{"op":"delete","key":"a"},`, maxBatchOps)+`{"op":"delete","key":"a"}]}`)
}

func TestNumbersOfReplicasAreWaitedFor(t *testing.T) {
	g, tokens := accessGateway(t, nil)
	c := newRESTClient(t, g, tokens, "notes", replica.WriteRights)
	a := c.want(201, "PUT", "/v1/spaces/notes/docs/k?replicas=1&wait=1ms", `{"a":1}`)
	if a["replicated"] != 0.0 {
		t.Errorf("alone, and yet: %v", a)
	}
	if a := c.want(200, "PUT", "/v1/spaces/notes/docs/k?replicas=2&wait=1h", `{"a":1}`); a["replicated"] != 2.0 {
		t.Errorf("nothing changed, so nobody lacks it: %v", a)
	}
	if a := c.want(200, "DELETE", "/v1/spaces/notes/docs/k?replicas=1&wait=0s", ""); a["replicated"] != 0.0 {
		t.Errorf("%v", a)
	}
	for _, bad := range []string{"replicas=0", "replicas=129", "replicas=x", "replicas=1&wait=5", "replicas=1&wait=-1s"} {
		c.wantProblem(400, CodeBadRequest, "PUT", "/v1/spaces/notes/docs/k?"+bad, `{}`)
	}
}

func TestRightsAreAsked(t *testing.T) {
	g, tokens := accessGateway(t, nil)
	writer := newRESTClient(t, g, tokens, "notes", replica.WriteRights)
	writer.want(201, "PUT", "/v1/spaces/notes/docs/k", `{"a":1}`)
	reader := newRESTClient(t, g, tokens, "notes", replica.ReadRights)
	reader.want(200, "GET", "/v1/spaces/notes/docs/k", "")
	for _, c := range [][3]string{
		{"PUT", "docs/k", "{}"}, {"PATCH", "docs/k", "{}"}, {"DELETE", "docs/k", ""}, {"POST", "docs/k?increment=/n", ""},
		{"POST", "batch", `{"ops":[{"op":"delete","key":"k"}]}`}, {"POST", "conflicts/k", `{"rule":"last-write-wins"}`},
	} {
		reader.wantProblem(403, CodeForbidden, c[0], "/v1/spaces/notes/"+c[1], c[2])
	}
	stranger := newRESTClient(t, g, tokens, "other", replica.AdminRights)
	for _, path := range []string{"docs", "docs/k", "conflicts", "conflicts/k", "status"} {
		stranger.wantProblem(403, CodeForbidden, "GET", "/v1/spaces/notes/"+path, "")
		stranger.wantProblem(403, CodeForbidden, "GET", "/v1/spaces/nothing/"+path, "") // the same, whether it is there or not
		w := send(g, "GET", "/v1/spaces/notes/"+path, nil, "")
		wantProblem(t, w, 401, CodeUnauthenticated)
		if w.Header().Get("WWW-Authenticate") != `Bearer realm="anabranch"` {
			t.Errorf("%v", w.Header())
		}
	}
	if a := reader.want(200, "GET", "/v1/spaces", ""); fmt.Sprint(a) != "map[spaces:[map[conflicts:0 documents:1 name:notes rights:read]]]" {
		t.Errorf("%v", a)
	}
	if a := stranger.want(200, "GET", "/v1/spaces", ""); len(a["spaces"].([]any)) != 0 {
		t.Errorf("%v", a)
	}
	// A space is made by who has a token for it, or may do everything.
	stranger.want(201, "PUT", "/v1/spaces/other/docs/k", `{}`)
	everywhere := newRESTClient(t, g, tokens, AllSpaces, replica.WriteRights)
	everywhere.want(200, "GET", "/v1/spaces/other/docs/k", "")
	everywhere.wantProblem(404, CodeNotFound, "PUT", "/v1/spaces/misspelt/docs/k", `{}`)
	newRESTClient(t, g, tokens, "third", replica.ReadRights).wantProblem(404, CodeNotFound, "GET", "/v1/spaces/third/docs", "")
	newRESTClient(t, g, tokens, "third", replica.WriteRights).wantProblem(404, CodeNotFound, "GET", "/v1/spaces/third/docs", "")
	newRESTClient(t, g, tokens, AllSpaces, replica.AdminRights).want(201, "PUT", "/v1/spaces/fourth/docs/k", `{}`)
	if names := g.cfg.Replica.Spaces(); fmt.Sprint(names) != "[fourth notes other]" {
		t.Error(names)
	}
}

func TestReasonsOf401(t *testing.T) {
	c := newClock()
	g, _ := accessGateway(t, nil)
	tokens := openTokens(t, "", c)
	g.cfg.Authenticate = tokens.Authenticate
	short, info := issue(t, tokens, TokenSpec{Space: "a", Rights: replica.ReadRights, Expires: c.t.Add(time.Minute)})
	ask := func(auth string) *httptest.ResponseRecorder {
		return send(g, "GET", "/v1/spaces", map[string]string{"Authorization": auth}, "")
	}
	if w := ask("bearer " + short); w.Code != 200 {
		t.Errorf("%d %s", w.Code, w.Body)
	}
	for _, bad := range []string{"", "Bearer", "Bearer ", "Basic " + short, short, "Bearer x" + short} {
		wantProblem(t, ask(bad), 401, CodeUnauthenticated)
	}
	if _, err := tokens.Revoke(info.ID); err != nil {
		t.Fatal(err)
	}
	w := ask("Bearer " + short)
	wantProblem(t, w, 401, CodeTokenRevoked)
	if got := w.Header().Get("WWW-Authenticate"); got != `Bearer realm="anabranch", error="invalid_token", error_description="token-revoked"` {
		t.Error(got)
	}
	c.t = c.t.Add(time.Hour)
	wantProblem(t, ask("Bearer "+short), 401, CodeTokenExpired)
	if n := g.Stats().Refused; n[CodeTokenExpired] != 1 || n[CodeTokenRevoked] != 1 || n[CodeUnauthenticated] != 6 {
		t.Errorf("counted %v", n)
	}
}
