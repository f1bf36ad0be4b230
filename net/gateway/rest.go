package gateway

import "net/http"

// routeREST registers the routes of documents.
func (g *Gateway) routeREST(*http.ServeMux) {}
