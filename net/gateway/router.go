package gateway

import (
	"net/http"
	"net/url"
	"slices"
	"strings"
)

// router finds the handler of a request. It takes patterns as http.ServeMux does, "GET /v1/spaces/{space}/docs/{key...}", but matches the
// path as it was sent, element by element: keys may hold // or .. and must not be redirected to something tidier. And it
// answers what it does not find, and methods that a path does not have, with problems.
type router struct {
	routes   []route
	fallback http.HandlerFunc // for paths that no route has; nil: a problem
}

type route struct {
	method, pattern string
	elements        []string
	handle          http.HandlerFunc
}

func newRouter() *router { return new(router) }

// HandleFunc adds a route. GET stands for HEAD too; no method for every one.
func (rt *router) HandleFunc(pattern string, handle func(http.ResponseWriter, *http.Request)) {
	method, path, ok := strings.Cut(pattern, " ")
	if !ok {
		method, path = "", pattern
	}
	rt.routes = append(rt.routes, route{method: method, pattern: path, elements: strings.Split(path[1:], "/"), handle: handle})
}

// maxPathElements bounds what is split; a key of the greatest length has no more.
const maxPathElements = 2048

// ServeHTTP calls the first route that fits.
func (rt *router) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	path, ok := strings.CutPrefix(r.URL.EscapedPath(), "/")
	if !ok {
		writeProblem(w, &Problem{Status: http.StatusBadRequest, Code: CodeBadRequest, Detail: "the target of the request is not a path"})
		return
	}
	elements := strings.SplitN(path, "/", maxPathElements)
	var allowed []string
	for i := range rt.routes {
		c := &rt.routes[i]
		values, ok := c.match(elements)
		switch {
		case !ok:
		case c.method == "" || c.method == r.Method || c.method == http.MethodGet && r.Method == http.MethodHead:
			for name, value := range values {
				r.SetPathValue(name, value)
			}
			c.handle(w, r)
			return
		default:
			allowed = append(allowed, c.method)
			if c.method == http.MethodGet {
				allowed = append(allowed, http.MethodHead)
			}
		}
	}
	switch {
	case allowed != nil:
	case rt.fallback != nil:
		rt.fallback(w, r)
		return
	default:
		notFound(w)
		return
	}
	allowed = append(allowed, http.MethodOptions)
	slices.Sort(allowed)
	list := strings.Join(slices.Compact(allowed), ", ")
	w.Header().Set("Allow", list)
	writeProblem(w, &Problem{Status: http.StatusMethodNotAllowed, Code: CodeMethod, Detail: "this path takes " + list})
}

func notFound(w http.ResponseWriter) {
	writeProblem(w, &Problem{Status: http.StatusNotFound, Code: CodeNotFound, Detail: "there is nothing at this path; /v1/openapi.json lists what there is"})
}

// match returns the values of the pattern's wildcards.
func (c *route) match(elements []string) (map[string]string, bool) {
	var values map[string]string
	for i, want := range c.elements {
		name, isWildcard := strings.CutPrefix(want, "{")
		if i >= len(elements) {
			return nil, false
		}
		if !isWildcard {
			if elements[i] != want {
				return nil, false
			}
			continue
		}
		name = strings.TrimSuffix(name, "}")
		text := elements[i]
		rest, isRest := strings.CutSuffix(name, "...")
		if isRest {
			name, text = rest, strings.Join(elements[i:], "/")
		}
		value, err := url.PathUnescape(text)
		if err != nil || value == "" {
			return nil, false
		}
		if values == nil {
			values = make(map[string]string, 2)
		}
		values[name] = value
		if isRest {
			return values, true
		}
	}
	return values, len(elements) == len(c.elements)
}
