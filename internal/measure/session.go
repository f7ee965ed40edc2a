//go:build linux

package measure

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// shortTime is that of a cell that measures the beginning.
const shortTime = 15 * time.Millisecond

// A Session measures cells in rounds.
type Session struct {
	Rounds int
	Warm   time.Duration
	Time   time.Duration
	Log    io.Writer // progress, a line now and then

	// Driver returns who plays a contender.
	Driver func(contender string) Driver
	// Own plays the floor.
	Own Driver

	dir    string
	serial int
	floors Pair
	all    []float64
	byName map[string]*progressOf
}

// A progressOf is a row that is being measured.
type progressOf struct {
	row     *Row
	merged  *hdrhistogram.Histogram
	checked bool
}

// Open makes the directory of the session and starts the floor.
func (s *Session) Open(ctx context.Context) (err error) {
	parent := "/dev/shm"
	if _, err := os.Stat(parent); err != nil {
		parent = ""
	}
	if s.dir, err = os.MkdirTemp(parent, "tandem-bench-"); err != nil {
		return err
	}
	place := Apart
	if processors, err := Processors(); err != nil || len(processors) < 2 {
		place = Together
	}
	setup := Setup{Name: FloorName, Dir: s.dir, Size: 8, InFlight: 1, Work: RoundTrip, Form: Copy, Wait: Spin, Time: 24 * time.Hour}
	if s.floors, err = StartPair(ctx, s.Own, setup, place); err != nil {
		return errors.Join(err, os.RemoveAll(s.dir))
	}
	s.byName = map[string]*progressOf{}
	return nil
}

// Close ends what Open has started, and leaves nothing.
func (s *Session) Close() error {
	s.floors.End()
	return os.RemoveAll(s.dir)
}

// Floor measures the floor.
func (s *Session) Floor() (float64, error) {
	for _, p := range []*Process{s.floors.Server, s.floors.Client} {
		if _, err := io.WriteString(p.stdin, "go\n"); err != nil {
			return 0, fmt.Errorf("the floor has ended: %w", err)
		}
	}
	line, err := s.floors.Client.Line()
	if err != nil {
		return 0, fmt.Errorf("the floor has ended: %w", err)
	}
	floor, err := strconv.ParseFloat(line, 64)
	s.all = append(s.all, floor)
	return floor, err
}

// Floors are all floors that were measured.
func (s *Session) Floors() []float64 { return s.all }

// NewDir makes the directory of one run; the session removes it at its end at the latest.
func (s *Session) NewDir() (string, error) {
	s.serial++
	dir := filepath.Join(s.dir, strconv.Itoa(s.serial))
	return dir, os.Mkdir(dir, 0o700)
}

// Measure measures all cells in each round, every other round in reverse order, with the
// floor before the first one and after each. Cells that fail are rows that say so.
func (s *Session) Measure(ctx context.Context, cells []Cell) ([]*Row, error) {
	for round := range s.Rounds {
		before, err := s.Floor()
		if err != nil {
			return nil, err
		}
		for i := range cells {
			if round%2 == 1 {
				i = len(cells) - 1 - i
			}
			if err := ctx.Err(); err != nil {
				return nil, err
			}
			p := s.progress(cells[i])
			if p.row.givenUp() {
				continue
			}
			if !p.checked {
				s.once(ctx, p, true, 0)
				p.checked = true
				if before, err = s.Floor(); err != nil {
					return nil, err
				}
			}
			measured := len(p.row.Nanos)
			s.once(ctx, p, false, before)
			after, err := s.Floor()
			if err != nil {
				return nil, errors.Join(ctx.Err(), err)
			}
			if len(p.row.Nanos) > measured {
				p.row.Floors = append(p.row.Floors, (before+after)/2)
			}
			before = after
		}
		fmt.Fprintf(s.Log, "round %d of %d: floor %.0f ns\n", round+1, s.Rounds, before)
	}
	return s.rows(cells)
}

func (s *Session) progress(c Cell) *progressOf {
	p := s.byName[c.Name()]
	if p == nil {
		p = &progressOf{row: &Row{Cell: c, Name: c.Name()}}
		s.byName[c.Name()] = p
	}
	return p
}

func (s *Session) rows(cells []Cell) (rows []*Row, err error) {
	for _, c := range cells {
		p := s.progress(c)
		if p.merged != nil {
			h := p.merged
			p.row.Percentiles = Percentiles{
				h.ValueAtQuantile(50), h.ValueAtQuantile(90), h.ValueAtQuantile(99), h.ValueAtQuantile(99.9), h.Max(),
			}
			encoded, err := h.Encode(hdrhistogram.V2CompressedEncodingCookieBase)
			if err != nil {
				return nil, err
			}
			p.row.Histogram = string(encoded)
		}
		rows = append(rows, p.row)
	}
	return rows, nil
}

