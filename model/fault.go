package model

import (
	"fmt"
	"slices"
)

// faults is a set of rules that are left out, each by its place in a list of the
// machine's. It is the constant Left of the modules.
type faults uint64

// faultsNamed returns the set of these names. A name that is not in the list is a
// mistake: the machine would be the sound one, and pass for a mutant that survives.
func faultsNamed(list, left []string) faults {
	var all faults
	for _, name := range left {
		i := slices.Index(list, name)
		if i < 0 {
			panic(fmt.Sprintf("model: there is no rule to leave out by the name %q", name))
		}
		all |= 1 << i
	}
	return all
}

// has reports whether the rule is left out.
func (f faults) has(i int) bool {
	return f&(1<<i) != 0
}
