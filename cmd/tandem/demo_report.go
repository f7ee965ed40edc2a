package main

import (
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"strings"
	"text/tabwriter"
	"time"
)

// A report is what the demo says at the end, by the names that -json uses.
type report struct {
	OK             bool    `json:"ok"`
	Error          string  `json:"error,omitempty"`
	Seed           uint64  `json:"seed"`
	Dir            string  `json:"dir"`
	Files          int     `json:"files"`    // whose digests were compared
	Messages       int     `json:"messages"` // that carried them: more, if in several rounds
	Bytes          int64   `json:"bytes"`    // in these messages
	Kills          int     `json:"kills"`
	ClientRestarts int     `json:"client_restarts"` // after its own deaths and its server's
	ServerKills    int     `json:"server_kills"`
	Generations    int     `json:"generations"`
	Redelivered    int     `json:"redelivered"`    // messages that came again after a death, marked
	AnsweredTwice  int     `json:"answered_twice"` // those of them that the dead had answered
	Lost           int     `json:"lost"`           // sent and never answered
	Duplicated     int     `json:"duplicated"`     // answered again without a mark
	OutOfOrder     int     `json:"out_of_order"`
	Mismatched     int     `json:"mismatched"` // messages answered with another digest than the file has
	Skipped        int     `json:"skipped"`    // files and directories that were not read, or have changed
	MedianRecovery float64 `json:"median_recovery_ms"`
	MaxRecovery    float64 `json:"max_recovery_ms"`
	ServerRecovery float64 `json:"server_recovery_ms"`
	MBPerSecond    float64 `json:"mb_per_s"`
	Duration       float64 `json:"duration_ms"`

	wantKills int
	started   bool // there is something to report besides the error
	transfer  time.Duration
}

// fill takes over what the run has counted.
func (r *report) fill(from *run) {
	j := from.judge
	r.started = len(j.generations) > 0
	r.Messages = j.answers // until they are compared
	r.Kills, r.ServerKills = j.kills, from.serverKills
	r.ClientRestarts, r.Generations = max(0, j.clients-1), j.servers()
	r.Redelivered, r.AnsweredTwice = j.redelivered, j.answeredTwice
	r.Duplicated, r.OutOfOrder = j.duplicated, j.outOfOrder
	if j.finished {
		r.Lost = len(j.open())
	}
	if sorted := slices.Sorted(slices.Values(j.recoveries)); len(sorted) > 0 {
		middle := sorted[len(sorted)/2]
		if len(sorted)%2 == 0 {
			middle = (middle + sorted[len(sorted)/2-1]) / 2
		}
		r.MedianRecovery, r.MaxRecovery = milliseconds(middle), milliseconds(sorted[len(sorted)-1])
	}
	r.ServerRecovery = milliseconds(from.recovery)
	r.transfer = from.transfer
}

// namesShown is how many of a long list of files are named.
const namesShown = 10

// compare takes over what the comparison with the files themselves shows.
func (r *report) compare(from *run, digests [][sha256.Size]byte, errs []error, unread []skipped, stderr io.Writer) error {
	c := from.judge.compare(from.setup.Files, digests, errs)
	r.Files, r.Messages, r.Bytes, r.Mismatched = c.files, c.messages, c.bytes, c.mismatched
	r.MBPerSecond = rounded(float64(c.bytes) / 1e6 / r.transfer.Seconds())
	left := append(unread, c.skipped...)
	r.Skipped = len(left)
	for i, s := range left {
		if i == namesShown {
			fmt.Fprintf(stderr, "tandem demo: and %d more\n", len(left)-i)
			break
		}
		fmt.Fprintf(stderr, "tandem demo: skipped: %v\n", s)
	}
	if c.mismatched > 0 {
		return fmt.Errorf("a digest does not agree: %s", c.example)
	}
	if c.files == 0 {
		return errors.New("none of the files could be read, so nothing was shown")
	}
	return nil
}

