package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"syscall"
	"testing"

	"pgregory.net/rapid"
)

func TestPointsFitTheWorkAndTheSeedRepeatsThem(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		files := rapid.IntRange(1, 300).Draw(t, "files")
		kills := rapid.IntRange(0, 60).Draw(t, "kills")
		seed := rapid.Uint64().Draw(t, "seed")
		total := messageCount(files, kills)
		if total%files != 0 || total < messagesPerKill*(kills+1) || total >= messagesPerKill*(kills+1)+files && total != files {
			t.Fatalf("%d messages for %d files and %d kills", total, files, kills)
		}
		points := choosePoints(seed, kills, total)
		if !reflect.DeepEqual(points, choosePoints(seed, kills, total)) {
			t.Fatal("the same seed chooses other points")
		}
		if len(points) != kills+1 || points[0].After < 1 || points[kills].After >= total {
			t.Fatalf("points %v of %d messages", points, total)
		}
		for dead := range points {
			limit := sendLimit(points, dead, total)
			if limit < points[dead].After {
				t.Fatalf("point %d of %v cannot be reached: only %d messages are sent before it", dead, points, limit)
			}
			if next := append(points, point{After: total})[dead+1].After; limit >= next {
				t.Fatalf("point %d of %v may come too late: %d messages are sent before it", dead, points, limit)
			}
		}
		if sendLimit(points, len(points), total) != total || sendLimit(nil, 0, total) != total {
			t.Fatal("something is held back though no death is to come")
		}
	})
}

// told is an answer as a server tells it.
func told(message uint32, attachment uint64, redelivered bool) line {
	digest := sha256.Sum256([]byte{byte(message)})
	return line{Is: lineAnswer, Message: message, Digest: digest[:], Attachment: attachment, Redelivered: redelivered}
}

func TestJudgeCountsWhatTheAnswersShow(t *testing.T) {
	const again = true
	for _, test := range []struct {
		name                                                      string
		lines                                                     []line
		redelivered, answeredTwice, duplicated, outOfOrder, unmet int
	}{
		{name: "in order", lines: []line{told(0, 1, false), told(1, 1, false), told(2, 1, false)}},
		{name: "died before the answer", redelivered: 1,
			lines: []line{told(0, 1, false), told(1, 2, again), told(2, 2, false)}},
		{name: "died behind the answer", redelivered: 1, answeredTwice: 1,
			lines: []line{told(0, 1, false), told(1, 1, false), told(1, 2, again), told(2, 2, false)}},
		{name: "died twice behind the answer", redelivered: 2, answeredTwice: 2,
			lines: []line{told(0, 1, false), told(0, 2, again), told(0, 3, again), told(1, 3, false), told(2, 3, false)}},
		{name: "never answered", unmet: 1, lines: []line{told(0, 1, false), told(2, 1, false)}},
		{name: "not sent", lines: []line{told(0, 1, false), {Is: lineSkipped, Message: 1}, told(2, 1, false)}},
		{name: "twice without a mark", duplicated: 1,
			lines: []line{told(0, 1, false), told(1, 1, false), told(1, 1, false), told(2, 1, false)}},
		{name: "twice without a mark, by two clients", duplicated: 1,
			lines: []line{told(0, 1, false), told(1, 1, false), told(1, 2, false), told(2, 2, false)}},
		{name: "swapped", outOfOrder: 1, lines: []line{told(1, 1, false), told(0, 1, false), told(2, 1, false)}},
		{name: "again, but not first", redelivered: 1, outOfOrder: 1,
			lines: []line{told(0, 1, false), told(1, 2, false), told(2, 2, again)}},
		{name: "again, but not the last one", redelivered: 1, answeredTwice: 1, outOfOrder: 1,
			lines: []line{told(0, 1, false), told(1, 1, false), told(0, 2, again), told(2, 2, false)}},
	} {
		t.Run(test.name, func(t *testing.T) {
			j := newJudge(3, 3)
			for _, l := range test.lines {
				if err := j.take(l); err != nil {
					t.Fatal(err)
				}
			}
			have := [...]int{j.redelivered, j.answeredTwice, j.duplicated, j.outOfOrder, len(j.open())}
			want := [...]int{test.redelivered, test.answeredTwice, test.duplicated, test.outOfOrder, test.unmet}
			if have != want {
				t.Errorf("redelivered, answered twice, duplicated, out of order, open: have %v, want %v", have, want)
			}
		})
	}
}

