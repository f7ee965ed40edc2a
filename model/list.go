package model

import (
	"encoding/binary"
	"fmt"
)

// A List is a sequence of numbers of any length that can be compared by ==, as
// everything in a state must be.
type List string

// numberSize is how many bytes a number takes in a List.
const numberSize = 4

// Len returns how many numbers there are.
func (l List) Len() int {
	return len(l) / numberSize
}

// At returns the i-th number, counted from 0.
func (l List) At(i int) int {
	return int(int32(binary.LittleEndian.Uint32([]byte(l[i*numberSize : (i+1)*numberSize]))))
}

// String returns the list as Go prints a slice.
func (l List) String() string {
	all := make([]int, l.Len())
	for i := range all {
		all[i] = l.At(i)
	}
	return fmt.Sprint(all)
}

// with returns the list with numbers added to it.
func (l List) with(numbers ...int) List {
	out := make([]byte, len(l), len(l)+len(numbers)*numberSize)
	copy(out, l)
	for _, n := range numbers {
		out = binary.LittleEndian.AppendUint32(out, uint32(n))
	}
	return List(out)
}

// part returns the numbers from the place from up to, not with, the place to, of
// which there are none if that is before.
func (l List) part(from, to int) List {
	if to <= from {
		return ""
	}
	return l[from*numberSize : to*numberSize]
}

// without returns the list without the i-th number.
func (l List) without(i int) List {
	return l.part(0, i) + l.part(i+1, l.Len())
}
