package admin

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/anabranch-db/anabranch/cmd/anabranch/internal/node"
	"github.com/anabranch-db/anabranch/net/gateway"
	"github.com/anabranch-db/anabranch/replica"
	"github.com/anabranch-db/anabranch/replica/store"
)

// fake is a replica that has something of everything.
type fake struct {
	metrics replica.Metrics
	checks  []replica.Check
	err     error
}

func (f *fake) Metrics(context.Context) (replica.Metrics, error) { return f.metrics, f.err }
func (f *fake) Ready(context.Context) []replica.Check            { return f.checks }

func newFake() *fake {
	a, b := replica.PeerID{1}, replica.PeerID{2}
	return &fake{
		checks: []replica.Check{{Name: "writable", OK: true, Detail: "it takes commits"}, {Name: "peers", Advisory: true, Detail: "0 connected, 1 configured"}},
		metrics: replica.Metrics{
			Commits:      replica.Histogram{Bounds: []float64{0.001, 0.01}, Counts: []uint64{5, 2, 1}, Sum: 0.25},
			GroupChanges: replica.Histogram{Bounds: []float64{1, 2}, Counts: []uint64{6, 1, 1}, Sum: 12},
			Transactions: 10, Deltas: 2, Watchers: 1, Refused: []replica.Refused{{By: "us", Reason: "gap", Count: 3}},
			Usage:           store.Usage{DiskBytes: 1 << 20, FreeBytes: 1 << 30, FloorBytes: 1 << 26, Syncs: 8},
			ConfiguredPeers: 2,
			Peers: []replica.PeerStatus{
				{ID: a, Connected: true, Sent: 100, Received: 200, Skew: time.Second}, {ID: b}, {Addr: "192.0.2.1:7420"},
			},
			Spaces: []replica.SpaceMetrics{{
				SpaceStatus: replica.SpaceStatus{Name: "main", Documents: 7, Conflicts: 2, Conflicted: 1, Stability: replica.Stability{
					Age: time.Minute, Waiting: 9, Members: []replica.MemberStatus{{Peer: a, Counts: true}, {Peer: b}},
				}, Peers: []replica.PeerSpaceStatus{
					{Peer: a, Connected: true, Level: true}, {Peer: b, Pending: 4},
				}},
				Sessions: 1, Lag: []time.Duration{0, time.Hour},
			}},
		},
	}
}

func fakeGateway() gateway.Stats {
	return gateway.Stats{
		Requests: 9, Connections: map[string]int64{"sse": 2}, Items: map[string]uint64{"sse": 5}, Transactions: map[string]uint64{"accepted": 3},
		Refused: map[string]uint64{gateway.CodeRateLimited: 1},
	}
}

func config(f *fake) Config {
	return Config{
		Source: f, Gateway: fakeGateway, Version: "1.2", Hosts: []string{"node.example"}, Logger: slog.New(slog.DiscardHandler),
		Status: func(context.Context) (node.Status, error) { return node.Status{Dir: "store"}, nil },
	}
}

func get(t *testing.T, h http.Handler, path string, change func(*http.Request)) (status int, body string) {
	t.Helper()
	r := httptest.NewRequest(http.MethodGet, "http://127.0.0.1:7421"+path, nil)
	if change != nil {
		change(r)
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	b, err := io.ReadAll(w.Result().Body)
	if err != nil {
		t.Fatal(err)
	}
	return w.Code, string(b)
}

const page = "../../../../docs/operations.md"

// TestMetricsAreThoseOfTheManual compares what a scrape gives with the table in the manual, both ways, and the names in the alerts with both.
func TestMetricsAreThoseOfTheManual(t *testing.T) {
	text, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	documented := make(map[string]bool)
	for _, m := range regexp.MustCompile("(?m)^\\| `(anabranch_[a-z_]+)`").FindAllStringSubmatch(string(text), -1) {
		documented[m[1]] = true
	}
	status, body := get(t, config(newFake()).Handler(), "/metrics", nil)
	if status != http.StatusOK {
		t.Fatalf("%d: %s", status, body)
	}
	scraped := make(map[string]bool)
	for _, m := range regexp.MustCompile("(?m)^# TYPE (anabranch_[a-z_]+) ").FindAllStringSubmatch(body, -1) {
		scraped[m[1]] = true
		if !documented[m[1]] {
			t.Errorf("%s is not in the manual", m[1])
		}
	}
	for name := range documented {
		if !scraped[name] {
			t.Errorf("%s is in the manual, and a scrape does not have it", name)
		}
	}
	alerts, err := os.ReadFile("../../../../docs/alerts.yml")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range regexp.MustCompile("anabranch_[a-z_]+").FindAllString(string(alerts), -1) {
		base := strings.TrimSuffix(strings.TrimSuffix(strings.TrimSuffix(name, "_bucket"), "_sum"), "_count")
		if !scraped[name] && !scraped[base] {
			t.Errorf("an alert asks for %s, and a scrape does not have it", name)
		}
	}
	if len(documented) < 30 {
		t.Errorf("only %d metrics were found in the manual", len(documented))
	}
}

func TestMetricsAreWellFormed(t *testing.T) {
	problems, err := testutil.CollectAndLint(newCollector(newFake(), fakeGateway, "1.2"))
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		t.Errorf("%s: %s", p.Metric, p.Text)
	}
}

