package files

// SetMaxHeld sets the bound of what is held of blocks that are no packets, until the returned func is called.
func SetMaxHeld(n int) (restore func()) {
	before := maxHeld
	maxHeld = n
	return func() { maxHeld = before }
}

// SetRoundSize sets how much is read for a round, until the returned func is called.
func SetRoundSize(n int) (restore func()) {
	before := roundSize
	roundSize = n
	return func() { roundSize = before }
}
