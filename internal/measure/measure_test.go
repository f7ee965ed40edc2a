//go:build linux

package measure

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"
)

// driverVariable makes the test binary a driver.
const driverVariable = "TANDEM_TEST_DRIVER"

func TestMain(m *testing.M) {
	if os.Getenv(driverVariable) != "" {
		os.Exit(Drive(os.Args[1:], append(Transports(), planted()...)))
	}
	os.Exit(m.Run())
}

// planted are contenders with a bug each: the harness has to find it.
func planted() []*Transport {
	one := func(name string, send func(*faultyLink, *Source) error) *Transport {
		t := *unixStream()
		dial, listen := t.Dial, t.Listen
		t.Name = name
		t.Dial = func(s *Setup) (Link, error) {
			l, err := dial(s)
			return &faultyLink{Link: l, send: send}, err
		}
		t.Listen = func(s *Setup) (Listener, error) {
			l, err := listen(s)
			return faultyListener{l, send}, err
		}
		return &t
	}
	return []*Transport{
		one("spoils", func(l *faultyLink, s *Source) error {
			stream := l.Link.(*stream)
			s.Fill(stream.out)
			stream.out[len(stream.out)/2] ^= 1 // a word in the middle
			_, err := stream.w.Write(stream.out)
			return err
		}),
		one("loses", func(l *faultyLink, s *Source) error {
			s.next++
			return l.Link.Send(s, 1)
		}),
		one("repeats", func(l *faultyLink, s *Source) error {
			s.next--
			return l.Link.Send(s, 1)
		}),
	}
}

// A faultyLink does something else with its tenth message.
type faultyLink struct {
	Link
	send func(*faultyLink, *Source) error
	sent int
}

func (l *faultyLink) Send(s *Source, n int) (err error) {
	for range n {
		if l.sent++; l.sent == 10 {
			err = l.send(l, s)
		} else {
			err = l.Link.Send(s, 1)
		}
		if err != nil {
			break
		}
	}
	return err
}

type faultyListener struct {
	Listener
	send func(*faultyLink, *Source) error
}

func (l faultyListener) Accept() (Link, error) {
	link, err := l.Listener.Accept()
	return &faultyLink{Link: link, send: l.send}, err
}

// newSession is a session of short rounds, with this binary as its driver.
func newSession(t *testing.T) *Session {
	t.Helper()
	executable, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	own := Driver{Command: []string{executable}, Env: []string{driverVariable + "=1"}}
	s := &Session{Rounds: 2, Time: 20 * time.Millisecond, Log: testLog{t}, Own: own, Driver: func(string) Driver { return own }}
	if err := s.Open(context.Background()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
		if _, err := os.Stat(s.dir); !os.IsNotExist(err) {
			t.Errorf("%s is left: %v", s.dir, err)
		}
	})
	return s
}

type testLog struct{ *testing.T }

func (l testLog) Write(text []byte) (int, error) {
	l.Log(string(bytes.TrimSpace(text)))
	return len(text), nil
}

func TestEachContenderDoesEachWork(t *testing.T) {
	s := newSession(t)
	s.Rounds = 1
	var cells []Cell
	for _, transport := range Transports() {
		for _, work := range []string{RoundTrip, OneWay, Both, Requests} {
			for _, form := range []string{Copy, View, Batch} {
				for _, size := range []int{8, 4096, 1 << 20} {
					if testing.Short() && (size > 8 || form != Copy) || work == Requests && size > 4096 {
						continue // who sends all requests first has to have room for them
					}
					cells = append(cells, Cell{Contender: transport.Name, Work: work, Form: form, Wait: Default, Place: Free, Size: size, InFlight: 16})
				}
			}
		}
	}
	rows, err := s.Measure(context.Background(), cells)
	if err != nil {
		t.Fatal(err)
	}
	measured := map[string]int{}
	for _, row := range rows {
		switch {
		case row.Measured():
			measured[row.Contender]++
			if row.Checked == 0 || len(row.Floors) != 1 || row.Nanos[0] <= 0 {
				t.Errorf("%s: checked %d, floors %v, ns %v", row.Name, row.Checked, row.Floors, row.Nanos)
			}
			if row.Work == RoundTrip && row.Contender != "call" && row.Contender != "memcpy" && (row.Percentiles.P50 == 0 || row.Percentiles.Max < row.Percentiles.P50) {
				t.Errorf("%s: %+v", row.Name, row.Percentiles)
			}
		case row.Unsupported == "":
			t.Errorf("%s: %s", row.Name, row.Why())
		}
	}
	for _, transport := range Transports() {
		if measured[transport.Name] == 0 {
			t.Errorf("%s has done nothing", transport.Name)
		}
	}
	if floors := s.Floors(); len(floors) < len(cells)/2 || slices.Min(floors) <= 0 {
		t.Errorf("the floors are %v", floors)
	}
}

