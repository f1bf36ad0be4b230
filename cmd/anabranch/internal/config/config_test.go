package config

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

const peerA = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"

func environment(vars map[string]string) func(string) string {
	return func(name string) string { return vars[name] }
}

func noFlags(string) []string { return nil }

func TestStrongerSourcesWin(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "anabranch.toml")
	text := "listen = \"192.0.2.1:1\"\nspace = \"file\"\nsync = 'interval'\nallow = [\"" + peerA + "\"]\ninsecure_allow_any = false\n"
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	flags := func(name string) []string { return map[string][]string{"listen": {"192.0.2.3:3"}}[name] }
	env := environment(map[string]string{"ANABRANCH_DIR": dir, "ANABRANCH_LISTEN": "192.0.2.2:2", "ANABRANCH_SPACE": "env", "ANABRANCH_PEER": "a:1, b:2"})
	e, err := Resolve(flags, env)
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{
		"listen": "[192.0.2.3:3] flag --listen", "space": "[env] environment ANABRANCH_SPACE", "sync": "[interval] file " + path,
		"peer": "[a:1 b:2] environment ANABRANCH_PEER", "output": "[table] default ", "dir": "[" + dir + "] environment ANABRANCH_DIR",
	} {
		v := e.values[name]
		if got := fmt.Sprintf("%s %s %s", v.Texts, v.Source, v.Where); got != want {
			t.Errorf("%s: %s, want %s", name, got, want)
		}
	}
	if len(e.Allowed()) != 1 {
		t.Errorf("allowed: %v", e.Allowed())
	}
}

func TestBadSettingsAreRefusedWithTheirPlace(t *testing.T) {
	tests := []struct{ name, text, want string }{
		{"misspelt name", "# mine\nalow = []\n", `f:2: unknown setting "alow": there are space, `},
		{"unknown table", "[server]\nlisten = 'a:1'\n", `f:1: unknown setting "server`},
		{"the directory itself", "dir = '/srv'\n", `f:1: unknown setting "dir"`},
		{"wrong type", "space = 'a'\nlisten = 7420\n", "f:2:"},
		{"no TOML", "listen: a\n", "f:1:7: "},
		{"a setting twice", "sync = 'always'\nsync = 'always'\n", "f:2:"},
		{"bad address", "space = 'a'\nlisten = 'here'\n", `f:2: listen: address "here": want HOST:PORT`},
		{"bad port", "listen = 'a:70000'\n", `f:1: listen: address "a:70000": port "70000" is not a number`},
		{"bad peer ID", "\n\npeer = ['xyz@a:1']\n", `f:3: peer: peer ID "xyz"`},
		{"bad allowed peer", "allow = ['a']\n", `f:1: allow: peer ID "a"`},
		{"bad word", "sync = 'never'\n", `f:1: sync: "never": want always or interval`},
		{"time without a unit", "sync_interval = '5'\n", `f:1: sync_interval: "5": want a time`},
		{"long space name", "space = '" + strings.Repeat("x", 256) + "'\n", "f:1: space: name of a space: want 1 to 255 bytes, not 256"},
		{"too long a file", strings.Repeat("#", MaxFileBytes+1), "f: 65537 bytes, at most 65536"},
		{"deep nesting", "space = " + strings.Repeat("[", 60000), "f:1:"},
	}
	for _, tt := range tests {
		_, err := ParseFile("f", []byte(tt.text))
		if err == nil || !errors.Is(err, ErrFile) || !strings.HasPrefix(err.Error(), "configuration file: "+tt.want) {
			t.Errorf("%s: %v, want configuration file: %s…", tt.name, err, tt.want)
		}
	}
}

func TestFlagsAndEnvironmentAreChecked(t *testing.T) {
	dir := t.TempDir()
	for name, value := range map[string]string{"LISTEN": "nowhere", "ALLOW": "x", "PEER": "a:1,b", "OUTPUT": "xml", "LOCK_WAIT": "-1s", "CLOCK_OFFSET": "5", "INSECURE_ALLOW_ANY": "perhaps"} {
		_, err := Resolve(noFlags, environment(map[string]string{"ANABRANCH_DIR": dir, "ANABRANCH_" + name: value}))
		if !errors.Is(err, ErrUsage) || !strings.Contains(err.Error(), "ANABRANCH_"+name) {
			t.Errorf("%s=%s: %v, want an error that names the variable", name, value, err)
		}
	}
	flags := func(name string) []string { return map[string][]string{"sync": {"sometimes"}}[name] }
	if _, err := Resolve(flags, environment(map[string]string{"ANABRANCH_DIR": dir})); !errors.Is(err, ErrUsage) || !strings.Contains(err.Error(), "--sync") {
		t.Errorf("%v, want an error that names the flag", err)
	}
}

func TestAFileThatIsNamedMustBeThere(t *testing.T) {
	dir := t.TempDir()
	_, err := Resolve(noFlags, environment(map[string]string{"ANABRANCH_DIR": dir, "ANABRANCH_CONFIG": filepath.Join(dir, "none.toml")}))
	if !errors.Is(err, os.ErrNotExist) {
		t.Errorf("%v, want that the file does not exist", err)
	}
	if _, err := Resolve(noFlags, environment(map[string]string{"ANABRANCH_DIR": dir, "ANABRANCH_CONFIG": dir})); !errors.Is(err, ErrFile) {
		t.Errorf("%v, want that a directory is refused", err)
	}
	if _, err := Resolve(noFlags, environment(map[string]string{"ANABRANCH_DIR": dir})); err != nil {
		t.Errorf("without a file: %v", err)
	}
}

func TestDefaultDirectory(t *testing.T) {
	for _, tt := range []struct {
		env  map[string]string
		want string
	}{
		{map[string]string{"XDG_DATA_HOME": "/data", "HOME": "/home/u"}, "/data/anabranch"},
		{map[string]string{"XDG_DATA_HOME": "relative", "HOME": "/home/u"}, "/home/u/.local/share/anabranch"},
		{map[string]string{"HOME": "/home/u"}, "/home/u/.local/share/anabranch"},
	} {
		e, err := Resolve(noFlags, environment(tt.env))
		if err != nil || e.Dir() != tt.want {
			t.Errorf("%v: %q, %v, want %q", tt.env, e.Dir(), err, tt.want)
		}
	}
}

// The file knows each setting that is not local, by the name that Key returns.
func TestFileHasAllSettings(t *testing.T) {
	fields := make(map[string]bool)
	for i := range reflect.TypeFor[file]().NumField() {
		fields[reflect.TypeFor[file]().Field(i).Tag.Get("toml")] = true
	}
	for _, s := range Settings {
		if fields[s.Key()] == s.local {
			t.Errorf("%s: in the file: %v, local: %v", s.Name, fields[s.Key()], s.local)
		}
		if !s.local && s.Default != "" && s.check(s.Default) != nil {
			t.Errorf("%s: the default %q is refused: %v", s.Name, s.Default, s.check(s.Default))
		}
	}
}

// Whatever the text: no panic, and each value that is taken passes its own check.
func FuzzParseFile(f *testing.F) {
	for _, s := range []string{"", "listen = 'a:1'", "peer = ['a:1','b:2']\nallow=[]", "[a]", "sync = \"\"\"always\"\"\"", "a = [[[[", "\xff", "insecure_allow_any = true # yes"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		values, err := ParseFile("f", text)
		if err != nil && !errors.Is(err, ErrFile) {
			t.Fatalf("%v is not an ErrFile", err)
		}
		for _, v := range values {
			if err := v.check(); err != nil {
				t.Fatalf("%s: %v", v.Setting.Name, err)
			}
		}
	})
}
