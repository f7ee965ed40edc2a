//go:build linux

package main

import (
	"fmt"
	"io"
	"slices"

	"github.com/tandem-ipc/tandem/internal/measure"
)

// compare says which rows of two result files differ by more than their spreads: the most
// of all rounds of one is less than the least of the other.
func compare(a, b *measure.File, to io.Writer) {
	both, apart := 0, 0
	for _, r := range a.Rows {
		other := b.Row(r.Name)
		if other == nil || len(r.Nanos) == 0 || len(other.Nanos) == 0 {
			continue
		}
		both++
		if slices.Max(r.Nanos) < slices.Min(other.Nanos) || slices.Max(other.Nanos) < slices.Min(r.Nanos) {
			apart++
			fmt.Fprintf(to, "%s: %.4g ns [%.4g-%.4g], and %.4g ns [%.4g-%.4g]\n", r.Name,
				measure.Median(r.Nanos), slices.Min(r.Nanos), slices.Max(r.Nanos),
				measure.Median(other.Nanos), slices.Min(other.Nanos), slices.Max(other.Nanos))
		}
	}
	fmt.Fprintf(to, "the spreads of %d of %d rows overlap\n", both-apart, both)
}
