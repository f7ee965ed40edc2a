//go:build linux

package peers

import (
	"context"
	"os"
	"testing"
	"time"

	"github.com/tandem-ipc/tandem/internal/measure"
)

// driverVariable makes the test binary a driver.
const driverVariable = "TANDEM_TEST_DRIVER"

func TestMain(m *testing.M) {
	if os.Getenv(driverVariable) != "" {
		os.Exit(measure.Drive(os.Args[1:], Transports()))
	}
	os.Exit(m.Run())
}

type testLog struct{ *testing.T }

func (l testLog) Write(text []byte) (int, error) {
	l.Log(string(text))
	return len(text), nil
}

func TestEachForeignContenderDoesWhatItSays(t *testing.T) {
	executable, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	own := measure.Driver{Command: []string{executable}, Env: []string{driverVariable + "=1"}}
	s := &measure.Session{Rounds: 1, Time: 20 * time.Millisecond, Log: testLog{t}, Own: own, Driver: func(string) measure.Driver { return own }}
	if err := s.Open(context.Background()); err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	var cells []measure.Cell
	want := map[string][]string{
		"grpc":        {measure.RoundTrip, measure.Requests},
		"grpc-stream": {measure.RoundTrip, measure.OneWay, measure.Both, measure.Requests},
		"go-plugin":   {measure.RoundTrip, measure.Requests},
		"zeromq":      {measure.RoundTrip, measure.OneWay, measure.Both, measure.Requests},
		"flipcall":    {measure.RoundTrip},
	}
	for name, works := range want {
		for _, work := range works {
			inFlight := 1
			if work == measure.Requests {
				inFlight = 16
			}
			for _, size := range []int{8, 4096, 1 << 20} {
				if inFlight*size > 64<<10 && inFlight > 1 {
					continue // who sends all requests first has to have room for them
				}
				cells = append(cells, measure.Cell{Contender: name, Work: work, Form: measure.Copy, Wait: measure.Default, Place: measure.Free, Size: size, InFlight: inFlight})
			}
		}
	}
	rows, err := s.Measure(context.Background(), cells)
	if err != nil {
		t.Fatal(err)
	}
	for _, row := range rows {
		if !row.Measured() {
			t.Errorf("%s: %s", row.Name, row.Why())
		}
	}
	if row := s.Deaths(context.Background(), "grpc", "server", 2); row.Why != "" || len(row.Answered) != 2 {
		t.Errorf("%+v", row)
	}
}