func TestMetricsHaveTheirValues(t *testing.T) {
	_, body := get(t, config(newFake()).Handler(), "/metrics", nil)
	for _, want := range []string{
		`anabranch_build_info{version="1.2"} 1`, "anabranch_ready 1", "anabranch_transactions_total 10",
		`anabranch_commit_seconds_bucket{le="0.001"} 5`, `anabranch_commit_seconds_bucket{le="0.01"} 7`, `anabranch_commit_seconds_bucket{le="+Inf"} 8`,
		"anabranch_commit_seconds_sum 0.25", "anabranch_commit_seconds_count 8", `anabranch_refused_deltas_total{by="us",reason="gap"} 3`,
		"anabranch_store_syncs_total 8", "anabranch_peers_connected 1", "anabranch_peers_configured 2",
		`anabranch_conflicts{space="main"} 2`, `anabranch_stable_age_seconds{space="main"} 60`,
		`anabranch_members{space="main"} 2`, `anabranch_members_counting{space="main"} 1`, `anabranch_unpruned{space="main"} 9`,
		`anabranch_gateway_connections{channel="sse"} 2`, `anabranch_gateway_items_total{channel="sse"} 5`, "anabranch_gateway_requests_total 9",
		`anabranch_gateway_transactions_total{result="accepted"} 3`, `anabranch_gateway_refused_total{code="rate-limited"} 1`,
		`anabranch_peer_lag_seconds{peer="` + replica.PeerID{2}.Short() + `",space="main"} 3600`,
		`anabranch_peer_level{peer="` + replica.PeerID{1}.Short() + `",space="main"} 1`,
	} {
		if !strings.Contains(body, want+"\n") {
			t.Errorf("there is no line %s", want)
		}
	}
}

func TestLabelsAreBounded(t *testing.T) {
	f := newFake()
	var peers []replica.PeerSpaceStatus
	for i := range 300 {
		id := replica.PeerID{byte(i), byte(i >> 8), 9}
		f.metrics.Peers = append(f.metrics.Peers, replica.PeerStatus{ID: id, Connected: i%3 == 0})
		peers = append(peers, replica.PeerSpaceStatus{Peer: id, Connected: i%3 == 0})
	}
	for range 300 {
		s := f.metrics.Spaces[0]
		s.Name = strings.Repeat("x", len(f.metrics.Spaces))
		s.Peers, s.Lag = peers, make([]time.Duration, len(peers))
		f.metrics.Spaces = append(f.metrics.Spaces, s)
	}
	n, err := testutil.GatherAndCount(config(f).Registry(), "anabranch_documents", "anabranch_peer_lag_seconds", "anabranch_peer_connected")
	if err != nil || n != maxSpaces+1+maxPairs+maxPeers {
		t.Errorf("%d series, %v, want %d", n, err, maxSpaces+1+maxPairs+maxPeers)
	}
	_, body := get(t, config(f).Handler(), "/metrics", nil)
	if !strings.Contains(body, `anabranch_documents{space="(other)"} 1407`) { // 201 of 7
		t.Error("the spaces beyond are not added up")
	}
	if !strings.Contains(body, "anabranch_peers_connected 101") {
		t.Error("peers beyond are not counted")
	}
}

