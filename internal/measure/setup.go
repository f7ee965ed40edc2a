package measure

import (
	"flag"
	"fmt"
	"io"
	"time"
)

// What is done in a cell. See bench/DRIVERS.md.
const (
	RoundTrip = "roundtrip" // there and back, one after the other
	OneWay    = "oneway"    // the server sends, the client receives
	Both      = "both"      // both send and receive at the same time
	Requests  = "requests"  // several round trips under way
	Idle      = "idle"      // both are there, and say nothing
	Survive   = "survive"   // one side is killed again and again: see survive.go
	Lose      = "lose"      // the same while messages flow
)

// In what form a message is given and taken.
const (
	Copy  = "copy"
	View  = "view"
	Batch = "batch"
)

// How a process waits.
const (
	Spin    = "spin"
	Block   = "block"
	Default = "default"
)

// Where the two processes run.
const (
	Apart    = "apart" // each bound to a processor of its own
	Together = "one"   // both bound to one processor
	Free     = "free"  // wherever the kernel puts them
)

// A Setup is the command line of a driver.
type Setup struct {
	Role string // server or client
	Name string
	Dir  string // what the two share lies here

	Work, Form, Wait  string
	Size, InFlight    int
	Warm, Time, Pause time.Duration
	Check             bool
	Bare              bool // messages are neither numbered nor looked at
	Ring              int  // bytes of each ring, for a contender that has rings; 0: large enough
}

// ParseSetup reads the command line of a driver.
func ParseSetup(args []string) (*Setup, error) {
	if len(args) == 0 || args[0] != "server" && args[0] != "client" {
		return nil, fmt.Errorf("the first argument of a driver is server or client")
	}
	s := &Setup{Role: args[0]}
	flags := flag.NewFlagSet("driver", flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	flags.StringVar(&s.Name, "name", "", "")
	flags.StringVar(&s.Dir, "dir", "", "")
	flags.StringVar(&s.Work, "work", RoundTrip, "")
	flags.StringVar(&s.Form, "form", Copy, "")
	flags.StringVar(&s.Wait, "wait", Default, "")
	flags.IntVar(&s.Size, "size", 64, "")
	flags.IntVar(&s.InFlight, "inflight", 1, "")
	flags.IntVar(&s.Ring, "ring", 0, "")
	warm := flags.Int("warm", 0, "")
	measured := flags.Int("time", 100, "")
	pause := flags.Int("pause", 0, "")
	check := flags.Int("check", 0, "")
	flags.BoolVar(&s.Bare, "bare", false, "")
	if err := flags.Parse(args[1:]); err != nil {
		return nil, err
	}
	if s.Size < 8 || s.Size%8 != 0 || s.InFlight < 1 || s.Dir == "" || flags.NArg() > 0 {
		return nil, fmt.Errorf("want -dir, a -size that is a multiple of 8, and -inflight of at least 1")
	}
	s.Warm, s.Time = time.Duration(*warm)*time.Millisecond, time.Duration(*measured)*time.Millisecond
	s.Pause, s.Check = time.Duration(*pause)*time.Microsecond, *check != 0
	return s, nil
}

// Args is the command line that ParseSetup reads.
func (s *Setup) Args() []string {
	check := 0
	if s.Check {
		check = 1
	}
	args := []string{s.Role, "-name", s.Name, "-dir", s.Dir, "-work", s.Work, "-form", s.Form,
		"-size", fmt.Sprint(s.Size), "-inflight", fmt.Sprint(s.InFlight), "-wait", s.Wait,
		"-warm", fmt.Sprint(s.Warm.Milliseconds()), "-time", fmt.Sprint(s.Time.Milliseconds()),
		"-pause", fmt.Sprint(s.Pause.Microseconds()), "-check", fmt.Sprint(check)}
	if s.Ring > 0 {
		args = append(args, "-ring", fmt.Sprint(s.Ring)) // foreign drivers do not know it
	}
	if s.Bare {
		args = append(args, "-bare")
	}
	return args
}

// A Report is what a driver says in its last line.
type Report struct {
	Messages    uint64 `json:"messages"`
	Nanos       uint64 `json:"ns"`
	Histogram   string `json:"histogram,omitempty"`
	CPUNanos    uint64 `json:"cpu_ns,omitempty"`
	Switches    uint64 `json:"switches,omitempty"`
	Allocations *int64 `json:"allocations,omitempty"`
	Resident    uint64 `json:"rss,omitempty"`
	Wrong       uint64 `json:"wrong"`
	Missing     uint64 `json:"missing"`
	Total       uint64 `json:"total,omitempty"` // messages of the whole run, both ways, for who counts system calls
	Version     string `json:"version,omitempty"`
	Settings    string `json:"settings,omitempty"`
	Unsupported string `json:"unsupported,omitempty"`

	// Of Scale.
	Opened       uint64 `json:"opened_ns,omitempty"` // until all pairs were attached
	Descriptors  int    `json:"descriptors,omitempty"`
	Threads      int    `json:"threads,omitempty"`
	Proportional uint64 `json:"pss,omitempty"` // memory, where a shared page counts half
}
