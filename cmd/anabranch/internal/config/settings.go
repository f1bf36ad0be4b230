package config

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/anabranch-db/anabranch/net/gateway"
	"github.com/anabranch-db/anabranch/replica"
)

// Source says where a value comes from.
type Source string

// The sources, the strongest first.
const (
	FromFlag    Source = "flag"
	FromEnv     Source = "environment"
	FromFile    Source = "file"
	FromDefault Source = "default"
)

// Setting describes one setting.
type Setting struct {
	Name    string // of the flag; in the file with _ in place of -
	Doc     string
	List    bool // a list of values; one flag gives one value, the environment a list with commas
	Bool    bool
	Default string
	check   func(string) error
	local   bool // not in the file
}

// Env returns the name of the environment variable.
func (s Setting) Env() string {
	return "ANABRANCH_" + strings.ToUpper(strings.ReplaceAll(s.Name, "-", "_"))
}

// Key returns the name in the file.
func (s Setting) Key() string { return strings.ReplaceAll(s.Name, "-", "_") }

// DefaultListen is where `serve` listens unless told otherwise: on this machine only, so that nothing is open to a network
// by accident.
const DefaultListen = "127.0.0.1:7420"

// DefaultGateway is where the gateway listens unless told otherwise: on this machine only, too.
const DefaultGateway = "127.0.0.1:7422"

// GatewayOff is the value of the setting gateway that means none.
const GatewayOff = "off"

// Settings are all settings, in the order in which they are shown.
var Settings = []Setting{
	{Name: "dir", Doc: "the store directory", local: true, check: notEmpty},
	{Name: "config", Doc: "the configuration file", local: true, check: notEmpty},
	{Name: "space", Doc: "the space that commands read and write", Default: "main", check: checkSpace},
	{Name: "listen", Doc: "UDP address that serve listens on", Default: DefaultListen, check: checkAddress},
	{Name: "peer", Doc: "a node to keep connected to, as ID@HOST:PORT, or srv:NAME for those of a DNS record", List: true, check: checkPeer},
	{Name: "allow", Doc: "the ID of a peer that may connect", List: true, check: func(s string) error { _, err := replica.ParsePeerID(s); return err }},
	{Name: "insecure-allow-any", Doc: "let any peer connect, whoever it is", Bool: true, Default: "false", check: checkBool},
	{Name: "discover", Doc: "announce the node on the local network, and look for listed ones there", Bool: true, Default: "false", check: checkBool},
	{Name: "degree", Doc: "how many peers to keep connected with, of those that are heard of; 0: only --peer", Default: "4", check: checkCount},
	{Name: "max-peers", Doc: "how many connections to keep at most, where both sides have others; 0: 2 more than twice the degree", Default: "0", check: checkCount},
	{Name: "passphrase-file", Doc: "a file whose first line is the passphrase of the private keys", check: notEmpty},
	{Name: "sync", Doc: "when a write is durable: always (before it is acknowledged) or interval", Default: "always", check: oneOf("always", "interval")},
	{Name: "sync-interval", Doc: "how long a write may wait for the disk with sync interval", Default: "100ms", check: checkInterval},
	{Name: "max-drift", Doc: "how far ahead of the local clock a peer's may be", Default: "1m0s", check: checkInterval},
	{Name: "max-offline", Doc: "how long a member that is away holds pruning back", Default: "720h0m0s", check: checkInterval},
	{Name: "prune-delay", Doc: "how long what all members have is kept before it is pruned", Default: "1m0s", check: checkDuration},
	{Name: "clock-offset", Doc: "added to the system's clock, for tests of clocks that are wrong", Default: "0s", local: true, check: checkOffset},
	{Name: "gateway", Doc: "TCP address of the HTTP gateway for browsers and other clients; off: none", Default: DefaultGateway, check: checkGateway},
	{Name: "gateway-host", Doc: "a name under which the gateway may be asked, beside addresses and localhost", List: true, check: gateway.CheckHost},
	{Name: "gateway-origin", Doc: "the origin of pages that may use the gateway beside its own, as https://app.example.org", List: true, check: gateway.CheckOrigin},
	{Name: "gateway-tls-cert", Doc: "a file with the gateway's certificate, PEM", check: notEmpty},
	{Name: "gateway-tls-key", Doc: "a file with the key of that certificate, PEM", check: notEmpty},
	{Name: "gateway-acme-host", Doc: "a host name for which a certificate is got by ACME, as from Let's Encrypt", List: true, check: gateway.CheckHost},
	{Name: "gateway-acme-http", Doc: "TCP address that answers the questions of ACME over HTTP, as 0.0.0.0:80; nothing: by TLS alone", check: checkOptionalAddress},
	{Name: "gateway-acme-directory", Doc: "URL of the directory of another ACME authority than Let's Encrypt", check: notEmpty},
	{Name: "web", Doc: "print the address of the dashboard with a token for it, at the start", Bool: true, Default: "false", local: true, check: checkBool},
	{Name: "admin", Doc: "TCP address for metrics, health checks and status, as 127.0.0.1:7421; nothing: off", check: checkOptionalAddress},
	{Name: "admin-host", Doc: "a name under which the admin listener may be asked, beside addresses and localhost", List: true, check: notEmpty},
	{Name: "pprof", Doc: "give profiles of the process on the admin listener", Bool: true, Default: "false", check: checkBool},
	{Name: "lock-wait", Doc: "how long to wait for a store that another command has open", Default: "2s", check: checkDuration},
	{Name: "output", Doc: "table for people, jsonl (one JSON object a line) for programs", Default: "table", check: oneOf("table", "jsonl")},
	{Name: "progress", Doc: "progress on stderr: auto (on a terminal), json (a line a second) or none", Default: "auto", check: oneOf("auto", "json", "none")},
	{Name: "log-level", Doc: "debug, info, warn or error", Default: "warn", check: oneOf("debug", "info", "warn", "error")},
	{Name: "log-format", Doc: "text or json", Default: "text", check: oneOf("text", "json")},
}

