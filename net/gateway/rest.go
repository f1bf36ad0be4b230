package gateway

// routeREST registers the routes of documents.
func (g *Gateway) routeREST(*router) {}
