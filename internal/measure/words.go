package measure

import "encoding/binary"

const (
	// wordStep is between two words of a message.
	wordStep = 0x9E3779B97F4A7C15

	// lastNumber is the number of the message that ends a run.
	lastNumber = ^uint64(0)

	// tooFar is more than a run has messages: a number that is further ahead is spoiled.
	tooFar = 1 << 40
)

// A Source makes the messages of one direction.
type Source struct {
	next  uint64
	every bool // every word of a message is written
	last  bool // the next message is the one that ends the run
	bare  bool // what was in the message before stays
}

// Fill makes the next message.
func (s *Source) Fill(m []byte) {
	n := s.next
	s.next++
	if s.bare && !s.last {
		return
	}
	if s.last {
		n = lastNumber
	}
	binary.LittleEndian.PutUint64(m, n)
	final := uint64(len(m)/8 - 1)
	if s.every || s.last {
		for k := uint64(1); k <= final; k++ {
			binary.LittleEndian.PutUint64(m[k*8:], n+k*wordStep)
		}
		return
	}
	if final > 0 {
		binary.LittleEndian.PutUint64(m[final*8:], n+final*wordStep)
	}
}

// A Sink judges the messages of one direction.
type Sink struct {
	Wrong, Missing uint64
	Ended          bool // the message that ends the run has come

	next  uint64
	size  int
	every bool
	bare  bool // only the message that ends the run is looked for
	touch bool // one word of each cache line is read: the message is a view
	seen  uint64
	each  func(n uint64) // is called for each message, if set, instead of judging it
}

// Take judges a message.
func (s *Sink) Take(m []byte) {
	if len(m) != s.size {
		s.Wrong++
		s.next++
		return
	}
	n := binary.LittleEndian.Uint64(m)
	if s.bare {
		s.next++
		s.Ended = n == lastNumber
		return
	}
	if s.each != nil {
		s.each(n)
		s.Ended = n == lastNumber
		return
	}
	final := uint64(len(m)/8 - 1)
	sound := binary.LittleEndian.Uint64(m[final*8:]) == n+final*wordStep
	switch {
	case n == s.next:
		s.next++
	case n == lastNumber:
		s.Ended = true
	case n > s.next && n-s.next < tooFar:
		s.Missing += n - s.next
		s.next = n + 1
	case n < s.next:
		s.Wrong++ // it came already
		return
	default: // its number is spoiled, so the next one is as before it
		s.Wrong++
		s.next++
		return
	}
	if s.every {
		for k := uint64(1); k < final && sound; k++ {
			sound = binary.LittleEndian.Uint64(m[k*8:]) == n+k*wordStep
		}
	} else if s.touch {
		for i := 64; i < len(m)-8; i += 64 {
			s.seen += uint64(m[i])
		}
	}
	if !sound {
		s.Wrong++
	}
}

// Last says whether the next message, or the one that was just made, ends the run.
func (s *Source) Last() bool { return s.last }
