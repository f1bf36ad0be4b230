package config

import (
	"bytes"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/pelletier/go-toml/v2"
)

// file is the form of the configuration file; its fields are those of Settings that are not local.
type file struct {
	Gateway              *string  `toml:"gateway"`
	GatewayHost          []string `toml:"gateway_host"`
	GatewayOrigin        []string `toml:"gateway_origin"`
	GatewayTLSCert       *string  `toml:"gateway_tls_cert"`
	GatewayTLSKey        *string  `toml:"gateway_tls_key"`
	GatewayACMEHost      []string `toml:"gateway_acme_host"`
	GatewayACMEHTTP      *string  `toml:"gateway_acme_http"`
	GatewayACMEDirectory *string  `toml:"gateway_acme_directory"`

	Space            *string  `toml:"space"`
	Listen           *string  `toml:"listen"`
	Peer             []string `toml:"peer"`
	Allow            []string `toml:"allow"`
	InsecureAllowAny *bool    `toml:"insecure_allow_any"`
	Discover         *bool    `toml:"discover"`
	Degree           *int     `toml:"degree"`
	MaxPeers         *int     `toml:"max_peers"`
	PassphraseFile   *string  `toml:"passphrase_file"`
	Sync             *string  `toml:"sync"`
	SyncInterval     *string  `toml:"sync_interval"`
	MaxDrift         *string  `toml:"max_drift"`
	MaxOffline       *string  `toml:"max_offline"`
	PruneDelay       *string  `toml:"prune_delay"`
	Admin            *string  `toml:"admin"`
	AdminHost        []string `toml:"admin_host"`
	Pprof            *bool    `toml:"pprof"`
	LockWait         *string  `toml:"lock_wait"`
	Output           *string  `toml:"output"`
	Progress         *string  `toml:"progress"`
	LogLevel         *string  `toml:"log_level"`
	LogFormat        *string  `toml:"log_format"`
}

// texts returns the values that are set, by the names of the settings.
func (f *file) texts() map[string][]string {
	texts := map[string][]string{
		"peer": f.Peer, "allow": f.Allow, "admin-host": f.AdminHost,
		"gateway-host": f.GatewayHost, "gateway-origin": f.GatewayOrigin, "gateway-acme-host": f.GatewayACMEHost,
	}
	for name, s := range map[string]*string{
		"space": f.Space, "listen": f.Listen, "passphrase-file": f.PassphraseFile, "sync": f.Sync, "sync-interval": f.SyncInterval, "max-drift": f.MaxDrift,
		"max-offline": f.MaxOffline, "prune-delay": f.PruneDelay, "admin": f.Admin,
		"gateway": f.Gateway, "gateway-tls-cert": f.GatewayTLSCert, "gateway-tls-key": f.GatewayTLSKey,
		"gateway-acme-http": f.GatewayACMEHTTP, "gateway-acme-directory": f.GatewayACMEDirectory,
		"lock-wait": f.LockWait, "output": f.Output, "progress": f.Progress, "log-level": f.LogLevel, "log-format": f.LogFormat,
	} {
		if s != nil {
			texts[name] = []string{*s}
		}
	}
	for name, b := range map[string]*bool{"insecure-allow-any": f.InsecureAllowAny, "discover": f.Discover, "pprof": f.Pprof} {
		if b != nil {
			texts[name] = []string{strconv.FormatBool(*b)}
		}
	}
	for name, n := range map[string]*int{"degree": f.Degree, "max-peers": f.MaxPeers} {
		if n != nil {
			texts[name] = []string{strconv.Itoa(*n)}
		}
	}
	return texts
}

// ParseFile reads the text of a configuration file. name stands in errors, which say the line.
func ParseFile(name string, text []byte) ([]Value, error) {
	if len(text) > MaxFileBytes {
		return nil, fmt.Errorf("%w: %s: %d bytes, at most %d", ErrFile, name, len(text), MaxFileBytes)
	}
	var f file
	if err := toml.NewDecoder(bytes.NewReader(text)).DisallowUnknownFields().Decode(&f); err != nil {
		return nil, describe(name, err)
	}
	texts := f.texts()
	var values []Value
	for _, s := range Settings {
		if texts[s.Name] == nil {
			continue
		}
		v := Value{Setting: s, Texts: texts[s.Name], Source: FromFile, Where: name}
		if err := v.check(); err != nil {
			return nil, fmt.Errorf("%w: %s:%d: %s: %w", ErrFile, name, lineOf(text, s.Key()), s.Key(), err)
		}
		values = append(values, v)
	}
	return values, nil
}

// describe gives the parser's errors our form: file, line, what, and what would be right.
func describe(name string, err error) error {
	var missing *toml.StrictMissingError
	if errors.As(err, &missing) && len(missing.Errors) > 0 {
		unknown := &missing.Errors[0]
		line, _ := unknown.Position()
		return fmt.Errorf("%w: %s:%d: unknown setting %q: there are %s",
			ErrFile, name, line, strings.Join(unknown.Key(), "."), strings.Join(keys(), ", "))
	}
	var bad *toml.DecodeError
	if errors.As(err, &bad) {
		line, column := bad.Position()
		return fmt.Errorf("%w: %s:%d:%d: %s", ErrFile, name, line, column, strings.TrimPrefix(bad.Error(), "toml: "))
	}
	return fmt.Errorf("%w: %s: %w", ErrFile, name, err)
}

func keys() []string {
	var keys []string
	for _, s := range Settings {
		if !s.local {
			keys = append(keys, s.Key())
		}
	}
	return keys
}

// lineOf returns the line on which the setting is made. The text has been parsed, so there is one.
func lineOf(text []byte, key string) int {
	line := 0
	for l := range bytes.Lines(text) {
		line++
		name, _, found := bytes.Cut(l, []byte("="))
		if found && string(bytes.Trim(name, " \t\"'")) == key {
			return line
		}
	}
	return 1
}