// SetupOf is the command line of a cell's drivers.
func (s *Session) SetupOf(c Cell) Setup {
	setup := Setup{
		Name: c.Contender, Work: c.Work, Form: c.Form, Wait: c.Wait, Size: c.Size, InFlight: max(1, c.InFlight),
		Pause: c.Pause, Warm: s.Warm, Time: s.Time, Ring: c.Ring, Bare: c.Bare,
	}
	if c.Short {
		setup.Warm, setup.Time = 0, shortTime
	}
	return setup
}

// longerRuns is how often a run in which no message came is made again, each time for twice
// as long: it was too short for the machine, which may be busy, or for the contender.
const longerRuns = 6

// once runs a cell once.
func (s *Session) once(ctx context.Context, p *progressOf, check bool, floor float64) {
	setup := s.SetupOf(p.row.Cell)
	if check {
		setup.Check, setup.Bare, setup.Warm, setup.Time = true, false, 0, s.Time/2
	}
	if p.row.Busy {
		defer s.burn(ctx)()
	}
	server, client, err := s.run(ctx, setup, p.row.Place)
	for range longerRuns {
		if err != nil || messagesOf(p.row, server, client) > 0 {
			break
		}
		setup.Time *= 2
		server, client, err = s.run(ctx, setup, p.row.Place)
	}
	var unsupported UnsupportedError
	switch {
	case errors.As(err, &unsupported):
		p.row.Unsupported = string(unsupported)
	default:
		if err == nil {
			err = p.add(server, client, check)
		}
		if err != nil {
			p.row.Failures++
			p.row.Failure = err.Error()
		}
	}
	if err != nil && ctx.Err() == nil {
		fmt.Fprintf(s.Log, "%s: %s\n", p.row.Name, p.row.Why())
	}
}

// run starts both sides in a directory of their own and reads what they say.
func (s *Session) run(ctx context.Context, setup Setup, place string) (server, client Report, err error) {
	if setup.Dir, err = s.NewDir(); err != nil {
		return server, client, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(setup.Dir)) }()
	pair, err := StartPair(ctx, s.Driver(setup.Name), setup, place)
	if err != nil {
		return server, client, err
	}
	defer pair.End()
	server, client, err = pair.Reports()
	if err == nil && client.Unsupported != "" {
		err = UnsupportedError(client.Unsupported)
	}
	return server, client, err
}

// messagesOf is how many messages both sides of a run have measured.
func messagesOf(r *Row, server, client Report) uint64 {
	if r.Work == Both {
		return client.Messages + server.Messages
	}
	return client.Messages
}

// add takes over what both sides of a run have said.
func (p *progressOf) add(server, client Report, check bool) error {
	r := p.row
	r.Wrong += server.Wrong + client.Wrong
	r.Missing += server.Missing + client.Missing
	r.Version, r.Settings = client.Version, client.Settings
	messages, nanos := messagesOf(r, server, client), client.Nanos
	if r.Work == Both {
		nanos = max(nanos, server.Nanos)
	}
	if check {
		r.Checked += messages
		return nil
	}
	if messages == 0 || nanos == 0 {
		return errors.New("no message came in the measured time")
	}
	perMessage := float64(nanos) / float64(messages)
	h, err := decodeHistogram(client.Histogram)
	if err != nil {
		return err
	}
	if h != nil && r.Pause > 0 { // the pauses do not count
		perMessage = h.Mean()
	}
	r.Nanos = append(r.Nanos, perMessage)
	p.merge(h)
	p.addCost(server, client)
	return nil
}

// addCost is what the messages have cost besides time.
func (p *progressOf) addCost(server, client Report) {
	r := p.row
	per := func(ofClient, ofServer uint64) float64 {
		sum := float64(ofClient) / float64(client.Messages)
		if server.Messages > 0 {
			sum += float64(ofServer) / float64(server.Messages)
		}
		return sum
	}
	oneProcess := server.Messages == 0 && server.CPUNanos == 0
	if (server.Messages > 0 || oneProcess) && client.CPUNanos > 0 { // else one side is not known
		r.CPU = append(r.CPU, per(client.CPUNanos, server.CPUNanos))
		r.Switches = append(r.Switches, per(client.Switches, server.Switches))
		if oneProcess {
			server.Allocations = new(int64)
		}
		if client.Allocations != nil && server.Allocations != nil {
			r.Allocations = append(r.Allocations, per(uint64(*client.Allocations), uint64(*server.Allocations)))
		}
	}
	if client.Resident > 0 {
		r.Resident = append(r.Resident, float64(client.Resident+server.Resident))
	}
}

// decodeHistogram reads a histogram of a driver, nil if it has none.
func decodeHistogram(text string) (*hdrhistogram.Histogram, error) {
	if text == "" {
		return nil, nil
	}
	h, err := hdrhistogram.Decode([]byte(text))
	if err != nil {
		return nil, fmt.Errorf("its histogram cannot be read: %w", err)
	}
	return h, nil
}

func (p *progressOf) merge(h *hdrhistogram.Histogram) {
	if h == nil {
		return
	}
	if p.merged == nil {
		p.merged = NewHistogram()
	}
	p.merged.Merge(h)
}
