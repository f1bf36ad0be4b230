package crdt_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"math/big"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/anabranch-db/anabranch/crdt"
)

type inner struct {
	Common   string `json:"common"`
	Official string `json:"official,omitempty"`
}

type base struct {
	ID     int64 `json:"id"`
	Hidden string
}

type city struct {
	base
	*Extra
	Name       inner             `json:"name"`
	Hidden     string            `json:"-"`
	Dash       int               `json:"-,"` //nolint:staticcheck // the name "-" is meant
	Population int64             `json:"population"`
	Area       float64           `json:"area"`
	Small      float32           `json:"small"`
	Data       []byte            `json:"data"`
	Key        [2]byte           `json:"key"`
	Tags       []string          `json:"tags"`
	Labels     map[string]string `json:"labels"`
	ByYear     map[int]uint16    `json:"by_year"`
	Founded    time.Time         `json:"founded"`
	Gone       *time.Time        `json:"gone"`
	Optional   *int              `json:"optional,omitempty"`
	Zero       time.Time         `json:"zero,omitzero"`
	Quoted     int64             `json:"quoted,string"`
	Any        any               `json:"any"`
	Raw        json.RawMessage   `json:"raw"`
	Number     json.Number       `json:"number"`
	Value      crdt.Value        `json:"value"`
	Big        *big.Int          `json:"big"`
	List       []inner           `json:"list"`
	unexported int
}

type Extra struct {
	Note string
}

func sample() city {
	return city{
		base: base{ID: 1<<53 + 1}, Extra: &Extra{Note: "n"}, Name: inner{Common: "Oslo"}, Hidden: "hidden", Dash: 3, Population: math.MaxInt64,
		Area: 2, Small: 0.1, Data: []byte{0, 255}, Key: [2]byte{1, 2}, Tags: []string{"a", "b"}, Labels: map[string]string{}, ByYear: map[int]uint16{2020: 1, -5: 2},
		Founded: time.Date(1048, 1, 2, 3, 4, 5, 0, time.UTC), Quoted: 1<<60 + 1, Any: []any{int64(7), 1.0, []byte("x"), map[string]any{"k": nil}},
		Raw: json.RawMessage(`{"r":[1.50]}`), Number: "12", Value: crdt.FloatValue(3), Big: big.NewInt(77), List: []inner{{Common: "x"}}, unexported: 4,
	}
}

func documentOf(t testing.TB, v any) *crdt.Document {
	t.Helper()
	leaves, err := crdt.Leaves("", v)
	if err != nil {
		t.Fatal(err)
	}
	var d crdt.Document
	d.Replace(at(1, 1), leaves)
	return &d
}

func TestStructsBecomeFields(t *testing.T) {
	want := `{"-":3,"Hidden":"","Note":"n","any":[7,1.0,{"$bytes":"eA=="},{"k":null}],"area":2.0,"big":77,"by_year":{"-5":2,"2020":1},` +
		`"data":{"$bytes":"AP8="},"founded":"1048-01-02T03:04:05Z","gone":null,"id":9007199254740993,"key":[1,2],"labels":{},"list":[{"common":"x"}],"name":{"common":"Oslo"},` +
		`"number":12,"population":9223372036854775807,"quoted":"1152921504606846977","raw":{"r":[1.5]},"small":0.1,"tags":["a","b"],"value":3.0}`
	v := sample()
	if got := string(documentOf(t, v).AppendJSON(nil)); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	if got := string(documentOf(t, &v).AppendJSON(nil)); got != want {
		t.Errorf("behind a pointer: got  %s\nwant %s", got, want)
	}
}

func TestDecodeIsTheInverse(t *testing.T) {
	want := sample()
	want.Hidden, want.unexported = "", 0
	want.Raw = json.RawMessage(`{"r":[1.5]}`) // in our form
	var got city
	if err := documentOf(t, sample()).Decode(&got); err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got\n%+v, want\n%+v", got, want)
	}
}

