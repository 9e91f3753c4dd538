package merge

import "testing"

// TestLinkTypeFits has the shortest packets of link types that have a pseudo-header.
func TestLinkTypeFits(t *testing.T) {
	irda, lapd, erf := make([]byte, 16), make([]byte, 16), make([]byte, 20)
	irda[15], lapd[15] = 0x17, 0x30
	long := append(make([]byte, 8), 0x80, 0, 0, 0, 0, 0, 0, 0, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0)
	endless := make([]byte, 1000)
	for i := range endless {
		endless[i] = 0xff
	}
	for _, how := range []struct {
		link   LinkType
		packet []byte
		fits   bool
	}{
		{LinkTypeEthernet, nil, true}, {LinkTypeLinuxSLL2, nil, true}, {65535, nil, true},
		{123, make([]byte, 4), true}, {123, make([]byte, 3), false},
		{144, irda, true}, {144, irda[:15], false}, {144, lapd, false},
		{177, lapd, true}, {177, irda, false}, {177, nil, false},
		{196, make([]byte, 5), true}, {196, make([]byte, 4), false},
		{197, erf, true}, {197, erf[:19], false}, {197, long, true}, {197, long[:35], false}, {197, endless, false}, {197, nil, false},
		{204, make([]byte, 1), true}, {204, nil, false}, {245, make([]byte, 2), true}, {245, make([]byte, 1), false},
	} {
		if got := how.link.Fits(how.packet); got != how.fits {
			t.Errorf("%v, %d bytes: fits %v, want %v", how.link, len(how.packet), got, how.fits)
		}
		if !how.fits && !how.link.picky() {
			t.Errorf("%v is not picky", how.link)
		}
	}
}
