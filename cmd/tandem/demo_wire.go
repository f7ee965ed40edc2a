package main

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"sync"
)

// The names under which this binary plays the other two processes of the demo.
const (
	serverPart = "demo-server"
	clientPart = "demo-client"
)

// A setup is what the orchestrator tells a server on its standard input, as one
// JSON object. The rest of that input is its life line: it ends with the
// orchestrator, and then server and client exit.
type setup struct {
	ToClientSize int         `json:"to_client_size"`
	Files        []inputFile `json:"files"`

	// Messages are the numbers of the messages to send, ascending. Message m
	// carries the file m modulo len(Files), and m as its kind.
	Messages []uint32 `json:"messages"`

	// Points are the deaths to come, or none: then there is nothing to hold
	// back. The last one is the server's own.
	Points []point `json:"points"`
	Total  int     `json:"total"`
}

// endMessage is the kind of the message behind the last file. Its answer says
// that all answers before it have come (M2).
const endMessage = math.MaxUint32

// An answer is what the client sends back for a message, under the same kind.
type answer struct {
	digest      [sha256.Size]byte
	attachment  uint64 // of the client that answers
	redelivered bool   // the message was marked
}

const answerSize = sha256.Size + 8 + 1

func (a answer) bytes() []byte {
	data := make([]byte, 0, answerSize)
	data = append(data, a.digest[:]...)
	data = binary.LittleEndian.AppendUint64(data, a.attachment)
	if a.redelivered {
		return append(data, 1)
	}
	return append(data, 0)
}

func parseAnswer(data []byte) (a answer, err error) {
	if len(data) != answerSize || data[answerSize-1] > 1 {
		return answer{}, fmt.Errorf("an answer of %d bytes is not one: % x", len(data), data)
	}
	copy(a.digest[:], data)
	a.attachment = binary.LittleEndian.Uint64(data[sha256.Size:])
	a.redelivered = data[answerSize-1] == 1
	return a, nil
}

// A lineKind says what a server reports in one line.
type lineKind string

const (
	lineServing   lineKind = "serving"   // it listens: Generation
	lineClient    lineKind = "client"    // it has started a client: PID
	lineAnswer    lineKind = "answer"    // Message, Digest, Attachment, Redelivered
	lineSkipped   lineKind = "skipped"   // a file could not be read, or is not what it was: Message, Text
	lineKilled    lineKind = "killed"    // it has killed its client, as planned
	lineRecovered lineKind = "recovered" // the first answer after that: Nanos since the kill
	lineFinished  lineKind = "finished"  // all is answered, and the client has left
	lineFailed    lineKind = "failed"    // it cannot go on: Text
)

// A line is what a server reports on its standard output, as JSON.
type line struct {
	Is          lineKind `json:"is"`
	Generation  uint64   `json:"generation,omitempty"`
	PID         int      `json:"pid,omitempty"`
	Message     uint32   `json:"message,omitempty"`
	Digest      []byte   `json:"digest,omitempty"`
	Attachment  uint64   `json:"attachment,omitempty"`
	Redelivered bool     `json:"redelivered,omitempty"`
	Nanos       int64    `json:"nanos,omitempty"`
	Text        string   `json:"text,omitempty"`
}

// maxText bounds the text in a line, so that a line is never longer than what
// the kernel writes into a pipe in one piece: a server that is killed has
// written all of its last line, or nothing.
const maxText = 500

// A lineWriter writes lines, each with one system call, from any goroutine.
type lineWriter struct {
	mu sync.Mutex
	w  io.Writer
}

func (w *lineWriter) write(l line) error {
	if len(l.Text) > maxText {
		l.Text = l.Text[:maxText] + "..."
	}
	data, err := json.Marshal(l)
	if err != nil {
		return err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	_, err = w.w.Write(append(data, '\n'))
	return err
}