// TestFieldsAreThoseOfJSON compares the names that a struct's fields get with those of encoding/json.
func TestFieldsAreThoseOfJSON(t *testing.T) {
	type A struct{ X, Y int }
	type B struct {
		X int
		Z int `json:"Y"`
	}
	type C struct{ X int }
	type hidden struct{ V int }
	type self struct {
		*self //nolint:unused // it is the embedding that is tested
		W     int
	}
	type named string
	for _, v := range []any{
		struct {
			A
			B
		}{},
		struct {
			A
			X string
		}{},
		struct {
			A `json:"a"`
			*B
		}{},
		struct {
			*C
			hidden
		}{},
		struct {
			C
			D struct{ C }
		}{},
		self{},
		struct {
			E int     `json:"e,omitempty"`
			F int     `json:",omitempty"`
			G int     `json:"G"`
			H string  `json:"h,string"`
			I bool    `json:",string"`
			J float64 `json:"j,string"`
		}{G: 1, J: 1.5},
		struct{ named }{},
		struct{ M map[string][]struct{ Q *int } }{M: map[string][]struct{ Q *int }{"a": {{}}}},
	} {
		t.Run(fmt.Sprintf("%T", v), func(t *testing.T) {
			standard, err := json.Marshal(v)
			if err != nil {
				t.Fatal(err)
			}
			leaves, err := crdt.ParseJSON(standard)
			if err != nil {
				t.Fatal(err)
			}
			var want crdt.Document
			want.Replace(at(1, 1), leaves)
			got := string(documentOf(t, v).AppendJSON(nil))
			if got != string(want.AppendJSON(nil)) && !strings.Contains(string(standard), `"h":"\"`) {
				t.Errorf("got %s, encoding/json %s", got, standard)
			}
		})
	}
}

type loop *loop

func TestLeavesRefuse(t *testing.T) {
	cyclic := map[string]any{}
	cyclic["a"] = cyclic
	circle := []any{nil}
	circle[0] = circle
	var pointer loop
	pointer = &pointer
	deep := any(1)
	for range 65 {
		deep = []any{deep}
	}
	for name, c := range map[string]struct {
		v       any
		want    error
		message string
	}{
		"nil":                       {nil, crdt.ErrValue, "must be a map or struct, not a null"},
		"a scalar":                  {7, crdt.ErrValue, "must be a map or struct, not a integer"},
		"a channel":                 {map[string]any{"a": map[string]any{"b": make(chan int)}}, crdt.ErrValue, `at "/a/b": invalid value: a chan int cannot be stored`},
		"a function in a list":      {map[string]any{"a": []any{0, func() {}}}, crdt.ErrValue, `at "/a": element 1: `},
		"a large unsigned integer":  {map[string]any{"a": uint64(1 << 63)}, crdt.ErrValue, "beyond a signed 64-bit integer"},
		"NaN":                       {map[string]any{"a": math.NaN()}, crdt.ErrValue, "not finite"},
		"infinity":                  {map[string]any{"a": float32(math.Inf(-1))}, crdt.ErrValue, "not finite"},
		"NaN as a Value":            {map[string]any{"a": crdt.FloatValue(math.NaN())}, crdt.ErrValue, "not finite"},
		"text that is not UTF-8":    {map[string]any{"a": "\xff"}, crdt.ErrValue, "store it as bytes"},
		"such text as a Value":      {map[string]any{"a": []any{crdt.StringValue("\xff")}}, crdt.ErrValue, "UTF-8"},
		"a name that is not UTF-8":  {map[string]any{"\xff": 1}, crdt.ErrPath, "UTF-8"},
		"such a name in a list":     {map[string]any{"a": []any{map[string]int{"\xff": 1}}}, crdt.ErrValue, "UTF-8"},
		"a counter in a list":       {map[string]any{"a": []any{crdt.CounterValue(1)}}, crdt.ErrValue, "counter"},
		"a large value":             {map[string]any{"a": make([]byte, crdt.MaxValueBytes)}, crdt.ErrLimit, `at "/a": value of`},
		"a map in a circle":         {cyclic, crdt.ErrLimit, "65 levels"},
		"a list in a circle":        {map[string]any{"a": circle}, crdt.ErrLimit, "65 levels"},
		"a pointer in a circle":     {map[string]any{"a": pointer}, crdt.ErrValue, "pointers"},
		"a list too deep":           {map[string]any{"a": deep}, crdt.ErrLimit, "65 levels"},
		"a long path":               {map[string]any{strings.Repeat("x", 4096): 1}, crdt.ErrLimit, "4097 bytes"},
		"two names the same":        {map[string]any{"a": map[stamp]int{{1}: 1, {2}: 2}}, crdt.ErrValue, `"same"`},
		"keys of another type":      {map[string]any{"a": map[float64]int{1: 1}}, crdt.ErrValue, "keys of type float64"},
		"a marshaler that fails":    {map[string]any{"a": failing{}}, errFailing, `at "/a"`},
		"a number that is none":     {map[string]any{"a": json.Number("x")}, crdt.ErrValue, "json.Number"},
		"a number beyond the range": {map[string]any{"a": json.Number("9223372036854775808")}, crdt.ErrValue, "beyond 64 bits"},
	} {
		t.Run(name, func(t *testing.T) {
			leaves, err := crdt.Leaves("", c.v)
			if !errors.Is(err, c.want) || !strings.Contains(err.Error(), c.message) {
				t.Errorf("leaves %.3v, error %v; want one with %q that wraps %q", leaves, err, c.message, c.want)
			}
		})
	}
}

