package main

import (
	"crypto/sha256"
	"fmt"
	"slices"
	"time"
)

// A judge counts what the answers say about the channel's promises. It hears
// nothing but the lines of the servers.
type judge struct {
	files    int
	answered []bool
	digests  [][sha256.Size]byte // the first answer of each message
	wavering []bool              // a later answer has another digest
	skips    map[uint32]string   // messages that were not sent, and why
	answers  int                 // messages answered

	// The position in the commit order, anew for each server.
	highest    int    // the message answered last for the first time, -1 if none
	attachment uint64 // of the client that gave the last answer
	reached    int    // the highest message number answered or skipped, counted from 1

	redelivered, answeredTwice, duplicated, outOfOrder int

	kills, clients int
	pids           []int
	recoveries     []time.Duration
	generations    []uint64
	finished       bool
}

func newJudge(files, messages int) *judge {
	return &judge{
		files: files, answered: make([]bool, messages), digests: make([][sha256.Size]byte, messages),
		wavering: make([]bool, messages), skips: map[uint32]string{}, highest: -1,
	}
}

// nextServer says that the lines to come are of another server.
func (j *judge) nextServer() { j.highest, j.attachment, j.reached, j.finished = -1, 0, 0, false }

// take hears one line. An error means that the run cannot go on.
func (j *judge) take(l line) error {
	switch l.Is {
	case lineServing:
		j.generations = append(j.generations, l.Generation)
	case lineClient:
		j.clients++
		j.pids = append(j.pids, l.PID)
	case lineAnswer:
		return j.takeAnswer(l)
	case lineSkipped:
		if int(l.Message) >= len(j.answered) {
			return fmt.Errorf("message %d was skipped, and there is no such message", l.Message)
		}
		j.skips[l.Message] = l.Text
		j.reached = max(j.reached, int(l.Message)+1)
	case lineKilled:
		j.kills++
	case lineRecovered:
		j.recoveries = append(j.recoveries, time.Duration(l.Nanos))
	case lineFinished:
		j.finished = true
	case lineFailed:
		return fmt.Errorf("the server says: %s", l.Text)
	default:
		return fmt.Errorf("the server says %q, which means nothing", l.Is)
	}
	return nil
}

// takeAnswer judges one answer by M1 to M3: one for each message, in the order
// in which they were committed, except that what a dead client had in its hands
// comes again: first, and marked.
func (j *judge) takeAnswer(l line) error {
	m := int(l.Message)
	if m >= len(j.answered) || len(l.Digest) != sha256.Size {
		return fmt.Errorf("an answer to message %d with a digest of %d bytes: there is no such thing", m, len(l.Digest))
	}
	digest := [sha256.Size]byte(l.Digest)
	first := l.Attachment != j.attachment // of this client
	j.attachment = l.Attachment
	repeat := j.answered[m]
	if l.Redelivered {
		j.redelivered++
	}
	switch {
	case repeat && !l.Redelivered:
		j.duplicated++
	case l.Redelivered && !first, // what comes again comes first
		repeat && m != j.highest, // and was the last one answered
		!repeat && m < j.highest: // the others ascend
		j.outOfOrder++
	}
	if repeat {
		j.wavering[m] = j.wavering[m] || digest != j.digests[m]
		if l.Redelivered {
			j.answeredTwice++
		}
	} else {
		j.answered[m], j.digests[m] = true, digest
		j.answers++
	}
	j.highest = max(j.highest, m)
	j.reached = max(j.reached, m+1)
	return nil
}

// open returns the messages that are neither answered nor skipped, ascending.
func (j *judge) open() []uint32 {
	open := []uint32{}
	for m, answered := range j.answered {
		if _, skipped := j.skips[uint32(m)]; !answered && !skipped {
			open = append(open, uint32(m))
		}
	}
	return open
}

// servers is the number of different generations.
func (j *judge) servers() int {
	return len(slices.Compact(slices.Sorted(slices.Values(j.generations))))
}

// A comparison is what became of the answers next to the digests computed
// without any IPC.
type comparison struct {
	files, messages int   // whose digests were compared
	bytes           int64 // that these messages carried
	mismatched      int   // messages
	skipped         []skipped
	example         string // of a mismatch
}

// compare holds every answer against the digest that this process computed from
// the file itself. A file that has changed meanwhile has nothing to be held
// against, and is skipped.
func (j *judge) compare(files []inputFile, digests [][sha256.Size]byte, errs []error) (c comparison) {
	for i, file := range files {
		reason := errs[i]
		compared := 0
		for m := i; m < len(j.answered); m += j.files {
			if text, found := j.skips[uint32(m)]; found && reason == nil {
				reason = fmt.Errorf("not sent: %s", text)
			}
			if !j.answered[m] || errs[i] != nil {
				continue
			}
			compared++
			c.bytes += file.Size
			if j.wavering[m] || j.digests[m] != digests[i] {
				c.mismatched++
				c.example = fmt.Sprintf("%s, as message %d: answered %x, computed %x", file.Path, m, j.digests[m], digests[i])
			}
		}
		c.messages += compared
		if reason != nil {
			c.skipped = append(c.skipped, skipped{string(file.Path), reason})
		} else if compared > 0 {
			c.files++
		}
	}
	return c
}
