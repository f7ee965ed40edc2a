package ipc

// starts knows where in its ring the records of a producer begin: one bit for
// every place at which one can. A server needs it, because a hostile client that
// releases half a record would leave its successor to begin in the middle (T1).
// It lies in private memory. A nil starts knows nothing and allows everything.
type starts []uint64

const placesPerWord = 64

func newStarts(ringSize uint64) starts {
	return make(starts, ringSize/recordAlign/placesPerWord)
}

// mark records that one record takes the bytes from pos to next.
func (s starts) mark(pos, next uint64) {
	if s == nil {
		return
	}
	places := uint64(len(s)) * placesPerWord
	first := pos / recordAlign & (places - 1)
	bit := uint64(1) << (first % placesPerWord)
	for at, count := first, (next-pos)/recordAlign; count > 0; {
		part := min(count, placesPerWord-at%placesPerWord)
		s[at/placesPerWord] &^= (1<<part - 1) << (at % placesPerWord)
		at, count = (at+part)&(places-1), count-part
	}
	s[first/placesPerWord] |= bit
}

// allows reports whether a record begins at pos, or at least may. It reads beside
// a sender by design: who asks has seen pos committed and not yet written over,
// and the sender does not change its bit.
//
//go:norace
func (s starts) allows(pos uint64) bool {
	if s == nil {
		return true
	}
	at := pos / recordAlign & (uint64(len(s))*placesPerWord - 1)
	return s[at/placesPerWord]>>(at%placesPerWord)&1 != 0
}
