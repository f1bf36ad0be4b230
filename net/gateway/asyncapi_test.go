package gateway

import (
	"bytes"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/anabranch-db/anabranch/replica"
)

const schemaURL = "https://anabranch.example/asyncapi.json"

// asyncAPISchemas are the schemas of the payloads in the description, by message.
var asyncAPISchemas = sync.OnceValue(func() map[string]*jsonschema.Schema {
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(asyncAPI))
	if err != nil {
		panic(err)
	}
	c := jsonschema.NewCompiler()
	c.DefaultDraft(jsonschema.Draft7) // which AsyncAPI's schemas extend
	if err := c.AddResource(schemaURL, doc); err != nil {
		panic(err)
	}
	all := map[string]*jsonschema.Schema{}
	for name := range doc.(map[string]any)["components"].(map[string]any)["messages"].(map[string]any) {
		if all[name], err = c.Compile(schemaURL + "#/components/messages/" + name + "/payload"); err != nil {
			panic(err)
		}
	}
	return all
})

// conforms reports what of a text is not as the description says.
func conforms(name string, text []byte) error {
	v, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
	if err != nil {
		return err
	}
	s := asyncAPISchemas()[name]
	if s == nil {
		return &jsonschema.LoadURLError{URL: name}
	}
	return s.Validate(v)
}

// checkMessage, checkEvent and checkAnswer are called with all that the tests receive.
func checkMessage(t testing.TB, text []byte) {
	t.Helper()
	var head struct {
		Type string `json:"type"`
	}
	if err := json.Unmarshal(text, &head); err != nil {
		t.Fatal(err)
	}
	if err := conforms(head.Type, text); err != nil {
		t.Errorf("%s\nis not as asyncapi.json says: %v", shorten(string(text)), err)
	}
}

func checkEvent(t testing.TB, event string, text []byte) {
	t.Helper()
	if err := conforms("event"+strings.ToUpper(event[:1])+event[1:], text); err != nil {
		t.Errorf("event %s: %s\nis not as asyncapi.json says: %v", event, shorten(string(text)), err)
	}
}

func checkAnswer(t testing.TB, path string, status int, text []byte) {
	t.Helper()
	name := "problem"
	if status == 200 {
		path, _, _ = strings.Cut(path, "?")
		name = map[string]string{"changes": "poll", "push": "pushAnswer", "ticket": "ticketAnswer"}[path[strings.LastIndexByte(path, '/')+1:]]
	}
	if err := conforms(name, text); err != nil {
		t.Errorf("%s: %s\nis not as asyncapi.json says: %v", path, shorten(string(text)), err)
	}
}

// What the vectors say is understood, the description allows.
func TestDescriptionAllowsWhatIsUnderstood(t *testing.T) {
	vectors(t, "messages.json", func(t *testing.T, v *messageVectors) {
		for _, m := range v.Messages {
			var head struct {
				Type         string           `json:"type"`
				Transactions []jsontext.Value `json:"transactions"`
			}
			if m.Code != "" || bytes.Contains(m.Parsed, []byte(`"rejected"`)) || json.Unmarshal([]byte(m.Text), &head) != nil {
				continue
			}
			if err := conforms(head.Type, []byte(m.Text)); err != nil {
				t.Errorf("%s: %v", m.Name, err)
			}
		}
	})
	vectors(t, "items.json", func(t *testing.T, v *itemVectors) {
		for _, it := range v.Items {
			if err := conforms("eventChanges", []byte(`{"items":[`+it.Item+`],"cursor":"0"}`)); err != nil {
				t.Errorf("%s: %v", it.Name, err)
			}
		}
	})
}

// The description has no message that nobody sends.
func TestDescriptionIsServedAndNamesEveryMessage(t *testing.T) {
	n := newNode(t, Config{}, replica.Config{})
	resp := n.request(t.Context(), "GET", "/v1/asyncapi.json", "", nil)
	defer resp.Body.Close()
	var served bytes.Buffer
	if _, err := served.ReadFrom(resp.Body); err != nil || !bytes.Equal(served.Bytes(), asyncAPI) {
		t.Errorf("%s, %d bytes, %v", resp.Status, served.Len(), err)
	}
	names := []string{"problem", "poll", "pushBody", "pushAnswer", "ticketAnswer"}
	for _, name := range []string{"welcome", "changes", "level", "reset", "replicated", "error"} {
		names = append(names, name, "event"+strings.ToUpper(name[:1])+name[1:])
	}
	names = append(names, "hello", "token", "subscribe", "credit", "unsubscribe", "push", "ping", "ack", "expiring", "pong")
	var have []string
	for name := range asyncAPISchemas() {
		have = append(have, name)
	}
	slices.Sort(names)
	if slices.Sort(have); !slices.Equal(names, have) {
		t.Errorf("described are %q", have)
	}
}

func TestReferencesInTheDescriptionLeadSomewhere(t *testing.T) {
	var doc any
	if err := json.Unmarshal(asyncAPI, &doc); err != nil {
		t.Fatal(err)
	}
	var look func(v any)
	look = func(v any) {
		switch v := v.(type) {
		case []any:
			for _, e := range v {
				look(e)
			}
		case map[string]any:
			for name, e := range v {
				if ref, ok := e.(string); ok && name == "$ref" {
					at := doc
					for _, step := range strings.Split(strings.TrimPrefix(ref, "#/"), "/") {
						m, _ := at.(map[string]any)
						at = m[step]
					}
					if at == nil {
						t.Errorf("%s leads nowhere", ref)
					}
				}
				look(e)
			}
		}
	}
	look(doc)
}
