package chaos

// A trace is what all processes of one scene have recorded.
type trace struct {
	Seed   uint64
	Kills  int
	Lost   int          // events for which there was no room
	Roles  map[int]bool // of the processes: whether it is a server
	Events []recorded
}