// A run in which no message comes, because it is too short, is made again for longer.
func TestARunThatIsTooShortIsMadeAgain(t *testing.T) {
	s := newSession(t)
	s.Time = time.Millisecond / 2 // for a driver it is 0 ms
	rows, err := s.Measure(context.Background(), []Cell{
		{Contender: "tandem", Work: RoundTrip, Form: Copy, Wait: Default, Place: Free, Size: 8},
		{Contender: "pipe", Work: OneWay, Form: Copy, Wait: Default, Place: Free, Size: 8},
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, row := range rows {
		if !row.Measured() || row.Checked == 0 {
			t.Errorf("%s: %s, checked %d", row.Name, row.Why(), row.Checked)
		}
	}
}

// A contender that spoils, loses or repeats a message is shown as such, and its figures
// are not quoted.
func TestEachPlantedFaultIsShown(t *testing.T) {
	s := newSession(t)
	s.Rounds = 1
	var cells []Cell
	for _, p := range planted() {
		cells = append(cells, Cell{Contender: p.Name, Work: OneWay, Form: Copy, Wait: Default, Place: Free, Size: 256})
	}
	rows, err := s.Measure(context.Background(), cells)
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range []string{"1 messages wrong, 0 missing", "0 messages wrong, 1 missing", "1 messages wrong, 0 missing"} {
		if row := rows[i]; row.Measured() || !strings.HasPrefix(row.Why(), "WRONG") {
			t.Errorf("%s: not shown: %s", row.Name, row.Why())
		} else if row.Contender != "repeats" && !strings.Contains(row.Why(), want) && row.Wrong+row.Missing > 2 {
			t.Errorf("%s: %s, want %s", row.Name, row.Why(), want)
		}
	}
}

func TestAContenderThatEndsBadlyIsARowThatSaysSo(t *testing.T) {
	s := newSession(t)
	s.Driver = func(name string) Driver {
		return map[string]Driver{
			"dies":   {Command: []string{"/bin/sh", "-c", "echo ready; echo it broke >&2; exit 7", "sh"}},
			"silent": {Command: []string{"/bin/sh", "-c", "exit 0", "sh"}},
			"says":   {Command: []string{"/bin/sh", "-c", `echo '{"unsupported": "no room"}'`, "sh"}},
			"absent": {Command: []string{"/no/such/driver"}},
		}[name]
	}
	var cells []Cell
	for _, name := range []string{"dies", "silent", "says", "absent"} {
		cells = append(cells, Cell{Contender: name, Work: RoundTrip, Form: Copy, Wait: Default, Place: Free, Size: 64})
	}
	rows, err := s.Measure(context.Background(), cells)
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range []string{"it broke", "not ready", "no room", "no such file"} {
		if why := rows[i].Why(); rows[i].Measured() || !strings.Contains(why, want) {
			t.Errorf("%s: %q, want %q", cells[i].Contender, why, want)
		}
	}
}

func TestTheWordsOfAMessageAreJudged(t *testing.T) {
	make8 := func(n uint64) []byte {
		m := make([]byte, 64)
		(&Source{next: n, every: true}).Fill(m)
		return m
	}
	for name, c := range map[string]struct {
		messages       [][]byte
		wrong, missing uint64
	}{
		"sound":      {[][]byte{make8(0), make8(1), make8(2)}, 0, 0},
		"one lost":   {[][]byte{make8(0), make8(2)}, 0, 1},
		"one twice":  {[][]byte{make8(0), make8(0), make8(1)}, 1, 0},
		"swapped":    {[][]byte{make8(1), make8(0)}, 1, 1},
		"too short":  {[][]byte{make8(0)[:32], make8(1)}, 1, 0},
		"word wrong": {[][]byte{append(make8(0)[:24:24], make8(1)[24:]...)}, 1, 0},
		"number bad": {[][]byte{append([]byte{7: 0xff}, make8(0)[8:]...), make8(1)}, 1, 0},
	} {
		sink := Sink{every: true, size: 64}
		for _, m := range c.messages {
			sink.Take(m)
		}
		if sink.Wrong != c.wrong || sink.Missing != c.missing {
			t.Errorf("%s: %d wrong, %d missing; want %d, %d", name, sink.Wrong, sink.Missing, c.wrong, c.missing)
		}
	}
}

func TestTheCommandLineOfADriverIsReadAsItIsWritten(t *testing.T) {
	s := &Setup{Role: "client", Name: "n", Dir: "d", Work: Requests, Form: Batch, Wait: Block, Size: 64, InFlight: 3,
		Warm: time.Second, Time: 2 * time.Second, Pause: 200 * time.Microsecond, Check: true, Ring: 4096, Bare: true}
	read, err := ParseSetup(s.Args())
	if err != nil || fmt.Sprint(*read) != fmt.Sprint(*s) {
		t.Errorf("read %+v, %v; want %+v", read, err, s)
	}
	for _, args := range [][]string{nil, {"other"}, {"server"}, {"server", "-dir", "d", "-size", "9"}, {"server", "-dir", "d", "-bogus"}} {
		if _, err := ParseSetup(args); err == nil {
			t.Errorf("%q is a command line", args)
		}
	}
}

// A harness that is interrupted ends its processes and removes its directory.
func TestACancelledSessionLeavesNothing(t *testing.T) {
	s := newSession(t)
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := s.Measure(ctx, []Cell{{Contender: "unix", Work: RoundTrip, Form: Copy, Wait: Default, Place: Free, Size: 64}}); err == nil {
		t.Error("a cancelled session has measured")
	}
	left, err := filepath.Glob(s.dir + "/[0-9]*")
	if err != nil || len(left) > 0 {
		t.Errorf("left: %v, %v", left, err)
	}
}

func TestASurvivorIsToldAndAnsweredAgain(t *testing.T) {
	s := newSession(t)
	for _, c := range []struct{ contender, victim string }{
		{"tandem", "client"}, {"tandem", "server"}, {"unix", "client"}, {"unix", "server"},
		{"seqpacket", "server"}, {"tcp", "server"}, {"net/rpc", "server"}, {"http", "server"},
	} {
		row := s.Deaths(context.Background(), c.contender, c.victim, 3)
		if row.Why != "" || len(row.Told) != 3 || len(row.Answered) != 3 {
			t.Errorf("%+v", row)
			continue
		}
		for i, told := range row.Told {
			if told <= 0 || row.Answered[i] <= 0 {
				t.Errorf("a negative time: %+v", row)
			}
		}
	}
	if row := s.Deaths(context.Background(), "pipe", "server", 1); !strings.Contains(row.Why, "not told") {
		t.Errorf("a pipe tells of a death: %+v", row)
	}
}

// Tandem's messages survive their receiver, in the form in which the receiver says when
// it is done with each. Those in the buffer of a socket do not: so the count can see it.
func TestLostMessagesAreCounted(t *testing.T) {
	s := newSession(t)
	row := s.Losses(context.Background(), "tandem", View, 3)
	if row.Why != "" || row.Kills != 3 || row.Sent == 0 || row.Lost != 0 || row.Again > 3 {
		t.Errorf("%+v", row)
	}
	row = s.Losses(context.Background(), "unix", Batch, 3)
	if row.Why != "" || row.Sent == 0 || row.Lost == 0 {
		t.Errorf("%+v", row)
	}
}

func TestWhatRestsAndWhatIsManyIsMeasured(t *testing.T) {
	s := newSession(t)
	for _, contender := range []string{"tandem", "unix", "net/rpc"} {
		if row := s.Idle(context.Background(), contender, Default, 100*time.Millisecond); row.Why != "" || row.Resident == 0 {
			t.Errorf("%+v", row)
		}
	}
	for _, contender := range []string{"tandem", "unix"} {
		one := s.Scale(context.Background(), contender, 1, 50*time.Millisecond)
		ten := s.Scale(context.Background(), contender, 10, 50*time.Millisecond)
		if one.Why != "" || ten.Why != "" || ten.Descriptors < one.Descriptors+18 || contender == "tandem" && ten.Memory <= one.Memory || one.Threads == 0 {
			t.Errorf("%+v, %+v", one, ten)
		}
	}
	calls := s.SystemCalls(context.Background(), Cell{Contender: "unix-raw", Work: RoundTrip, Form: Copy, Wait: Default, Place: Free, Size: 64})
	if calls.Why != "" && !strings.Contains(calls.Why, "strace") || calls.Why == "" && calls.Calls < 1.5 {
		t.Errorf("a round trip is four system calls at least, so two a message: %+v", calls)
	}
}

func TestABusyMachineIsBusy(t *testing.T) {
	s := newSession(t)
	end := s.burn(context.Background())
	before := use()
	deadline := time.Now().Add(time.Second)
	for time.Now().Before(deadline) && use().cpu == before.cpu {
		runtime.Gosched()
	}
	end()
	rows, err := s.Measure(context.Background(), []Cell{{Contender: "unix", Work: RoundTrip, Form: Copy, Wait: Default, Place: Free, Size: 64, Busy: true}})
	if err != nil || !rows[0].Measured() {
		t.Errorf("%v, %v", rows, err)
	}
}
