package admin

import (
	"net"
	"net/http"
	"net/netip"
	"strings"
)

// guard answers only what a browser was not tricked into asking. A web page can let its own name point to this machine (DNS
// rebinding), and is then of the same origin as what is here: so the Host must be an address, localhost, or a name that was listed. And it
// can send requests from elsewhere, whose answers it cannot read, but which may take time: browsers mark those.
func guard(listed []string, next http.Handler) http.Handler {
	names := map[string]bool{"localhost": true}
	for _, name := range listed {
		names[strings.ToLower(name)] = true
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Content-Type-Options", "nosniff")
		w.Header().Set("Cache-Control", "no-store")
		switch site := r.Header.Get("Sec-Fetch-Site"); {
		case !isAllowed(r.Host, names):
			http.Error(w, "this host name is not listed: name it with --admin-host, or use an address", http.StatusMisdirectedRequest)
		case site != "" && site != "same-origin" && site != "none":
			http.Error(w, "another site sent this request", http.StatusForbidden)
		case r.Method != http.MethodGet && r.Method != http.MethodHead:
			w.Header().Set("Allow", "GET, HEAD")
			http.Error(w, "nothing can be changed here", http.StatusMethodNotAllowed)
		default:
			next.ServeHTTP(w, r)
		}
	})
}

func isAllowed(host string, names map[string]bool) bool {
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	if _, err := netip.ParseAddr(strings.Trim(host, "[]")); err == nil {
		return true
	}
	return names[strings.ToLower(strings.TrimSuffix(host, "."))]
}
