package trace

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"github.com/anabranch-db/anabranch/crdt"
)

// parseObject calls the parser of each member. A member that has none, that comes twice or that is missing is an error.
func parseObject(raw []byte, fields map[string]func(json.RawMessage) error, required ...string) error {
	seen := make(map[string]bool, len(fields))
	err := eachMember(raw, func(name string, value json.RawMessage) error {
		parse, ok := fields[name]
		switch {
		case !ok:
			return fmt.Errorf("%q is not a known member", clip([]byte(name)))
		case seen[name]:
			return fmt.Errorf("%s comes twice", name)
		}
		seen[name] = true
		if err := parse(value); err != nil {
			return inMember(name, err)
		}
		return nil
	})
	if err != nil {
		return err
	}
	for _, name := range required {
		if !seen[name] {
			return fmt.Errorf("%s is missing", name)
		}
	}
	return nil
}

// eachMember calls f for the members of an object, in their order. Nothing may follow the object.
func eachMember(raw []byte, f func(name string, value json.RawMessage) error) error {
	d := json.NewDecoder(bytes.NewReader(raw))
	open, err := d.Token()
	if err != nil {
		return notJSON(err)
	}
	if open != json.Delim('{') {
		return fmt.Errorf("want an object, not %s", clip(raw))
	}
	for d.More() {
		name, err := d.Token()
		if err != nil {
			return notJSON(err)
		}
		var value json.RawMessage
		if err := d.Decode(&value); err != nil {
			return notJSON(err)
		}
		if err := f(name.(string), value); err != nil { // a name, for the decoder accepts no other token there
			return err
		}
	}
	if _, err := d.Token(); err != nil {
		return notJSON(err)
	}
	if _, err := d.Token(); err != io.EOF {
		return errors.New("there is more after the end of the object")
	}
	return nil
}

func parseArray(raw json.RawMessage, list *[]json.RawMessage) error {
	if len(raw) == 0 || raw[0] != '[' {
		return fmt.Errorf("want an array, not %s", clip(raw))
	}
	if err := json.Unmarshal(raw, list); err != nil {
		return notJSON(err)
	}
	return nil
}

// parseText reads a string exactly, or refuses it: package json would replace a lone surrogate.
func parseText(raw json.RawMessage) (string, error) {
	v, err := crdt.ParseJSONElement(raw)
	if err != nil {
		return "", err
	}
	if v.Kind() != crdt.String {
		return "", fmt.Errorf("want a string, not %s", clip(raw))
	}
	return v.Text(), nil
}

// nameInto returns a parser of a string of 1 to most bytes.
func nameInto(dst *string, most int) func(json.RawMessage) error {
	return func(raw json.RawMessage) error {
		s, err := parseText(raw)
		if err != nil {
			return err
		}
		if s == "" || len(s) > most {
			return fmt.Errorf("%.80q has %d bytes: want 1 to %d", s, len(s), most)
		}
		*dst = s
		return nil
	}
}

// parseLeaf reads the value of one field. The hashes of a trace are over values as they are written, so a value in another
// form than the one that documents are shown in could never compare equal, and is refused here.
func parseLeaf(raw json.RawMessage) (crdt.Value, error) {
	if len(raw) > 0 && raw[0] == '{' {
		if string(raw) != "{}" {
			return crdt.Value{}, fmt.Errorf("%s is not a value of one field: an object has a put for each member", clip(raw))
		}
		return crdt.EmptyMapValue(), nil
	}
	v, err := crdt.ParseJSONElement(raw)
	if err != nil {
		return v, err
	}
	if n := v.PackedSize(); n > crdt.MaxValueBytes {
		return v, &crdt.LimitError{What: "value", Size: n, Limit: crdt.MaxValueBytes, Unit: "bytes"}
	}
	if normal := v.AppendJSON(nil); !bytes.Equal(normal, raw) {
		return v, fmt.Errorf("%s is not in the normal form, which is %s", clip(raw), clip(normal))
	}
	return v, nil
}

func notJSON(err error) error {
	if err == io.EOF || err == io.ErrUnexpectedEOF {
		err = errors.New("it ends too early")
	}
	return fmt.Errorf("not JSON: %w", err)
}

// pathError is an error inside a value, with the way to it.
type pathError struct {
	at  string // .name or [n], outermost first
	err error
}

func (e *pathError) Error() string {
	at := e.at
	if at[0] == '.' {
		at = at[1:]
	}
	return at + ": " + e.err.Error()
}

func (e *pathError) Unwrap() error { return e.err }

func inMember(name string, err error) error { return within("."+name, err) }
func inElement(i int, err error) error      { return within(fmt.Sprintf("[%d]", i), err) }

func within(at string, err error) error {
	var inner *pathError
	if errors.As(err, &inner) {
		return &pathError{at + inner.at, inner.err}
	}
	return &pathError{at, err}
}

// clip shortens what is quoted in an error.
func clip(raw []byte) string {
	const most = 80
	if len(raw) <= most {
		return string(raw)
	}
	return string(bytes.ToValidUTF8(raw[:most], nil)) + "…"
}
