//go:build !unix

package files

// mostOpen is how many inputs may be open at once.
func mostOpen() int { return 400 }
