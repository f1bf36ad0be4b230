package grant

import (
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base32"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/anabranch-db/anabranch/replica/protocol"
)

// ErrTicket says that a text is no ticket, or not as it was made.
var ErrTicket = errors.New("this is no sound ticket")

// The limits of a ticket.
const (
	MaxTicketAddrs     = 8
	MaxTicketAddrBytes = 255
	MaxTicketNameBytes = 255
	MaxTicketUses      = 1<<16 - 1
	maxTicketBytes     = 4 << 10
)

// Ticket is an invitation that can be handed over as one line of text. Whoever has it may join: it prints as its ID, never as its text.
type Ticket struct {
	Space   SpaceID
	Name    string // what the inviter calls the space
	Inviter protocol.PeerID
	Rights  Rights
	Expires Millis // the last moment to join
	Uses    uint16 // how many nodes may join with it
	Addrs   []string
	secret  [ed25519.SeedSize]byte
}

const (
	ticketPrefix  = "anabranch-ticket1"
	ticketVersion = 1
	ticketDomain  = "anabranch ticket 1\x00"
	proofDomain   = "anabranch join 1\x00"
)

var ticketEncoding = base32.StdEncoding.WithPadding(base32.NoPadding)

// SetSecret gives a ticket in the making its secret, 32 random bytes.
func (t *Ticket) SetSecret(secret [32]byte) { t.secret = secret }

// Key returns the public half of the ticket's key.
func (t *Ticket) Key() (key [32]byte) {
	copy(key[:], ed25519.NewKeyFromSeed(t.secret[:]).Public().(ed25519.PublicKey))
	return key
}

// ID names the ticket.
func (t *Ticket) ID() TicketID { return TicketOf(t.Key()) }

// TicketOf returns the ID of the ticket with the given public key.
func TicketOf(key [32]byte) (id TicketID) {
	h := sha256.Sum256(append([]byte(ticketDomain), key[:]...))
	copy(id[:], h[:])
	return id
}

func (t Ticket) String() string   { return "ticket " + t.ID().String() }
func (t Ticket) GoString() string { return t.String() }

// Format keeps every verb of package fmt away from the secret.
func (t Ticket) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte(t.String())) }

// Text returns the line to hand over. sign is the inviter's key at work.
func (t *Ticket) Text(sign func(message []byte) ([]byte, error)) (string, error) {
	if err := t.check(); err != nil {
		return "", err
	}
	b := []byte{ticketVersion, byte(t.Rights)}
	b = binary.BigEndian.AppendUint16(b, t.Uses)
	b = binary.BigEndian.AppendUint64(b, uint64(t.Expires))
	b = slices.Concat(b, t.Space[:], t.Inviter[:], t.secret[:])
	for _, text := range append([]string{t.Name}, t.Addrs...) {
		b = append(append(b, byte(len(text))), text...)
	}
	sig, err := sign(append([]byte(ticketDomain), b...))
	if err != nil {
		return "", fmt.Errorf("sign a ticket: %w", err)
	}
	return ticketPrefix + strings.ToLower(ticketEncoding.EncodeToString(append(b, sig...))), nil
}

func (t *Ticket) check() error {
	switch {
	case t.Rights < Read || t.Rights > Admin:
		return fmt.Errorf("%w: it grants no known rights", ErrTicket)
	case t.Uses == 0 || t.Expires == 0 || t.Expires > maxMillis:
		return fmt.Errorf("%w: it can never be used", ErrTicket)
	case t.Space.IsZero() || t.Inviter.IsZero():
		return fmt.Errorf("%w: it names nobody", ErrTicket)
	case t.Name == "" || len(t.Name) > MaxTicketNameBytes || !utf8.ValidString(t.Name):
		return fmt.Errorf("%w: the name of its space cannot be", ErrTicket)
	case len(t.Addrs) > MaxTicketAddrs:
		return fmt.Errorf("%w: it has %d addresses, at most %d", ErrTicket, len(t.Addrs), MaxTicketAddrs)
	}
	for _, a := range t.Addrs {
		if a == "" || len(a) > MaxTicketAddrBytes || !utf8.ValidString(a) {
			return fmt.Errorf("%w: one of its addresses cannot be", ErrTicket)
		}
	}
	return nil
}