func TestJudgeBeginsANewOrderWithEachServer(t *testing.T) {
	j := newJudge(4, 4)
	for _, l := range []line{told(0, 1, false), told(2, 1, false)} {
		_ = j.take(l)
	}
	j.nextServer()
	if open := j.open(); !slices.Equal(open, []uint32{1, 3}) {
		t.Fatalf("open are %v", open)
	}
	for _, l := range []line{told(1, 1, false), told(3, 1, false)} {
		_ = j.take(l)
	}
	if j.outOfOrder != 0 || len(j.open()) != 0 {
		t.Errorf("%d out of order, %v open", j.outOfOrder, j.open())
	}
}

func TestJudgeRefusesWhatMakesNoSense(t *testing.T) {
	short := told(0, 1, false)
	short.Digest = short.Digest[1:]
	for _, l := range []line{told(3, 1, false), told(endMessage, 1, false), short,
		{Is: lineSkipped, Message: 3}, {Is: "sings"}, {Is: lineFailed, Text: "why"}} {
		if err := newJudge(3, 3).take(l); err == nil {
			t.Errorf("%+v was taken", l)
		}
	}
}

func TestComparisonFindsEachWrongDigest(t *testing.T) {
	files := []inputFile{{Path: []byte("a"), Size: 10}, {Path: []byte("b"), Size: 100}, {Path: []byte("c"), Size: 1000}}
	digests := make([][sha256.Size]byte, 3)
	for m := range digests {
		digests[m] = sha256.Sum256([]byte{byte(m)})
	}
	j := newJudge(3, 6) // two rounds
	for m := range uint32(6) {
		l := told(m%3, 1, false)
		l.Message = m
		_ = j.take(l)
	}
	none := make([]error, 3)
	if c := j.compare(files, digests, none); c.files != 3 || c.messages != 6 || c.bytes != 2220 || c.mismatched != 0 || len(c.skipped) != 0 {
		t.Errorf("all agree: %+v", c)
	}
	if c := j.compare(files, digests, []error{nil, errChanged, nil}); c.files != 2 || c.messages != 4 || c.bytes != 2020 || len(c.skipped) != 1 {
		t.Errorf("one file has changed: %+v", c)
	}
	j.digests[4][31] ^= 0x80
	if c := j.compare(files, digests, none); c.mismatched != 1 || !strings.Contains(c.example, "b, as message 4") {
		t.Errorf("one digest is wrong: %+v", c)
	}
	other := told(5, 2, true)
	_ = j.take(other)
	if c := j.compare(files, digests, none); c.mismatched != 2 {
		t.Errorf("a second answer has another digest: %+v", c)
	}
}

func TestReportNamesEachProblem(t *testing.T) {
	good := report{Files: 1, Messages: 4, Kills: 2, wantKills: 2, ServerKills: 1, Generations: 2, started: true}
	if problems := good.problems(); len(problems) != 0 {
		t.Fatalf("nothing is wrong, but: %q", problems)
	}
	for name, spoil := range map[string]func(*report){
		"stalled":    func(r *report) { r.Error = "stalled" },
		"lost":       func(r *report) { r.Lost = 1 },
		"mark":       func(r *report) { r.Duplicated = 1 },
		"order":      func(r *report) { r.OutOfOrder = 1 },
		"digest":     func(r *report) { r.Mismatched = 1 },
		"1 of 2":     func(r *report) { r.Kills = 1 },
		"0 times":    func(r *report) { r.ServerKills = 0 },
		"3 genera":   func(r *report) { r.Generations = 3 },
		"no file wa": func(r *report) { r.Files = 0 },
	} {
		bad := good
		spoil(&bad)
		var out bytes.Buffer
		if err := bad.table(&out); err != nil {
			t.Fatal(err)
		}
		if problems := bad.problems(); len(problems) != 1 || !strings.Contains(out.String(), "FAILED: "+problems[0]) || !strings.Contains(problems[0], name) {
			t.Errorf("%s: problems %q, output %s", name, problems, &out)
		}
	}
}