// Lookup returns the setting of that name.
func Lookup(name string) (Setting, bool) {
	for _, s := range Settings {
		if s.Name == name {
			return s, true
		}
	}
	return Setting{}, false
}

// ParsePeer reads ID@HOST:PORT, or HOST:PORT for whoever answers there and is allowed.
func ParsePeer(s string) (replica.Peer, error) {
	var p replica.Peer
	id, addr, found := strings.Cut(s, "@")
	if !found {
		addr = s
	} else {
		var err error
		if p.ID, err = replica.ParsePeerID(id); err != nil {
			return p, err
		}
	}
	if err := checkAddress(addr); err != nil {
		return p, fmt.Errorf("peer %q: %w", s, err)
	}
	p.Addr = addr
	return p, nil
}

// namePrefix begins a peer that is a DNS name.
const namePrefix = "srv:"

func checkPeer(s string) error {
	name, isName := strings.CutPrefix(s, namePrefix)
	if !isName {
		_, err := ParsePeer(s)
		return err
	}
	if name == "" || len(name) > 253 || strings.ContainsAny(name, "@:/ ") {
		return fmt.Errorf("peer %q: want srv: and a DNS name, as srv:example.org", s)
	}
	return nil
}

// maxCount bounds the numbers of peers.
const maxCount = 128

func checkCount(s string) error {
	if n, err := strconv.Atoi(s); err != nil || n < 0 || n > maxCount {
		return fmt.Errorf("%q: want a number from 0 to %d", s, maxCount)
	}
	return nil
}

func checkAddress(s string) error {
	_, port, err := net.SplitHostPort(s)
	if err != nil {
		return fmt.Errorf("address %q: want HOST:PORT, as 192.0.2.7:7420 or [2001:db8::7]:7420", s)
	}
	if n, err := strconv.Atoi(port); err != nil || n < 0 || n > 65535 {
		return fmt.Errorf("address %q: port %q is not a number from 0 to 65535", s, port)
	}
	return nil
}

func checkOptionalAddress(s string) error {
	if s == "" {
		return nil
	}
	return checkAddress(s)
}

func checkGateway(s string) error {
	if s == GatewayOff {
		return nil
	}
	return checkAddress(s)
}

func checkSpace(s string) error {
	if len(s) == 0 || len(s) > 255 {
		return fmt.Errorf("name of a space: want 1 to 255 bytes, not %d", len(s))
	}
	return nil
}

func notEmpty(s string) error {
	if s == "" {
		return errors.New("must not be empty")
	}
	return nil
}

func checkBool(s string) error {
	if _, err := strconv.ParseBool(s); err != nil {
		return fmt.Errorf("%q: want true or false", s)
	}
	return nil
}

func checkDuration(s string) error {
	if d, err := time.ParseDuration(s); err != nil || d < 0 {
		return fmt.Errorf("%q: want a time with a unit, as 100ms or 2s", s)
	}
	return nil
}

func checkOffset(s string) error {
	if _, err := time.ParseDuration(s); err != nil {
		return fmt.Errorf("%q: want a time with a unit, as 90s or -2h", s)
	}
	return nil
}

func checkInterval(s string) error {
	if d, err := time.ParseDuration(s); err != nil || d <= 0 {
		return fmt.Errorf("%q: want a time above zero with a unit, as 100ms or 2s", s)
	}
	return nil
}

func oneOf(words ...string) func(string) error {
	return func(s string) error {
		for _, w := range words {
			if s == w {
				return nil
			}
		}
		return fmt.Errorf("%q: want %s", s, strings.Join(words, " or "))
	}
}

// defaultDir is where a user's store is unless told otherwise.
func defaultDir(getenv func(string) string) (string, error) {
	if data := getenv("XDG_DATA_HOME"); filepath.IsAbs(data) {
		return filepath.Join(data, "anabranch"), nil
	}
	home := getenv("HOME")
	if home == "" {
		var err error
		if home, err = os.UserHomeDir(); err != nil {
			return "", fmt.Errorf("no store directory: name one with --dir or ANABRANCH_DIR (%w)", err)
		}
	}
	return filepath.Join(home, ".local", "share", "anabranch"), nil
}
