package grant

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"github.com/anabranch-db/anabranch/replica/protocol"
)

// Errors of statements.
var (
	// ErrMalformed: the bytes are no statement in its one form.
	ErrMalformed = errors.New("malformed statement")
	// ErrSignature: it is not signed by who it says.
	ErrSignature = errors.New("the signature does not fit")
	// ErrForeign: it is of another space.
	ErrForeign = errors.New("it is of another space")
	// ErrIssuer: its issuer was never an admin of the space, as far as is known here.
	ErrIssuer = errors.New("its issuer was never an admin of the space")
	// ErrFuture: it was issued in the future.
	ErrFuture = errors.New("it was issued in the future: the clock of its issuer is ahead, or this one behind")
	// ErrFull: a set holds MaxStatements.
	ErrFull = fmt.Errorf("the space has %d grants and revocations, the most there may be", MaxStatements)
)

// Millis is a moment in milliseconds since 1970; zero is never.
type Millis uint64

// At returns t as Millis. A time before 1970 becomes the first millisecond of it.
func At(t time.Time) Millis { return Millis(max(t.UnixMilli(), 1)) }

// Time returns the moment in UTC; the zero time for never.
func (m Millis) Time() time.Time {
	if m == 0 {
		return time.Time{}
	}
	return time.UnixMilli(int64(min(m, maxMillis))).UTC()
}

// maxMillis is what an HLC time can hold.
const maxMillis = 1<<48 - 1

// Kind says whether a statement gives rights or takes them.
type Kind uint8

// The kinds. Their numbers are part of the wire format.
const (
	KindGrant      Kind = 1
	KindRevocation Kind = 2
)

// TicketID names a ticket without its secret.
type TicketID [16]byte

// IsZero reports whether there is no ticket.
func (t TicketID) IsZero() bool { return t == TicketID{} }

func (t TicketID) String() string { return fmt.Sprintf("%x", t[:]) }

// Statement is a grant or a revocation: one signed sentence about one node of one space. It is not changed after it was signed.
type Statement struct {
	Kind    Kind
	Space   SpaceID
	Subject protocol.PeerID
	Rights  Rights // of a grant; None in a revocation
	Epoch   uint32 // at least 1; see the package comment
	Issued  Millis
	Expires Millis   // of a grant; zero: never
	Ticket  TicketID // by which the subject joined; zero: none
	// Issuer is the peer ID of who signed it, or the space ID for the space key.
	Issuer    protocol.PeerID
	Signature [ed25519.SignatureSize]byte
}

// ID names what a statement says and who says it. Two signatures under the same words are the same statement.
type ID [32]byte

// Size is the number of bytes of every statement.
const Size = signedSize + ed25519.SignatureSize

const (
	statementVersion = 1
	signedSize       = 3 + 4 + 8 + 8 + 3*32 + 16
	// domain begins everything that is signed, so that no signature made for a statement can be taken for another one's.
	domain = "anabranch statement 1\x00"
)

// appendSigned appends the part that is signed.
func (s *Statement) appendSigned(b []byte) []byte {
	b = append(b, statementVersion, byte(s.Kind), byte(s.Rights))
	b = binary.BigEndian.AppendUint32(b, s.Epoch)
	b = binary.BigEndian.AppendUint64(b, uint64(s.Issued))
	b = binary.BigEndian.AppendUint64(b, uint64(s.Expires))
	b = append(b, s.Space[:]...)
	b = append(b, s.Subject[:]...)
	b = append(b, s.Issuer[:]...)
	return append(b, s.Ticket[:]...)
}

// Append appends the statement, Size bytes.
func (s *Statement) Append(b []byte) []byte { return append(s.appendSigned(b), s.Signature[:]...) }