type stamp struct{ n int }

func (stamp) MarshalText() ([]byte, error) { return []byte("same"), nil }

var errFailing = errors.New("it fails")

type failing struct{}

func (failing) MarshalJSON() ([]byte, error) { return nil, errFailing }

func TestLeavesOfGoData(t *testing.T) {
	n := 5
	p := &n
	for name, c := range map[string]struct {
		v    any
		want string
	}{
		"a nil map":        {map[string]int(nil), `{}`},
		"an empty map":     {map[string]any{}, `{}`},
		"nil inside":       {map[string]any{"a": []any(nil), "b": map[string]any(nil), "c": []byte(nil), "d": (*int)(nil)}, `{"a":null,"b":null,"c":null,"d":null}`},
		"empty inside":     {map[string]any{"a": []any{}, "b": map[string]any{}, "c": []byte{}}, `{"a":[],"b":{},"c":{"$bytes":""}}`},
		"pointers":         {map[string]any{"a": &p, "b": any(&p)}, `{"a":5,"b":5}`},
		"integers":         {map[string]any{"a": int8(-1), "b": uint64(math.MaxInt64), "c": uint8(3)}, `{"a":-1,"b":9223372036854775807,"c":3}`},
		"floats":           {map[string]any{"a": float32(1), "b": float32(0.1), "c": 1e300}, `{"a":1.0,"b":0.1,"c":1e+300}`},
		"numbers":          {map[string]any{"a": json.Number("1"), "b": json.Number("1.0"), "c": json.Number("")}, `{"a":1,"b":1.0,"c":0}`},
		"text marshalers":  {map[string]any{"a": stamp{}, "b": []any{stamp{}}}, `{"a":"same","b":["same"]}`},
		"keys in order":    {map[int]string{10: "x", 9: "y"}, `{"10":"x","9":"y"}`},
		"a map Value":      {crdt.MapValue(crdt.Member{Key: "a", Value: crdt.MapValue(crdt.Member{Key: "b", Value: crdt.IntValue(1)})}), `{"a":{"b":1}}`},
		"maps in lists":    {map[string]any{"a": []map[string]any{{"z": 1, "y": map[string]any{}}, nil}}, `{"a":[{"y":{},"z":1},null]}`},
		"another document": {set(1, 1, crdt.BytesValue([]byte{1}), "$bytes", "x"), `{"$$bytes":{"x":{"$bytes":"AQ=="}}}`},
	} {
		t.Run(name, func(t *testing.T) {
			if got := string(documentOf(t, c.v).AppendJSON(nil)); got != c.want {
				t.Errorf("got %s, want %s", got, c.want)
			}
		})
	}
}

func TestLeavesStandBelowTheirPath(t *testing.T) {
	for _, c := range []struct {
		v    any
		want []crdt.Leaf
	}{
		{7, []crdt.Leaf{leaf(crdt.IntValue(7), "p")}},
		{nil, []crdt.Leaf{leaf(crdt.Value{}, "p")}},
		{map[string]any{}, []crdt.Leaf{leaf(crdt.EmptyMapValue(), "p")}},
		{map[string]any{"b": 1, "a": map[string]any{"c": 2}}, []crdt.Leaf{leaf(crdt.IntValue(2), "p", "a", "c"), leaf(crdt.IntValue(1), "p", "b")}},
		{crdt.CounterValue(3), []crdt.Leaf{leaf(crdt.CounterValue(3), "p")}},
	} {
		got, err := crdt.Leaves(pack("p"), c.v)
		if err != nil || !reflect.DeepEqual(got, c.want) {
			t.Errorf("%v: %v, error %v; want %v", c.v, got, err, c.want)
		}
	}
	if v, err := crdt.ValueOf(map[string]any{"a": 1}); err != nil || v.Kind() != crdt.Map {
		t.Errorf("a map is %v, error %v", v, err)
	}
	if _, err := crdt.ValueOf(map[string]any{"\xff": 1}); !errors.Is(err, crdt.ErrValue) {
		t.Errorf("a name that is not UTF-8: error %v", err)
	}
}

