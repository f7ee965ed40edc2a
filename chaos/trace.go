package chaos

// Messages of traced runs all take one of traceSlots places of a ring, as those of
// the specification do.
const (
	traceSlots    = 4
	traceSlotSize = 1024
	traceRingSize = traceSlots * traceSlotSize
)

// A trace is what all processes of one scene have recorded.
type trace struct {
	Seed   uint64
	Kills  int
	Lost   int          // events for which there was no room
	Roles  map[int]bool // of the processes: whether it is a server
	Events []recorded
}
