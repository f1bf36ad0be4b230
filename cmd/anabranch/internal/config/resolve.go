package config

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/anabranch-db/anabranch/replica"
)

// Value is the value of a setting that holds.
type Value struct {
	Setting Setting
	Texts   []string // one, unless it is a list
	Source  Source
	Where   string // the variable or the file
}

// Effective holds the value of each setting.
type Effective struct {
	values map[string]Value
}

// ErrUsage is wrapped by the errors of flags and the environment; those of the file wrap ErrFile.
var (
	ErrUsage = errors.New("wrong usage")
	ErrFile  = errors.New("configuration file")
)

// Resolve finds the value of each setting. flags returns the values of a flag that was given, nil for others.
func Resolve(flags func(name string) []string, getenv func(string) string) (*Effective, error) {
	e := &Effective{values: make(map[string]Value)}
	for _, s := range Settings {
		v := Value{Setting: s, Source: FromDefault}
		if s.Default != "" {
			v.Texts = []string{s.Default}
		}
		if text := getenv(s.Env()); text != "" {
			v.Source, v.Where, v.Texts = FromEnv, s.Env(), []string{text}
			if s.List {
				v.Texts = splitList(text)
			}
		}
		if texts := flags(s.Name); texts != nil {
			v.Source, v.Where, v.Texts = FromFlag, "--"+s.Name, texts
		}
		if v.Source != FromDefault {
			if err := v.check(); err != nil {
				return nil, fmt.Errorf("%w: %s: %w", ErrUsage, v.Where, err)
			}
		}
		e.values[s.Name] = v
	}
	if err := e.findDir(getenv); err != nil {
		return nil, err
	}
	return e, e.readFile()
}

func splitList(text string) []string {
	var list []string
	for item := range strings.SplitSeq(text, ",") {
		if item = strings.TrimSpace(item); item != "" {
			list = append(list, item)
		}
	}
	return list
}

func (v Value) check() error {
	for _, text := range v.Texts {
		if err := v.Setting.check(text); err != nil {
			return err
		}
	}
	return nil
}

func (e *Effective) findDir(getenv func(string) string) error {
	v := e.values["dir"]
	if v.Source == FromDefault {
		dir, err := defaultDir(getenv)
		if err != nil {
			return fmt.Errorf("%w: %w", ErrUsage, err)
		}
		v.Texts = []string{dir}
	}
	abs, err := filepath.Abs(v.Texts[0])
	if err != nil {
		return err
	}
	v.Texts = []string{abs}
	e.values["dir"] = v
	return nil
}

// readFile fills in what the file says and nothing stronger does.
func (e *Effective) readFile() error {
	v := e.values["config"]
	if v.Source == FromDefault {
		v.Texts = []string{filepath.Join(e.Dir(), "anabranch.toml")}
		e.values["config"] = v
	}
	path := v.Texts[0]
	text, err := readBounded(path)
	if v.Source == FromDefault && (errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR)) {
		return nil // what is wrong with the store directory is for the store to say
	}
	if err != nil {
		return fmt.Errorf("%w: %w", ErrFile, err)
	}
	values, err := ParseFile(path, text)
	if err != nil {
		return err
	}
	for _, v := range values {
		if held := e.values[v.Setting.Name].Source; held != FromFlag && held != FromEnv {
			e.values[v.Setting.Name] = v
		}
	}
	return nil
}

// MaxFileBytes bounds the file; the parser's memory and stack grow with it.
const MaxFileBytes = 64 << 10

func readBounded(path string) ([]byte, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() || info.Size() > MaxFileBytes {
		return nil, fmt.Errorf("%s: want a file of at most %d KiB", path, MaxFileBytes>>10)
	}
	return os.ReadFile(path)
}

// Values returns all of them, in the order of Settings.
func (e *Effective) Values() []Value {
	out := make([]Value, 0, len(Settings))
	for _, s := range Settings {
		out = append(out, e.values[s.Name])
	}
	return out
}

// Text returns the value of a setting that is not a list.
func (e *Effective) Text(name string) string {
	texts := e.values[name].Texts
	if len(texts) == 0 {
		return ""
	}
	return texts[0]
}

// IsDefault reports whether nothing was said of a setting.
func (e *Effective) IsDefault(name string) bool { return e.values[name].Source == FromDefault }

// List returns the values of a setting that is a list.
func (e *Effective) List(name string) []string { return e.values[name].Texts }

// Dir returns the store directory as an absolute path.
func (e *Effective) Dir() string { return e.Text("dir") }

// Bool returns the value of a switch.
func (e *Effective) Bool(name string) bool {
	b, _ := strconv.ParseBool(e.Text(name)) // checked
	return b
}

// Duration returns the value of a setting that is a time.
func (e *Effective) Duration(name string) time.Duration {
	d, _ := time.ParseDuration(e.Text(name)) // checked
	return d
}

// Peers returns the peers to keep connected to.
func (e *Effective) Peers() []replica.Peer {
	var peers []replica.Peer
	for _, text := range e.values["peer"].Texts {
		if !strings.HasPrefix(text, namePrefix) {
			p, _ := ParsePeer(text) // checked
			peers = append(peers, p)
		}
	}
	return peers
}

// Names returns the DNS names that stand for peers to keep connected to.
func (e *Effective) Names() []string {
	var names []string
	for _, text := range e.values["peer"].Texts {
		if name, ok := strings.CutPrefix(text, namePrefix); ok {
			names = append(names, name)
		}
	}
	return names
}

// Number returns the value of a setting that is a number.
func (e *Effective) Number(name string) int {
	n, _ := strconv.Atoi(e.Text(name)) // checked
	return n
}

// Allowed returns the peers that may connect: those on the list, and those that are dialled by their IDs.
func (e *Effective) Allowed() map[replica.PeerID]bool {
	allowed := make(map[replica.PeerID]bool)
	for _, text := range e.values["allow"].Texts {
		id, _ := replica.ParsePeerID(text) // checked
		allowed[id] = true
	}
	for _, p := range e.Peers() {
		if !p.ID.IsZero() {
			allowed[p.ID] = true
		}
	}
	return allowed
}