func TestDecodeFitsTheDestination(t *testing.T) {
	for name, c := range map[string]struct {
		document  string
		dst, want any
	}{
		"into a map":                  {`{"a":9007199254740993,"b":{"$bytes":"AQ=="},"c":{"d":[1.0]}}`, &map[string]any{}, &map[string]any{"a": int64(9007199254740993), "b": []byte{1}, "c": map[string]any{"d": []any{1.0}}}},
		"into an interface":           {`{"a":1}`, new(any), ptr(any(map[string]any{"a": int64(1)}))},
		"into a map that has members": {`{"a":1}`, &map[string]int{"b": 2}, &map[string]int{"a": 1, "b": 2}},
		"names of another case":       {`{"COMMON":"x","official":"y"}`, &inner{}, &inner{Common: "x", Official: "y"}},
		"names that no field has":     {`{"common":"x","other":{"y":1}}`, &inner{Official: "kept"}, &inner{Common: "x", Official: "kept"}},
		"null": {`{"a":null,"b":null}`, &struct {
			A int
			B *int
		}{A: 3, B: new(int)}, &struct {
			A int
			B *int
		}{A: 3}},
		"whole floats into integers": {`{"A":3.0}`, &struct{ A int }{}, &struct{ A int }{3}},
		"integers into floats": {`{"A":3,"B":9007199254740992}`, &struct {
			A float32
			B float64
		}{}, &struct {
			A float32
			B float64
		}{3, 1 << 53}},
		"base64 into bytes":   {`{"A":"AP8="}`, &struct{ A []byte }{}, &struct{ A []byte }{[]byte{0, 255}}},
		"bytes into an array": {`{"A":{"$bytes":"AP8="}}`, &struct{ A [2]byte }{}, &struct{ A [2]byte }{[2]byte{0, 255}}},
		"lists into arrays": {`{"A":[1,2,3],"B":[1]}`, &struct {
			A [2]int
			B [2]int
		}{B: [2]int{7, 7}}, &struct {
			A [2]int
			B [2]int
		}{A: [2]int{1, 2}, B: [2]int{1, 0}}},
		"pointers to pointers":        {`{"A":1}`, &struct{ A **int }{}, &struct{ A **int }{ptr(ptr(1))}},
		"a map with integers as keys": {`{"-5":1,"7":2}`, &map[int8]int{}, &map[int8]int{-5: 1, 7: 2}},
		"a map with unsigned keys":    {`{"5":1}`, &map[uint8]int{}, &map[uint8]int{5: 1}},
		"a map with text keys":        {`{"2020-01-02T00:00:00Z":1}`, &map[time.Time]int{}, &map[time.Time]int{time.Date(2020, 1, 2, 0, 0, 0, 0, time.UTC): 1}},
		"numbers":                     {`{"A":1,"B":1.0}`, &struct{ A, B json.Number }{}, &struct{ A, B json.Number }{"1", "1.0"}},
		"raw JSON":                    {`{"A":{"$$bytes":[1.0,{"$bytes":"AQ=="},null,true,"<"]}}`, &struct{ A json.RawMessage }{}, &struct{ A json.RawMessage }{json.RawMessage(`{"$bytes":[1.0,"AQ==",null,true,"<"]}`)}},
		"values":                      {`{"A":[1.0],"B":{"c":1}}`, &struct{ A, B crdt.Value }{}, &struct{ A, B crdt.Value }{crdt.ArrayValue(crdt.FloatValue(1)), crdt.MapValue(crdt.Member{Key: "c", Value: crdt.IntValue(1)})}},
		"quoted numbers": {`{"A":"5","B":"true"}`, &struct {
			A int  `json:",string"`
			B bool `json:",string"`
		}{}, &struct {
			A int  `json:",string"`
			B bool `json:",string"`
		}{5, true}},
		"embedded pointers are made": {`{"Note":"x","id":3}`, &struct {
			*Extra
			base
		}{}, &struct {
			*Extra
			base
		}{&Extra{"x"}, base{ID: 3}}},
	} {
		t.Run(name, func(t *testing.T) {
			if err := document(t, c.document).Decode(c.dst); err != nil {
				t.Fatal(err)
			}
			if !reflect.DeepEqual(c.dst, c.want) {
				t.Errorf("got %+v, want %+v", c.dst, c.want)
			}
		})
	}
}

