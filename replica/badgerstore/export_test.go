package badgerstore

// SetFormat and SetPhase change one thing in the sidecar file of a closed store.
func SetFormat(dir string, format int) error {
	return change(dir, func(sc *sidecar) { sc.Format = format })
}

func SetPhase(dir, p string) error {
	return change(dir, func(sc *sidecar) { sc.Phase = phase(p) })
}

// SetLast changes the commit that is known to be there.
func SetLast(dir string, by int) error {
	return change(dir, func(sc *sidecar) { sc.Last += uint64(by) })
}

// SetBoot pretends that the session before ran on another boot of the machine: that its power was cut.
func SetBoot(dir, boot string) error {
	return change(dir, func(sc *sidecar) { sc.Boot = boot })
}

// SetFree makes the store believe that so much is free on the disk.
func (s *Store) SetFree(n int64) {
	s.space.mu.Lock()
	defer s.space.mu.Unlock()
	s.space.free = func(string) (int64, error) { return n, nil }
	s.space.written = spaceCheckBytes
}

func change(dir string, f func(*sidecar)) error {
	sc, err := readSidecar(dir)
	if err != nil {
		return err
	}
	f(sc)
	return sc.write(dir)
}
