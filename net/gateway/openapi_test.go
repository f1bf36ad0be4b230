package gateway

import (
	"bytes"
	"fmt"
	"mime"
	"net/http/httptest"
	"net/url"
	"regexp"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"
)

var restOfPath = regexp.MustCompile(`\.\.\.\}`)

// Each route is described, with each method, and nothing is described that is not there.
func TestEachRouteIsInOpenAPI(t *testing.T) {
	checks := loadAPIChecks(t)
	described := make(map[string]bool)
	for path, item := range checks.paths {
		for method := range item.(map[string]any) {
			if method != "parameters" {
				described[strings.ToUpper(method)+" "+path] = true
			}
		}
	}
	for _, rt := range checks.routes {
		if rt.pattern == "/v1/asyncapi.json" {
			continue // the description of the rest
		}
		name := rt.method + " " + restOfPath.ReplaceAllString(rt.pattern, "}")
		if !described[name] {
			t.Errorf("%s is not described", name)
		}
		delete(described, name)
	}
	for name := range described {
		t.Errorf("%s is described and not there", name)
	}
}

// apiChecks holds answers against the description.
type apiChecks struct {
	paths  map[string]any
	routes []route
	schema *jsonschema.Compiler
}

const apiURL = "https://anabranch.example/openapi.json"

func loadAPIChecks(t *testing.T) *apiChecks {
	t.Helper()
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(openAPI))
	if err != nil {
		t.Fatal(err)
	}
	c := &apiChecks{paths: doc.(map[string]any)["paths"].(map[string]any), schema: jsonschema.NewCompiler()}
	c.schema.DefaultDraft(jsonschema.Draft2020)
	if err := c.schema.AddResource(apiURL, doc); err != nil {
		t.Fatal(err)
	}
	g, _ := accessGateway(t, nil)
	c.routes = g.routes.routes
	return c
}

func escapePointer(s string) string {
	return url.PathEscape(strings.NewReplacer("~", "~0", "/", "~1").Replace(s))
}

// check fails unless the answer is one that the description has.
func (c *apiChecks) check(t *testing.T, method, target string, w *httptest.ResponseRecorder) {
	t.Helper()
	path, _, _ := strings.Cut(target, "?")
	if method == "HEAD" {
		return // no body
	}
	for _, rt := range c.routes {
		if _, ok := rt.match(strings.Split(path[1:], "/")); !ok || rt.method != method {
			continue
		}
		name := restOfPath.ReplaceAllString(rt.pattern, "}")
		op, _ := c.paths[name].(map[string]any)[strings.ToLower(method)].(map[string]any)
		if op == nil {
			t.Errorf("%s %s is not described", method, name)
			return
		}
		c.checkAnswer(t, fmt.Sprintf("/paths/%s/%s/responses/%d", escapePointer(name), strings.ToLower(method), w.Code), op, w)
		return
	}
	if w.Code != 404 && w.Code != 405 {
		t.Errorf("%s %s: there is no such route, and yet: %d", method, target, w.Code)
	}
}

func (c *apiChecks) checkAnswer(t *testing.T, pointer string, op map[string]any, w *httptest.ResponseRecorder) {
	t.Helper()
	answer, _ := op["responses"].(map[string]any)[fmt.Sprint(w.Code)].(map[string]any)
	if answer == nil {
		t.Errorf("%s %s is not described", pointer, w.Body)
		return
	}
	if ref, ok := answer["$ref"].(string); ok {
		pointer = strings.TrimPrefix(ref, "#")
		answer = map[string]any{"content": map[string]any{"application/problem+json": true}} // all of components/responses
	}
	content, _ := answer["content"].(map[string]any)
	if content == nil {
		if w.Body.Len() > 0 {
			t.Errorf("%s: want no body, not %s", pointer, w.Body)
		}
		return
	}
	media, _, err := mime.ParseMediaType(w.Header().Get("Content-Type"))
	if err != nil || content[media] == nil {
		t.Errorf("%s: media type %q is not described", pointer, w.Header().Get("Content-Type"))
		return
	}
	schema, err := c.schema.Compile(apiURL + "#" + pointer + "/content/" + escapePointer(media) + "/schema")
	if err != nil {
		t.Error(err)
		return
	}
	body, err := jsonschema.UnmarshalJSON(bytes.NewReader(w.Body.Bytes()))
	if err == nil {
		err = schema.Validate(body)
	}
	if err != nil {
		t.Errorf("%s: %s: %v", pointer, w.Body, err)
	}
}