func TestAFileThatChangesIsNoticed(t *testing.T) {
	path := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(path, []byte("content"), 0o644); err != nil {
		t.Fatal(err)
	}
	files, _, err := findInput(filepath.Dir(path))
	if err != nil {
		t.Fatal(err)
	}
	file, buf := files[0], make([]byte, 7)
	if err := file.readInto(buf); err != nil || string(buf) != "content" {
		t.Errorf("unchanged: %q, %v", buf, err)
	}
	if sum, err := file.digest(t.Context()); err != nil || sum != sha256.Sum256([]byte("content")) {
		t.Errorf("unchanged: %x, %v", sum, err)
	}
	for _, change := range []struct {
		name   string
		change func() error
		want   error
	}{
		{"longer", func() error { return os.WriteFile(path, []byte("contents"), 0o644) }, errChanged},
		{"shorter", func() error { return os.Truncate(path, 3) }, errChanged},
		{"removed", func() error { return os.Remove(path) }, os.ErrNotExist},
		{"something else", func() error { return os.Mkdir(path, 0o755) }, errChanged},
		{"a pipe that nobody writes", func() error { return errors.Join(os.Remove(path), syscall.Mkfifo(path, 0o644)) }, errChanged},
	} {
		if err := change.change(); err != nil {
			t.Fatal(err)
		}
		if err := file.readInto(buf); !errors.Is(err, change.want) {
			t.Errorf("%s: read: %v, want %v", change.name, err, change.want)
		}
		if _, err := file.digest(t.Context()); !errors.Is(err, change.want) {
			t.Errorf("%s: digest: %v, want %v", change.name, err, change.want)
		}
	}
}

// endless is a file that never ends, and what happens when so much of it has been read.
type endless struct {
	size int64
	at   int64
	then func()
}

func (e *endless) Read(b []byte) (int, error) {
	before := e.size
	if e.size += int64(len(b)); before < e.at && e.size >= e.at {
		e.then()
	}
	return len(b), nil
}

// A file in /proc says that it has 0 bytes, and some of them have no end.
func TestAFileWithoutAnEndIsNotReadToItsEnd(t *testing.T) {
	for _, size := range []int64{0, 1, 1 << 20} {
		file := &endless{at: size + 2, then: func() { panic("it reads on") }}
		if err := copySize(t.Context(), io.Discard, file, size); !errors.Is(err, errChanged) {
			t.Errorf("%d bytes: %v, want %v", size, err, errChanged)
		}
		if file.size != size+1 {
			t.Errorf("%d bytes: %d were read, want one more", size, file.size)
		}
	}
}

func TestAnInterruptEndsADigestInTheMiddleOfAFile(t *testing.T) {
	ctx, cancel := context.WithCancelCause(t.Context())
	why := errors.New("interrupted")
	const size = 1 << 30
	file := &endless{at: 10 << 20, then: func() { cancel(why) }}
	if err := copySize(ctx, io.Discard, io.LimitReader(file, size), size); !errors.Is(err, why) {
		t.Errorf("%v, want %v", err, why)
	}
	if file.size >= size {
		t.Errorf("%d bytes were read after it", file.size-file.at)
	}
}

func TestTheRingHoldsTheLargestFile(t *testing.T) {
	for _, test := range []struct {
		size int64
		want int
	}{{0, 1 << 20}, {1<<20 - 8, 1 << 20}, {1<<20 - 7, 1 << 21}, {1<<30 - 8, 1 << 30}, {1<<30 - 7, 0}} {
		have, err := ringSizeFor([]inputFile{{Size: 3}, {Size: test.size, Path: []byte("big")}, {Size: 2}})
		if have != test.want || (err != nil) != (test.want == 0) {
			t.Errorf("%d: ring of %d, %v; want %d", test.size, have, err, test.want)
		}
		if err != nil && !strings.Contains(err.Error(), "big") {
			t.Errorf("the error does not name the file: %v", err)
		}
	}
}

func TestAnswersAreReadAsTheyWereWritten(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a := answer{attachment: rapid.Uint64().Draw(t, "attachment"), redelivered: rapid.Bool().Draw(t, "redelivered")}
		copy(a.digest[:], rapid.SliceOfN(rapid.Byte(), sha256.Size, sha256.Size).Draw(t, "digest"))
		if b, err := parseAnswer(a.bytes()); err != nil || a != b {
			t.Fatalf("%+v became %+v, %v", a, b, err)
		}
		if _, err := parseAnswer(a.bytes()[1:]); err == nil {
			t.Fatal("a short answer was taken")
		}
	})
}

func TestALineFitsIntoOneWriteToAPipe(t *testing.T) {
	var out bytes.Buffer
	w := lineWriter{w: &out}
	if err := w.write(line{Is: lineFailed, Text: strings.Repeat("\x01", 100_000)}); err != nil {
		t.Fatal(err)
	}
	const atomic = 4096 // PIPE_BUF
	if out.Len() > atomic {
		t.Errorf("a line of %d bytes: a dying server may leave half of it", out.Len())
	}
}
