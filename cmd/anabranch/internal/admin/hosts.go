package admin

import (
	"net/http"

	"github.com/anabranch-db/anabranch/net/gateway"
)

// guard answers only what a browser was not tricked into asking. A web page can let its own name point to this machine (DNS
// rebinding), and is then of the same origin as what is here: so the Host must be an address, localhost, or a name that was listed. And it
// can send requests from elsewhere, whose answers it cannot read, but which may take time: browsers mark those.
func guard(listed []string, next http.Handler) http.Handler {
	names := gateway.NewHostNames(listed)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Content-Type-Options", "nosniff")
		w.Header().Set("Cache-Control", "no-store")
		switch {
		case !names.Allow(r.Host):
			http.Error(w, "this host name is not listed: name it with --admin-host, or use an address", http.StatusMisdirectedRequest)
		case gateway.IsOfOtherSite(r):
			http.Error(w, "another site sent this request", http.StatusForbidden)
		case r.Method != http.MethodGet && r.Method != http.MethodHead:
			w.Header().Set("Allow", "GET, HEAD")
			http.Error(w, "nothing can be changed here", http.StatusMethodNotAllowed)
		default:
			next.ServeHTTP(w, r)
		}
	})
}
