package wire

// SpaceOpen: [space str].

// AppendSpaceOpen appends the frame that opens a stream for the named space.
func AppendSpaceOpen(dst []byte, space string) ([]byte, error) {
	e := begin(dst, TypeSpaceOpen, 1)
	e.fail("space", checkSpace(space))
	e.str("space", space, MaxSpaceBytes)
	return e.end()
}

// ParseSpaceOpen parses a whole SpaceOpen frame.
func ParseSpaceOpen(b []byte) (space string, err error) {
	body, err := expect(TypeSpaceOpen, b)
	if err != nil {
		return "", err
	}
	d := open(TypeSpaceOpen, body)
	d.next("space")
	space = d.str("space", MaxSpaceBytes)
	d.fail("space", checkSpace(space))
	if err := d.close(); err != nil {
		return "", err
	}
	return space, nil
}
