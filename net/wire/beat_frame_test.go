package wire

import (
	"encoding/hex"
	"testing"
)

func TestBeatIsSkipped(t *testing.T) {
	b, err := AppendBeat(nil)
	if err != nil {
		t.Fatal(err)
	}
	// The bytes of version 1: they do not change.
	if got, want := hex.EncodeToString(b), "00000024"+"04"+"91c420"+"0000000000000000000000000000000000000000000000000000000000000000"; got != want {
		t.Errorf("the frame is %s, and not %s", got, want)
	}
	if m, err := UnmarshalControl(b); m != nil || err != nil {
		t.Errorf("on the control stream: %v, %v", m, err)
	}
	if _, err := Unmarshal(b); err == nil {
		t.Error("a session takes it")
	}
}
