package gateway

import (
	"encoding/base64"
	"errors"
	"fmt"

	"github.com/anabranch-db/anabranch/crdt"
	"github.com/anabranch-db/anabranch/crdt/codec"
)

// A portable cursor is a version vector: what a client has, in a form that any node of the space can go on from.

// formatVector returns the portable cursor; "" if it would be too large.
func formatVector(vv crdt.VersionVector) string {
	b := codec.AppendVector(nil, vv)
	if base64.RawURLEncoding.EncodedLen(len(b)) > maxVectorBytes {
		return ""
	}
	return base64.RawURLEncoding.EncodeToString(b)
}

func parseVector(text string) (crdt.VersionVector, error) {
	if len(text) > maxVectorBytes {
		return crdt.VersionVector{}, fmt.Errorf("it has more than %d bytes", maxVectorBytes)
	}
	b, err := base64.RawURLEncoding.Strict().DecodeString(text)
	if err != nil {
		return crdt.VersionVector{}, errors.New("it is not base64 for URLs without padding")
	}
	vv, rest, err := codec.ParseVector(b)
	if err == nil && len(rest) > 0 {
		err = errors.New("there is more after its end")
	}
	return vv, err
}
