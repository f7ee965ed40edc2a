//go:build linux

package measure

import (
	"fmt"
	"os"
	"runtime"
	"strconv"
	"strings"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
	"golang.org/x/sys/unix"
)

// NewHistogram is of times in nanoseconds: 1 ns to 100 s, three digits.
func NewHistogram() *hdrhistogram.Histogram { return hdrhistogram.New(1, 100_000_000_000, 3) }

// A Meter measures one side of a run, and makes its Report.
type Meter struct {
	Report Report

	setup     *Setup
	histogram *hdrhistogram.Histogram
	before    usage
	began     time.Time
}

// A usage is what the process has used so far.
type usage struct {
	cpu      time.Duration
	switches int64
	mallocs  uint64
}

func use() usage {
	var r unix.Rusage
	_ = unix.Getrusage(unix.RUSAGE_SELF, &r)
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return usage{time.Duration(r.Utime.Nano() + r.Stime.Nano()), r.Nvcsw + r.Nivcsw, m.Mallocs}
}

func (m *Meter) begin() {
	m.before = use()
	m.began = time.Now()
}

// end ends the measured part, in which so many messages were handled.
func (m *Meter) end(messages uint64) {
	m.Report.Nanos = uint64(time.Since(m.began))
	m.Report.Messages = messages
	after := use()
	m.Report.CPUNanos = uint64(after.cpu - m.before.cpu)
	m.Report.Switches = uint64(after.switches - m.before.switches)
	allocations := int64(after.mallocs - m.before.mallocs)
	m.Report.Allocations = &allocations
}

// look is how many messages pass between two looks at the clock.
func look(s *Setup) int {
	switch {
	case s.Size >= 1<<20:
		return 1
	case s.Size >= 64<<10:
		return 4
	case s.Form == Batch:
		return max(256, collected/s.Size)
	case s.Size >= 4<<10:
		return 32
	}
	return 256
}

// Trips measures round trips: first without a clock in the loop, then each by itself.
// With a pause between them only the trips count, and all are clocked.
func (m *Meter) Trips(trip func() error) error {
	every := 16
	if m.setup.Size >= 64<<10 {
		every = 1
	}
	if m.setup.Pause > 0 {
		return m.apart(trip)
	}
	repeat := func(d time.Duration) (n uint64, err error) {
		for end := time.Now().Add(d); time.Now().Before(end); n += uint64(every) {
			for range every {
				if err := trip(); err != nil {
					return n, err
				}
			}
		}
		return n, nil
	}
	warm, err := repeat(m.setup.Warm)
	if err != nil {
		return err
	}
	m.begin()
	n, err := repeat(m.setup.Time)
	m.end(n)
	if err != nil {
		return err
	}
	m.Report.Total += 2 * (warm + n)
	for end := time.Now().Add(m.setup.Time); time.Now().Before(end); m.Report.Total += 2 {
		if err := m.clocked(trip); err != nil {
			return err
		}
	}
	return nil
}

func (m *Meter) clocked(trip func() error) error {
	began := time.Now()
	if err := trip(); err != nil {
		return err
	}
	m.Record(time.Since(began))
	return nil
}

// Record puts the time of one round trip into the histogram.
func (m *Meter) Record(d time.Duration) {
	if m.histogram == nil {
		m.histogram = NewHistogram()
	}
	_ = m.histogram.RecordValue(max(1, min(int64(d), 100_000_000_000)))
}

func (m *Meter) apart(trip func() error) error {
	var spent time.Duration
	var n uint64
	rest := unix.NsecToTimespec(int64(m.setup.Pause))
	m.begin()
	for warmUntil, end := m.began.Add(m.setup.Warm), m.began.Add(m.setup.Warm+m.setup.Time); ; {
		began := time.Now()
		if began.After(end) {
			break
		}
		if err := trip(); err != nil {
			return err
		}
		if took := time.Since(began); began.After(warmUntil) {
			m.Record(took)
			spent += took
			n++
		}
		_ = unix.Nanosleep(&rest, nil)
	}
	m.end(n)
	m.Report.Nanos = uint64(spent)
	return nil
}

// finish completes the report.
func (m *Meter) finish() error {
	if m.histogram != nil {
		encoded, err := m.histogram.Encode(hdrhistogram.V2CompressedEncodingCookieBase)
		if err != nil {
			return err
		}
		m.Report.Histogram = string(encoded)
	}
	resident, err := residentMost()
	m.Report.Resident = resident
	return err
}

// residentMost is the largest resident set of this process, shared pages included.
func residentMost() (uint64, error) {
	return statusBytes("/proc/self/status", "VmHWM:")
}

// statusBytes reads a line of a file of /proc that gives kibibytes.
func statusBytes(path, field string) (uint64, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(text)) {
		if rest, found := strings.CutPrefix(line, field); found {
			n, err := strconv.ParseUint(strings.Fields(rest)[0], 10, 64)
			return n << 10, err
		}
	}
	return 0, fmt.Errorf("%s has no %s", path, field)
}
