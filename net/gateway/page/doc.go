// Package page is the dashboard of a node: a page for a browser that shows the node, its spaces and peers, how far each is, what
// its documents are and which of them have conflicts, and lets whoever has a token edit and settle.
//
// It is files, embedded in the program and served as they are written: plain ECMAScript modules and a style sheet, so there is
// nothing to build and nothing is loaded from elsewhere. The page holds no data of its own. What it shows it asks of the gateway
// that serves it, by the public HTTP interface and with the token of who looks at it; so it can do no more than they can.
//
//	gateway.New(gateway.Config{Page: page.Handler(), …})
//
// The files say what belongs where:
//
//	files/index.html       the frame: skip link, navigation, where a view goes
//	files/page/app.js           token, routes, the snapshot of the node each second
//	files/page/api.js           requests, problems, the event stream
//	files/page/view-*.js        a view each: node, space, documents, conflicts, changes
//	files/page/jsontext.js      JSON with exact numbers: parsing with positions, differences, merging
//	files/page/uplot/           uPlot, which draws the charts; unchanged, with its licence
//
// Names and values come from users and may be hostile. Nothing here makes HTML from text: all goes through dom.js, which makes
// text nodes, and the Content-Security-Policy of the page (Policy) forbids scripts and styles within it, all that is elsewhere and, by
// Trusted Types, every way to turn a text into HTML.
package page
