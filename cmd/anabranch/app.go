package main

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"os"

	"github.com/spf13/cobra"

	"github.com/anabranch-db/anabranch/cmd/anabranch/internal/config"
)

// app is what one run of the command has: its streams and its settings.
type app struct {
	stdin  io.Reader
	stdout io.Writer
	stderr io.Writer
	cfg    *config.Effective // nil until prepare
	log    *slog.Logger
	json   bool // asked for by flags, before the settings are known

	passphrases passphrases
}

type appKey struct{}

// appOf returns the app that a command runs in. It is there once prepare has run, that is, in RunE.
func appOf(cmd *cobra.Command) *app { return cmd.Context().Value(appKey{}).(*app) }

// prepare finds the settings. It runs before each command.
func (a *app) prepare(cmd *cobra.Command) error {
	flags := cmd.Flags()
	asked, _ := flags.GetBool("json")
	if output := flags.Lookup("output"); output != nil && output.Value.String() == "jsonl" {
		asked = true
	}
	a.json = asked
	given := func(name string) []string {
		f := flags.Lookup(name)
		switch {
		case name == "output" && asked:
			return []string{"jsonl"}
		case f == nil || !f.Changed || f.Annotations[isSetting] == nil:
			return nil
		case f.Value.Type() == "stringArray":
			values, _ := flags.GetStringArray(name)
			return values
		}
		return []string{f.Value.String()}
	}
	cfg, err := config.Resolve(given, os.Getenv)
	if err != nil {
		return err
	}
	a.cfg = cfg
	a.log = newLogger(a.stderr, cfg.Text("log-level"), cfg.Text("log-format"))
	cmd.SetContext(context.WithValue(cmd.Context(), appKey{}, a))
	return nil
}

func newLogger(w io.Writer, level, format string) *slog.Logger {
	var l slog.Level
	if err := l.UnmarshalText([]byte(level)); err != nil {
		l = slog.LevelWarn // the settings have been checked; this is for their absence
	}
	o := &slog.HandlerOptions{Level: l}
	if format == "json" {
		return slog.New(slog.NewJSONHandler(w, o))
	}
	return slog.New(slog.NewTextHandler(w, o))
}

func (a *app) wantsJSON() bool { return a.json || a.cfg != nil && a.cfg.Text("output") == "jsonl" }

func (a *app) space() string { return a.cfg.Text("space") }

// print writes one result: v as a line of JSON, or what people writes.
func (a *app) print(v any, people func(w io.Writer)) error {
	var b bytes.Buffer
	if !a.wantsJSON() {
		people(&b)
	} else if err := encodeLine(&b, v); err != nil {
		return err
	}
	_, err := a.stdout.Write(b.Bytes())
	return err
}

// encodeLine writes v as a line of JSON, and leaves the bytes of documents in it as they are.
func encodeLine(w io.Writer, v any) error {
	e := json.NewEncoder(w)
	e.SetEscapeHTML(false)
	return e.Encode(v)
}