// problems says, one by one, why the run is not a success.
func (r *report) problems() (problems []string) {
	wrong := func(is bool, format string, args ...any) {
		if is {
			problems = append(problems, fmt.Sprintf(format, args...))
		}
	}
	wrong(r.Error != "", "%s", r.Error)
	wrong(r.Lost > 0, "lost: %s", count(r.Lost, "message"))
	wrong(r.Duplicated > 0, "answered again without a mark: %s", count(r.Duplicated, "message"))
	wrong(r.OutOfOrder > 0, "out of order: %s", count(r.OutOfOrder, "answer"))
	wrong(r.Mismatched > 0, "answered with a wrong digest: %s", count(r.Mismatched, "message"))
	if r.Error != "" {
		return problems // it explains the rest
	}
	wrong(r.Kills != r.wantKills, "the client was killed %d of %d times", r.Kills, r.wantKills)
	wrong(r.ServerKills != 1 || r.Generations != 2, "the server was killed %d times, and there were %d generations", r.ServerKills, r.Generations)
	wrong(r.Files == 0, "no file was compared")
	return problems
}

// json prints the report as one JSON object on one line.
func (r *report) json(w io.Writer) error { return json.NewEncoder(w).Encode(r) }

// table prints the report for people, who have read the error already.
func (r *report) table(w io.Writer) error {
	if !r.started {
		return nil
	}
	var text strings.Builder
	table := tabwriter.NewWriter(&text, 0, 8, 2, ' ', 0)
	row := func(name, format string, args ...any) {
		fmt.Fprintf(table, "%s\t%s\n", name, fmt.Sprintf(format, args...))
	}
	row("files", "%d, in %s", r.Files, count(r.Messages, "message"))
	row("bytes", "%d", r.Bytes)
	row("kills", "%d of the client, %d of the server", r.Kills, r.ServerKills)
	row("client restarts", "%d", r.ClientRestarts)
	row("generations", "%d", r.Generations)
	row("redelivered", "%d, of which answered twice %d", r.Redelivered, r.AnsweredTwice)
	row("lost", "%d", r.Lost)
	row("duplicated", "%d", r.Duplicated)
	row("out of order", "%d", r.OutOfOrder)
	row("wrong digests", "%d", r.Mismatched)
	row("skipped files", "%d", r.Skipped)
	if r.Kills > 0 {
		row("recovery", "median %.1f ms, maximum %.1f ms; after the server's death %.1f ms", r.MedianRecovery, r.MaxRecovery, r.ServerRecovery)
	} else {
		row("recovery", "after the server's death %.1f ms", r.ServerRecovery)
	}
	row("MB/s", "%.0f, deaths included", r.MBPerSecond)
	row("duration", "%.1f s", r.Duration/1000)
	row("seed", "%d", r.Seed)
	_ = table.Flush()
	fmt.Fprintf(&text, "\n%s\n", r.explanation())
	_, err := io.WriteString(w, text.String())
	return err
}

// explanation says in words what the numbers have shown.
func (r *report) explanation() string {
	if problems := r.problems(); len(problems) > 0 {
		return "FAILED: " + strings.Join(problems, "; ") + ".\n" +
			fmt.Sprintf("To repeat it: tandem demo -dir '%s' -kills %d -seed %d", r.Dir, r.wantKills, r.Seed)
	}
	again := "No client died with a message in its hands this time."
	if r.Redelivered > 0 {
		again = "What a dying client had in its hands came again to the next\n" +
			"one, first and marked as redelivered: " + count(r.Redelivered, "message") + "."
	}
	deaths := "The client was killed " + count(r.Kills, "time") + " while it worked, and then the server; each time the work went on\nwhere it stood."
	if r.Kills == 0 {
		deaths = "The server was killed while it worked, and the work went on where it stood."
	}
	return fmt.Sprintf("%s %s went through shared memory, and every answer has the digest that this\n"+
		"process computed from the file without any IPC: none was lost, none came out of order, none came\n"+
		"twice without a mark. %s", deaths, count(r.Messages, "message"), again)
}

// count writes a number with its noun.
func count(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}

func milliseconds(d time.Duration) float64 { return rounded(d.Seconds() * 1000) }

// rounded keeps three decimals, and nothing that JSON cannot say.
func rounded(x float64) float64 {
	if math.IsNaN(x) || math.IsInf(x, 0) {
		return 0
	}
	return math.Round(x*1000) / 1000
}
