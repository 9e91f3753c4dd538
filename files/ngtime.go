package files

import (
	"math"
	"math/bits"
)

// resolution reads an if_tsresol: the ns of a unit or, where that is no whole number, the units of a second. It says
// whether microseconds can tell all its times apart.
func resolution(r byte) (unit int64, perSec uint64, micro bool) {
	exponent := r & 0x7f
	switch {
	case r == 6:
		return 1000, 0, true
	case r == 9:
		return 1, 0, false
	case r < 9:
		unit = 1
		for range 9 - exponent {
			unit *= 10
		}
		return unit, 0, exponent <= 6
	case r&0x80 == 0 && exponent <= 19:
		perSec = 1
		for range exponent {
			perSec *= 10
		}
		return 0, perSec, false
	case r&0x80 != 0 && exponent <= 63:
		return 0, 1 << exponent, exponent == 0
	}
	return -int64(r) - 1, 0, false
}

// mostSeconds is how far from 1970 times may be: int64 has room for nanoseconds up to 2262, and from 1677 on.
const mostSeconds = math.MaxInt64/1_000_000_000 - 1

// time converts a timestamp. One that does not fit into int64 nanoseconds stops at its ends, and ok is false.
func (in *ngInterface) time(ticks uint64) (t int64, ok bool) {
	var sec, ns uint64
	switch {
	case in.unit < 0:
		ns = fineTime(byte(-in.unit-1), ticks)
	case in.perSec == 0:
		if in.offset == 0 && ticks <= math.MaxInt64/uint64(in.unit) {
			return int64(ticks) * in.unit, true
		}
		perSec := 1e9 / uint64(in.unit)
		sec, ns = ticks/perSec, ticks%perSec*uint64(in.unit)
	default:
		sec = ticks / in.perSec
		hi, lo := bits.Mul64(ticks%in.perSec, 1e9)
		ns, _ = bits.Div64(hi, lo, in.perSec)
	}
	// The sum may be small where the two are not.
	whole, carry := bits.Add64(sec, uint64(in.offset), 0)
	negative := in.offset < 0 && carry == 0
	switch {
	case negative && int64(whole) < -mostSeconds:
		return -mostSeconds * 1e9, false
	case !negative && (in.offset >= 0 && carry != 0 || whole > mostSeconds):
		return mostSeconds * 1e9, false
	}
	return int64(whole)*1e9 + int64(ns), true
}

// fineTime is a time in units of which there are more in a second than uint64 has room for: within the first one. The
// unit is an if_tsresol.
func fineTime(resolution byte, ticks uint64) (ns uint64) {
	exponent := int(resolution & 0x7f)
	if resolution&0x80 != 0 {
		hi, _ := bits.Mul64(ticks, 1e9)
		return hi >> (exponent - 64)
	}
	for range exponent - 9 {
		ticks /= 10
	}
	return ticks
}