const ticketFixed = 2 + 2 + 8 + 3*32

// ParseTicket reads the line that Text returns. White space in it and around it does not matter, nor does case. A ticket of which any character was
// changed is refused; whether it may still be used, only the inviter knows.
func ParseTicket(text string) (*Ticket, error) {
	if len(text) > 2*maxTicketBytes {
		return nil, fmt.Errorf("%w: %d characters are too many", ErrTicket, len(text))
	}
	text = strings.ToLower(strings.Join(strings.Fields(text), ""))
	body, ok := strings.CutPrefix(text, ticketPrefix)
	if !ok {
		return nil, fmt.Errorf("%w: it does not begin with %s", ErrTicket, ticketPrefix)
	}
	b, err := ticketEncoding.DecodeString(strings.ToUpper(body))
	if err != nil || strings.ToLower(ticketEncoding.EncodeToString(b)) != body {
		return nil, fmt.Errorf("%w: it was cut off or altered: copy it whole", ErrTicket)
	}
	return parseTicket(b)
}

func parseTicket(b []byte) (*Ticket, error) {
	if len(b) < ticketFixed+1+ed25519.SignatureSize || len(b) > maxTicketBytes {
		return nil, fmt.Errorf("%w: it was cut off: copy it whole", ErrTicket)
	}
	signed, sig := b[:len(b)-ed25519.SignatureSize], b[len(b)-ed25519.SignatureSize:]
	if b[0] != ticketVersion {
		return nil, fmt.Errorf("%w: it is of version %d, and this program knows %d", ErrTicket, b[0], ticketVersion)
	}
	t := &Ticket{Rights: Rights(b[1]), Uses: binary.BigEndian.Uint16(b[2:]), Expires: Millis(binary.BigEndian.Uint64(b[4:]))}
	rest := signed[12:]
	for _, field := range [][]byte{t.Space[:], t.Inviter[:], t.secret[:]} {
		rest = rest[copy(field, rest):]
	}
	if !ed25519.Verify(t.Inviter[:], append([]byte(ticketDomain), signed...), sig) {
		return nil, fmt.Errorf("%w: it was altered: copy it again", ErrTicket)
	}
	var texts []string
	for len(rest) > 0 {
		n := int(rest[0])
		if n > len(rest)-1 || len(texts) > MaxTicketAddrs {
			return nil, fmt.Errorf("%w: it was made wrongly", ErrTicket)
		}
		texts = append(texts, string(rest[1:1+n]))
		rest = rest[1+n:]
	}
	t.Name, t.Addrs = texts[0], texts[1:]
	return t, t.check()
}

// Proof shows that its maker has the secret of a ticket, for one node that joins one space through one other: it is worth nothing to anybody else.
type Proof [ed25519.SignatureSize]byte

// Prove returns the proof of a node.
func (t *Ticket) Prove(joiner protocol.PeerID) (p Proof) {
	copy(p[:], ed25519.Sign(ed25519.NewKeyFromSeed(t.secret[:]), proofMessage(t.Space, joiner, t.Inviter)))
	return p
}

// Proves reports whether p was made with the secret of the ticket with the given public key, by joiner, for inviter. The node at the other end must
// have proven that it is joiner.
func (p Proof) Proves(key [32]byte, space SpaceID, joiner, inviter protocol.PeerID) bool {
	return ed25519.Verify(key[:], proofMessage(space, joiner, inviter), p[:])
}

func proofMessage(space SpaceID, joiner, inviter protocol.PeerID) []byte {
	return slices.Concat([]byte(proofDomain), space[:], joiner[:], inviter[:])
}
