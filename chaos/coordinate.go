package chaos

import (
	"fmt"
	"hash/fnv"
	"strconv"
	"strings"

	"github.com/tandem-ipc/tandem/ipc"
)

// A coordinate says where somebody dies, so that a case can be printed and
// played again: "client:send,batch,release/client@7/server@3" is a client that
// sends, sends a batch and releases, and dies at its seventh step from the first
// operation on; and a server that dies at its third step of the recovery. With
// "recorded," before it the machines of the specification follow what they do.
type coordinate struct {
	Recorded   bool
	Actor      ipc.Role
	Operations []string
	Deaths     []point
}

// start is where the positions begin in a case: for every second one at 0, and for the
// others so near to 2^64 that its few messages come to it.
func (c coordinate) start() uint64 {
	h := fnv.New32a()
	_, _ = h.Write([]byte(c.String()))
	if n := uint64(h.Sum32()); n%2 == 1 {
		return -(8 * (n >> 1 % uint64(pageSize/8)))
	}
	return 0
}

// A point is a step at which somebody dies: the n-th of the victim's own, or of
// the clock's, as in "server@client.7".
type point struct {
	Victim, Clock ipc.Role
	N             int
}

func (p point) String() string {
	if p.Victim == p.Clock {
		return fmt.Sprintf("%v@%d", p.Victim, p.N)
	}
	return fmt.Sprintf("%v@%v.%d", p.Victim, p.Clock, p.N)
}

func (c coordinate) String() string {
	text := fmt.Sprintf("%v:%s", c.Actor, strings.Join(c.Operations, ","))
	if c.Recorded {
		text = recordedCase + text
	}
	for _, p := range c.Deaths {
		text += "/" + p.String()
	}
	return text
}

// recordedCase begins the coordinate of a recorded case.
const recordedCase = "recorded,"

func parseRole(text string) (ipc.Role, error) {
	for _, role := range roles {
		if role.String() == text {
			return role, nil
		}
	}
	return 0, fmt.Errorf("chaos: %q is neither server nor client", text)
}

var roles = []ipc.Role{ipc.RoleServer, ipc.RoleClient}

// parseCoordinate is the inverse of String.
func parseCoordinate(text string) (c coordinate, err error) {
	text, c.Recorded = strings.CutPrefix(text, recordedCase)
	parts := strings.Split(text, "/")
	actor, operations, found := strings.Cut(parts[0], ":")
	if c.Actor, err = parseRole(actor); err != nil {
		return c, err
	}
	if !found || operations == "" {
		return c, fmt.Errorf("chaos: %q names no operation", text)
	}
	c.Operations = strings.Split(operations, ",")
	for _, part := range parts[1:] {
		p, err := parsePoint(part)
		if err != nil {
			return c, err
		}
		c.Deaths = append(c.Deaths, p)
	}
	return c, nil
}

func parsePoint(text string) (p point, err error) {
	victim, at, found := strings.Cut(text, "@")
	if !found {
		return p, fmt.Errorf("chaos: %q is no point such as client@7", text)
	}
	if p.Victim, err = parseRole(victim); err != nil {
		return p, err
	}
	p.Clock = p.Victim
	if clock, n, crossed := strings.Cut(at, "."); crossed {
		if p.Clock, err = parseRole(clock); err != nil {
			return p, err
		}
		at = n
	}
	if p.N, err = strconv.Atoi(at); err != nil || p.N < 1 {
		return p, fmt.Errorf("chaos: %q is no point such as client@7", text)
	}
	return p, nil
}

// opens reports whether an operation opens or closes something: there, each side
// dies at its own steps only.
func opens(operation string) bool {
	switch operation {
	case "listen", "dial", "reattach", "close":
		return true
	}
	return false
}

// beginnings are the sequences in which the pair comes about.
var beginnings = [][]string{{"listen"}, {"listen", "dial"}}

// sequences are all sequences of up to so many operations. Whatever ends a
// sequence stands at its end; shorter ones come first.
func sequences(longest int) (all [][]string) {
	prefixes := [][]string{{}}
	for range longest {
		var longer [][]string
		for _, prefix := range prefixes {
			for _, last := range append(append([]string{}, briefOperations...), finalOperations...) {
				all = append(all, append(append([]string{}, prefix...), last))
			}
			for _, last := range briefOperations {
				longer = append(longer, append(append([]string{}, prefix...), last))
			}
		}
		prefixes = longer
	}
	return all
}