func TestReadySaysWhyNot(t *testing.T) {
	f := newFake()
	h := config(f).Handler()
	if status, body := get(t, h, "/readyz", nil); status != http.StatusOK || body != "ready\n" {
		t.Errorf("%d %q", status, body)
	}
	if status, body := get(t, h, "/readyz?verbose", nil); status != http.StatusOK || body != "[+] writable: it takes commits\n[!] peers: 0 connected, 1 configured\nready\n" {
		t.Errorf("%d %q", status, body)
	}
	f.checks[0] = replica.Check{Name: "writable", Detail: "not enough free disk space"}
	if status, body := get(t, h, "/readyz", nil); status != http.StatusServiceUnavailable || body != "[-] writable: not enough free disk space\nnot ready\n" {
		t.Errorf("%d %q", status, body)
	}
	for _, path := range []string{"/livez", "/healthz"} {
		if status, body := get(t, h, path, nil); status != http.StatusOK || body != "ok\n" {
			t.Errorf("%s: %d %q", path, status, body)
		}
	}
	if status, body := get(t, h, "/status", nil); status != http.StatusOK || !strings.Contains(body, `"dir": "store"`) {
		t.Errorf("%d %q", status, body)
	}
	f.err = errors.New("the disk is gone")
	if status, body := get(t, h, "/metrics", nil); status != http.StatusInternalServerError || !strings.Contains(body, "the disk is gone") {
		t.Errorf("%d %q", status, body)
	}
}

func TestProfilesOnlyWhenAskedFor(t *testing.T) {
	c := config(newFake())
	if status, _ := get(t, c.Handler(), "/debug/pprof/", nil); status != http.StatusNotFound {
		t.Errorf("without pprof: %d", status)
	}
	c.Pprof = true
	if status, body := get(t, c.Handler(), "/debug/pprof/goroutine?debug=1", nil); status != http.StatusOK || !strings.Contains(body, "goroutine profile") {
		t.Errorf("with pprof: %d", status)
	}
}

// TestGuard tries what a web page in somebody's browser can send, on every route.
func TestGuard(t *testing.T) {
	c := config(newFake())
	c.Pprof = true
	h := c.Handler()
	routes := []string{"/", "/metrics", "/livez", "/healthz", "/readyz", "/status", "/debug/pprof/", "/debug/pprof/cmdline", "/nothing"}
	for _, x := range []struct {
		name   string
		change func(*http.Request)
		status int // 0: not that of the guard
	}{
		{"an address", nil, 0},
		{"an address of the network", func(r *http.Request) { r.Host = "192.0.2.7:7421" }, 0},
		{"an IPv6 address", func(r *http.Request) { r.Host = "[::1]:7421" }, 0},
		{"localhost", func(r *http.Request) { r.Host = "LocalHost:7421" }, 0},
		{"a listed name", func(r *http.Request) { r.Host = "node.example" }, 0},
		{"a name that was pointed here", func(r *http.Request) { r.Host = "evil.example:7421" }, http.StatusMisdirectedRequest},
		{"a name that looks like localhost", func(r *http.Request) { r.Host = "localhost.evil.example" }, http.StatusMisdirectedRequest},
		{"a name that looks like an address", func(r *http.Request) { r.Host = "127.0.0.1.evil.example" }, http.StatusMisdirectedRequest},
		{"no name", func(r *http.Request) { r.Host = "" }, http.StatusMisdirectedRequest},
		{"another site", func(r *http.Request) { r.Header.Set("Sec-Fetch-Site", "cross-site") }, http.StatusForbidden},
		{"a neighbour", func(r *http.Request) { r.Header.Set("Sec-Fetch-Site", "same-site") }, http.StatusForbidden},
		{"an address bar", func(r *http.Request) { r.Header.Set("Sec-Fetch-Site", "none") }, 0},
		{"a change", func(r *http.Request) { r.Method = http.MethodPost }, http.StatusMethodNotAllowed},
	} {
		for _, route := range routes {
			status, _ := get(t, h, route, x.change)
			guarded := slices.Contains([]int{http.StatusMisdirectedRequest, http.StatusForbidden, http.StatusMethodNotAllowed}, status)
			if guarded != (x.status != 0) || guarded && status != x.status {
				t.Errorf("%s, %s: %d, want %d", x.name, route, status, x.status)
			}
		}
	}
}
