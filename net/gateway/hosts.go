package gateway

import (
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
)

// door decides by whom the gateway may be asked, before anything else is looked at. Tokens alone are no answer to a browser that is
// tricked: a page can let its own name point to this machine (DNS rebinding), and is then of the same origin as what is here.
type door struct {
	hosts   HostNames
	origins map[string]bool // as canonicalOrigin writes them
	cross   *http.CrossOriginProtection
}

func newDoor(hosts, origins []string) (*door, error) {
	d := &door{hosts: NewHostNames(hosts), origins: make(map[string]bool), cross: http.NewCrossOriginProtection()}
	for _, h := range hosts {
		if err := CheckHost(h); err != nil {
			return nil, err
		}
	}
	for _, text := range origins {
		o, err := canonicalOrigin(text)
		if err == nil {
			err = d.cross.AddTrustedOrigin(o)
		}
		if err != nil {
			return nil, fmt.Errorf("origin %q: %w", text, err)
		}
		d.origins[o] = true
	}
	return d, nil
}

// CheckHost reports whether a text can be listed as a host name: without scheme, port or path.
func CheckHost(name string) error {
	if name == "" || len(name) > 253 || strings.ContainsAny(name, "/:@*? \t") {
		return fmt.Errorf("host %q: want a name as example.org, without scheme and port", name)
	}
	return nil
}

// CheckOrigin reports whether a text can be listed as an origin.
func CheckOrigin(text string) error {
	_, err := canonicalOrigin(text)
	return err
}

// canonicalOrigin returns an origin as browsers send it: SCHEME://HOST, and the port unless it is the scheme's own.
func canonicalOrigin(text string) (string, error) {
	u, err := url.Parse(text)
	if err != nil || u.Scheme == "" || u.Host == "" || u.Path != "" && u.Path != "/" || u.RawQuery != "" || u.Fragment != "" || u.User != nil || u.Opaque != "" {
		return "", fmt.Errorf("origin %q: want SCHEME://HOST or SCHEME://HOST:PORT, as https://app.example.org", text)
	}
	host := strings.ToLower(u.Host)
	if port := u.Port(); port == "80" && u.Scheme == "http" || port == "443" && u.Scheme == "https" {
		host = strings.TrimSuffix(host, ":"+port)
	}
	return strings.ToLower(u.Scheme) + "://" + host, nil
}

// HostNames are the names by which a listener may be asked, beside addresses.
type HostNames map[string]bool // lower case, without a dot at the end

// NewHostNames returns localhost and the listed names.
func NewHostNames(listed []string) HostNames {
	n := HostNames{"localhost": true}
	for _, name := range listed {
		n[canonicalHost(name)] = true
	}
	return n
}

func canonicalHost(name string) string { return strings.ToLower(strings.TrimSuffix(name, ".")) }

// Allow reports whether a request may have this Host. Addresses are as good as listed names: no page can make its own name one.
func (n HostNames) Allow(host string) bool {
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	if _, err := netip.ParseAddr(strings.Trim(host, "[]")); err == nil {
		return true
	}
	return n[canonicalHost(host)]
}

// IsOfOtherSite reports whether a browser says that a page of another site sent the request.
func IsOfOtherSite(r *http.Request) bool {
	site := r.Header.Get("Sec-Fetch-Site")
	return site != "" && site != "same-origin" && site != "none"
}

// isOwn reports whether an origin is the gateway's own, as the browser sees it. Behind a proxy that ends TLS the scheme cannot be compared.
func isOwn(origin string, r *http.Request) bool {
	u, err := url.Parse(origin)
	return err == nil && u.Path == "" && strings.EqualFold(u.Host, r.Host) && (u.Scheme == "https" || u.Scheme == "http" && r.TLS == nil)
}

// check returns a *Problem if the request is not to be served. origin is that of a listed page elsewhere, "" if there is none.
func (d *door) check(r *http.Request) (origin string, err error) {
	if !d.hosts.Allow(r.Host) {
		return "", &Problem{
			Status: http.StatusMisdirectedRequest, Code: CodeHost,
			Detail: fmt.Sprintf("the host name %.100q is not listed: list it with --gateway-host, or use an address", r.Host),
		}
	}
	sent := r.Header.Values("Origin")
	switch {
	case len(sent) > 1:
		return "", badRequest("more than one Origin")
	case len(sent) == 1 && !isOwn(sent[0], r):
		o, err := canonicalOrigin(sent[0])
		if err != nil || !d.origins[o] {
			return "", &Problem{
				Status: http.StatusForbidden, Code: CodeOrigin,
				Detail: fmt.Sprintf("pages of %.100q may not use this gateway: list the origin with --gateway-origin", sent[0]),
			}
		}
		return sent[0], nil
	case len(sent) == 0:
		// Browsers leave the Origin of some requests out, but say where they come from. Following a link to the page is all that other
		// sites may do.
		if IsOfOtherSite(r) && r.Header.Get("Sec-Fetch-Mode") != "navigate" || d.cross.Check(r) != nil {
			return "", &Problem{Status: http.StatusForbidden, Code: CodeOrigin, Detail: "another site sent this request"}
		}
	}
	return "", nil
}

// guard refuses what comes from other sites before anything else looks at it, and says in its headers what browsers may do with answers.
func (g *Gateway) guard(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w = g.meter.watch(w)
		h := w.Header()
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Cache-Control", "no-store")
		h.Set("Cross-Origin-Resource-Policy", "same-origin")
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'")
		h.Add("Vary", "Origin")
		origin, err := g.door.check(r)
		if err != nil {
			writeProblem(w, err)
			return
		}
		if origin != "" {
			h.Set("Access-Control-Allow-Origin", origin)
			h.Set("Access-Control-Expose-Headers", exposedHeaders)
		}
		if r.Method == http.MethodOptions && r.Header.Get("Access-Control-Request-Method") != "" {
			answerPreflight(w, r, origin)
			return
		}
		next.ServeHTTP(w, r)
	})
}

const (
	exposedHeaders = "ETag, Retry-After, Location, Anabranch-Cursor, Anabranch-Conflicts, Anabranch-Node, WWW-Authenticate"
	allowedMethods = "GET, HEAD, PUT, PATCH, POST, DELETE"
	allowedHeaders = "Authorization, Content-Type, If-Match, If-None-Match, Last-Event-ID"
	// preflightSeconds is how long a browser may remember an answer; it takes no more than two hours.
	preflightSeconds = "7200"
)

// answerPreflight tells a browser which requests a listed page may send. To others it gives no headers, which means none.
func answerPreflight(w http.ResponseWriter, r *http.Request, origin string) {
	h := w.Header()
	if origin != "" {
		h.Set("Access-Control-Allow-Methods", allowedMethods)
		h.Set("Access-Control-Allow-Headers", allowedHeaders)
		h.Set("Access-Control-Max-Age", preflightSeconds)
		if r.Header.Get("Access-Control-Request-Private-Network") == "true" {
			h.Set("Access-Control-Allow-Private-Network", "true")
		}
	}
	w.WriteHeader(http.StatusNoContent)
}