func ptr[T any](v T) *T { return &v }

func TestDecodeRefuses(t *testing.T) {
	for name, c := range map[string]struct {
		document string
		dst      any
		message  string
	}{
		"no pointer":                    {`{}`, city{}, "must be a pointer"},
		"nil":                           {`{}`, nil, "must be a pointer"},
		"a nil pointer":                 {`{}`, (*city)(nil), "must be a pointer"},
		"a scalar":                      {`{}`, new(int), "a map does not go there"},
		"an integer beyond its field":   {`{"a":{"b":[1,300]}}`, &map[string]map[string][]int8{}, `decode "/a/b/1" into int8: invalid value: 300 is out of its range`},
		"a negative one":                {`{"a":-1}`, &map[string]uint{}, "-1 is out of its range"},
		"one that a float cannot hold":  {`{"a":9007199254740993}`, &map[string]float64{}, "exactly"},
		"one that a small float cannot": {`{"a":16777217}`, &map[string]float32{}, "exactly"},
		"the greatest one into a float": {`{"a":9223372036854775807}`, &map[string]float64{}, "exactly"},
		"a float that is not whole":     {`{"a":1.5}`, &map[string]int{}, "not a whole number"},
		"a float beyond integers":       {`{"a":1e19}`, &map[string]int64{}, "not a whole number"},
		"a float beyond its field":      {`{"a":1e300}`, &map[string]float32{}, "out of its range"},
		"a string for an integer":       {`{"a":"1"}`, &map[string]int{}, "a string does not go there"},
		"a string for a number":         {`{"a":"1"}`, &map[string]json.Number{}, "a string does not go there"},
		"an integer for a string":       {`{"a":1}`, &map[string]string{}, "an integer does not go there"},
		"a float for a string":          {`{"a":1.0}`, &map[string]string{}, "a float does not go there"},
		"a boolean for a string":        {`{"a":true}`, &map[string]string{}, "a boolean does not go there"},
		"bytes for a string":            {`{"a":{"$bytes":""}}`, &map[string]string{}, "bytes (0 of them) do not go there"},
		"bytes for a shorter array":     {`{"a":{"$bytes":"AQI="}}`, &map[string][1]byte{}, "bytes (2 of them)"},
		"no base64":                     {`{"a":"?"}`, &map[string][]byte{}, "not base64"},
		"an array for a map":            {`{"a":[]}`, &map[string]map[string]int{}, "an array does not go there"},
		"a map for an array":            {`{"a":{"b":1}}`, &map[string][]int{}, "a map does not go there"},
		"a name that is no integer":     {`{"a":1}`, &map[int]int{}, `"a" is no key`},
		"a name beyond its type":        {`{"300":1}`, &map[uint8]int{}, `"300" is no key`},
		"a time that is none":           {`{"a":"yesterday"}`, &map[string]time.Time{}, `decode "/a" into time.Time`},
		"an interface with methods":     {`{"a":1}`, &map[string]fmt.Stringer{}, "an interface with methods"},
		"a quoted number that is none": {`{"A":"x"}`, &struct {
			A int `json:",string"`
		}{}, `decode "/A" into int`},
		"a circle of pointers": {`{"a":1}`, &map[string]loop{}, "does not go there"},
	} {
		t.Run(name, func(t *testing.T) {
			err := document(t, c.document).Decode(c.dst)
			var at *crdt.DecodeError
			if !errors.As(err, &at) || !strings.Contains(err.Error(), c.message) {
				t.Errorf("error %v, want one with %q", err, c.message)
			}
		})
	}
}
