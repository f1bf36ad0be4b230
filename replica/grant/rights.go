package grant

import "fmt"

// Rights says what a node may do in a space. Each includes the ones before it.
type Rights uint8

// The rights. Their numbers are part of the wire format.
const (
	None  Rights = iota
	Read         // receive everything
	Write        // and change documents
	Admin        // and grant and revoke rights
)

func (r Rights) String() string {
	switch r {
	case None:
		return "none"
	case Read:
		return "read"
	case Write:
		return "write"
	case Admin:
		return "admin"
	}
	return fmt.Sprintf("rights %d", uint8(r))
}