// Parse reads one statement. The form is canonical: whatever it accepts, Append gives back. The signature is not looked at; see Verify.
func Parse(b []byte) (Statement, error) {
	if len(b) != Size {
		return Statement{}, fmt.Errorf("%w: %d bytes, want %d", ErrMalformed, len(b), Size)
	}
	if b[0] != statementVersion {
		return Statement{}, fmt.Errorf("%w: version %d, want %d", ErrMalformed, b[0], statementVersion)
	}
	s := Statement{
		Kind: Kind(b[1]), Rights: Rights(b[2]), Epoch: binary.BigEndian.Uint32(b[3:]),
		Issued: Millis(binary.BigEndian.Uint64(b[7:])), Expires: Millis(binary.BigEndian.Uint64(b[15:])),
	}
	rest := b[23:]
	for _, field := range [][]byte{s.Space[:], s.Subject[:], s.Issuer[:], s.Ticket[:], s.Signature[:]} {
		rest = rest[copy(field, rest):]
	}
	return s, s.check()
}

// expired reports whether a grant is over at a time, by a clock that may be ahead by drift.
func (s *Statement) expired(now, drift Millis) bool { return s.Expires != 0 && s.Expires+drift <= now }

// check refuses what no issuer says.
func (s *Statement) check() error {
	wrong := ""
	switch {
	case s.Kind != KindGrant && s.Kind != KindRevocation:
		wrong = "it neither grants nor revokes"
	case s.Kind == KindGrant && (s.Rights < Read || s.Rights > Admin):
		wrong = "it grants no known rights"
	case s.Kind == KindRevocation && (s.Rights != None || s.Expires != 0 || !s.Ticket.IsZero()):
		wrong = "a revocation has no rights, expiry or ticket"
	case s.Epoch == 0:
		wrong = "its epoch is zero"
	case s.Issued == 0 || s.Issued > maxMillis || s.Expires > maxMillis:
		wrong = "its times cannot be"
	case s.Expires != 0 && s.Expires <= s.Issued:
		wrong = "it expires before it is issued"
	case s.Space.IsZero() || s.Subject.IsZero() || s.Issuer.IsZero():
		wrong = "it names nobody"
	}
	if wrong != "" {
		return fmt.Errorf("%w: %s", ErrMalformed, wrong)
	}
	return nil
}

// ID returns the statement's name.
func (s *Statement) ID() ID { return sha256.Sum256(s.appendSigned([]byte(domain))) }

// ByKey reports whether the space key signed it, or so it says.
func (s *Statement) ByKey() bool { return s.Issuer == protocol.PeerID(s.Space) }

// Sign fills in the signature. sign is the issuer's key at work.
func (s *Statement) Sign(sign func(message []byte) ([]byte, error)) error {
	if err := s.check(); err != nil {
		return err
	}
	sig, err := sign(s.appendSigned([]byte(domain)))
	if err != nil {
		return fmt.Errorf("sign a statement: %w", err)
	}
	if copy(s.Signature[:], sig) != len(s.Signature) {
		return fmt.Errorf("sign a statement: %w", ErrSignature)
	}
	return s.Verify()
}

// Verify checks the signature. It says nothing of whether the issuer may say so.
func (s *Statement) Verify() error {
	if !ed25519.Verify(s.Issuer[:], s.appendSigned([]byte(domain)), s.Signature[:]) {
		return ErrSignature
	}
	return nil
}

// AppendAll appends statements one after the other.
func AppendAll(b []byte, list []Statement) []byte {
	for i := range list {
		b = list[i].Append(b)
	}
	return b
}

// ParseAll reads what AppendAll wrote.
func ParseAll(b []byte) ([]Statement, error) {
	if len(b)%Size != 0 {
		return nil, fmt.Errorf("%w: %d bytes are not a multiple of %d", ErrMalformed, len(b), Size)
	}
	list := make([]Statement, 0, len(b)/Size)
	for ; len(b) > 0; b = b[Size:] {
		s, err := Parse(b[:Size])
		if err != nil {
			return nil, err
		}
		list = append(list, s)
	}
	return list, nil
}

// less orders statements by their bytes, to choose between two in the same way everywhere.
func less(a, b *Statement) bool {
	return bytes.Compare(a.appendSigned(nil), b.appendSigned(nil)) < 0
}
