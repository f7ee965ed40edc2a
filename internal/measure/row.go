package measure

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"time"
)

// A Cell is one thing to measure of one contender.
type Cell struct {
	Contender string        `json:"contender"`
	Work      string        `json:"work"`
	Form      string        `json:"form"`
	Wait      string        `json:"wait"`
	Place     string        `json:"place"`
	Size      int           `json:"size"`
	InFlight  int           `json:"inflight"`
	Pause     time.Duration `json:"pause,omitempty"`
	Busy      bool          `json:"busy,omitempty"` // other work keeps all processors busy
	Ring      int           `json:"ring,omitempty"`
	Bare      bool          `json:"bare,omitempty"`  // messages are neither numbered nor looked at
	Short     bool          `json:"short,omitempty"` // 15 ms from the first message on, nothing before
}

// Name is how the page names the row of this cell.
func (c Cell) Name() string {
	parts := []string{c.Contender, c.Work, SizeText(c.Size), c.Form, c.Wait, c.Place}
	if c.InFlight > 1 {
		parts = append(parts, fmt.Sprintf("inflight %d", c.InFlight))
	}
	if c.Pause > 0 {
		parts = append(parts, "asleep")
	}
	if c.Busy {
		parts = append(parts, "busy")
	}
	if c.Ring > 0 {
		parts = append(parts, "ring "+SizeText(c.Ring))
	}
	if c.Bare {
		parts = append(parts, "bare")
	}
	if c.Short {
		parts = append(parts, "short")
	}
	return strings.Join(parts, " / ")
}

// SizeText is a number of bytes for people.
func SizeText(n int) string {
	switch {
	case n >= 1<<20 && n%(1<<20) == 0:
		return fmt.Sprintf("%d MiB", n>>20)
	case n >= 1<<10 && n%(1<<10) == 0:
		return fmt.Sprintf("%d KiB", n>>10)
	}
	return fmt.Sprintf("%d B", n)
}

// A Row is what was measured of a cell, with a figure a round.
type Row struct {
	Cell
	Name        string      `json:"name"`
	Nanos       []float64   `json:"ns"`     // of one message or round trip
	Floors      []float64   `json:"floors"` // the mean of the floor right before and right after
	Percentiles Percentiles `json:"percentiles,omitzero"`
	Histogram   string      `json:"histogram,omitempty"` // of all rounds
	CPU         []float64   `json:"cpu_ns,omitempty"`    // of both processes, a message
	Switches    []float64   `json:"switches,omitempty"`
	Allocations []float64   `json:"allocations,omitempty"`
	Resident    []float64   `json:"rss,omitempty"` // of both processes together
	Wrong       uint64      `json:"wrong"`         // in all rounds, and where every word was checked
	Missing     uint64      `json:"missing"`
	Checked     uint64      `json:"checked"` // messages whose every word was checked
	Version     string      `json:"version,omitempty"`
	Settings    string      `json:"settings,omitempty"`
	Unsupported string      `json:"unsupported,omitempty"`
	Failures    int         `json:"failures,omitempty"` // rounds that gave nothing
	Failure     string      `json:"failure,omitempty"`  // what was wrong the last time
}

// patience is how many rounds may give nothing before a cell is given up.
const patience = 3

func (r *Row) givenUp() bool { return r.Unsupported != "" || r.Failures >= patience }

// Percentiles are of the times of single round trips, in nanoseconds.
type Percentiles struct {
	P50  int64 `json:"p50"`
	P90  int64 `json:"p90"`
	P99  int64 `json:"p99"`
	P999 int64 `json:"p999"`
	Max  int64 `json:"max"`
}

// Measured says whether the row has figures that may be quoted: nothing was lost or wrong,
// and few rounds have failed.
func (r *Row) Measured() bool {
	return len(r.Nanos) > 0 && r.Wrong == 0 && r.Missing == 0 && r.Failures < patience
}

// Why says why a row is not measured.
func (r *Row) Why() string {
	switch {
	case r.Unsupported != "":
		return "not possible: " + r.Unsupported
	case r.Wrong > 0 || r.Missing > 0:
		return fmt.Sprintf("WRONG: %d messages wrong, %d missing", r.Wrong, r.Missing)
	case r.Failures > 0:
		return fmt.Sprintf("FAILED: %d times: %s", r.Failures, r.Failure)
	}
	return "not measured"
}

// Median is the median of the rounds.
func Median(figures []float64) float64 {
	if len(figures) == 0 {
		return math.NaN()
	}
	sorted := slices.Sorted(slices.Values(figures))
	return (sorted[(len(sorted)-1)/2] + sorted[len(sorted)/2]) / 2
}

// Ratios are the figures by their floors.
func (r *Row) Ratios() []float64 {
	ratios := make([]float64, 0, len(r.Nanos))
	for i, ns := range r.Nanos {
		if i < len(r.Floors) && r.Floors[i] > 0 {
			ratios = append(ratios, ns/r.Floors[i])
		}
	}
	return ratios
}

// A DeathRow is what became of one side when the other was killed, in nanoseconds after
// the SIGKILL.
type DeathRow struct {
	Name      string  `json:"name"`
	Contender string  `json:"contender"`
	Victim    string  `json:"victim"`   // server or client
	Told      []int64 `json:"told"`     // the survivor has the error
	Answered  []int64 `json:"answered"` // the first answer through the replacement, its start included
	Why       string  `json:"why,omitempty"`
}

// A LossRow is what became of the messages when their receiver was killed.
type LossRow struct {
	Name      string `json:"name"`
	Contender string `json:"contender"`
	Form      string `json:"form"`
	Kills     int    `json:"kills"`
	Sent      uint64 `json:"sent"`
	Lost      uint64 `json:"lost"`
	Again     uint64 `json:"again"` // came to two receivers
	Why       string `json:"why,omitempty"`
}

// An IdleRow is what two processes cost that wait for each other.
type IdleRow struct {
	Name      string  `json:"name"`
	Contender string  `json:"contender"`
	Wait      string  `json:"wait"`
	CPU       float64 `json:"cpu"`      // of one processor, both processes together, in percent
	Switches  float64 `json:"switches"` // a second, both together
	Resident  uint64  `json:"rss"`      // both together, at most
	Why       string  `json:"why,omitempty"`
}

// A CallRow is how many system calls a message costs, both processes together.
type CallRow struct {
	Name  string  `json:"name"`
	Calls float64 `json:"calls"`
	Why   string  `json:"why,omitempty"`
}

// A ScaleRow is what so many pairs cost between the same two processes.
type ScaleRow struct {
	Name        string  `json:"name"`
	Contender   string  `json:"contender"`
	Pairs       int     `json:"pairs"`
	Opened      float64 `json:"opened_ns"` // until all were attached, a pair
	Memory      uint64  `json:"pss"`       // both processes together, a shared page once
	Descriptors int     `json:"descriptors"`
	Threads     int     `json:"threads"`
	CPU         float64 `json:"cpu"`      // idle: of one processor, in percent
	Switches    float64 `json:"switches"` // idle: a second
	Why         string  `json:"why,omitempty"`
}
