package gateway

import (
	"net/http"
	"net/http/httptest"
	"testing"
)

func TestRoutesAreMatchedAsTheyWereSent(t *testing.T) {
	rt := newRouter()
	var got string
	say := func(name string) http.HandlerFunc {
		return func(_ http.ResponseWriter, r *http.Request) {
			got = name + " " + r.PathValue("space") + " " + r.PathValue("key") + r.PathValue("file")
		}
	}
	rt.HandleFunc("GET /v1/spaces/{space}/docs", say("list"))
	rt.HandleFunc("GET /v1/spaces/{space}/docs/{key...}", say("get"))
	rt.HandleFunc("PUT /v1/spaces/{space}/docs/{key...}", say("put"))
	rt.HandleFunc("/client/{file...}", say("client"))
	for _, tt := range []struct{ method, path, want string }{
		{"GET", "/v1/spaces/a/docs", "list a "},
		{"GET", "/v1/spaces/a/docs/k", "get a k"},
		{"HEAD", "/v1/spaces/a/docs/k", "get a k"},
		{"PUT", "/v1/spaces/a%2Fb/docs/todo/1", "put a/b todo/1"},
		{"GET", "/v1/spaces/a/docs/todo//1/", "get a todo//1/"},
		{"GET", "/v1/spaces/a/docs/../docs", "get a ../docs"},
		{"GET", "/v1/spaces/a/docs/%2e%2e%2Fx%20y%3F%00", "get a ../x y?\x00"},
		{"GET", "/v1/spaces/a/docs/./k", "get a ./k"},
		{"POST", "/client/", ""},
		{"GET", "/client/a/b.js", "client  a/b.js"},
		{"GET", "/v1/spaces/a/docs/", ""}, {"GET", "/v1/spaces//docs", ""}, {"GET", "/v1/spaces/a/docs%2Fk", ""}, {"GET", "/v1", ""}, {"GET", "/", ""},
	} {
		got = ""
		w := httptest.NewRecorder()
		rt.ServeHTTP(w, httptest.NewRequest(tt.method, tt.path, nil))
		if got != tt.want {
			t.Errorf("%s %s: %q, want %q", tt.method, tt.path, got, tt.want)
		}
		if tt.want == "" {
			wantProblem(t, w, 404, CodeNotFound)
		}
	}
	w := httptest.NewRecorder()
	rt.ServeHTTP(w, httptest.NewRequest(http.MethodDelete, "/v1/spaces/a/docs/k", nil))
	wantProblem(t, w, 405, CodeMethod)
	if allow := w.Header().Get("Allow"); allow != "GET, HEAD, OPTIONS, PUT" {
		t.Errorf("Allow: %s", allow)
	}
}
