package main

import (
	"fmt"
	"strconv"
	"strings"
)

// faultVariable names, in the environment, a fault for the client to have, as
// KIND:MESSAGE. Tests plant one to see that the demo finds it: a check that
// cannot fail is not a check.
const faultVariable = "TANDEM_DEMO_FAULT"

// The kinds of faults.
const (
	faultFlip   = "flip"   // the digest has a wrong bit
	faultLose   = "lose"   // no answer is sent
	faultRepeat = "repeat" // the answer is sent twice
	faultSwap   = "swap"   // the answer is sent behind the next one
)

// A fault is what is wrong with a client; nil is nothing.
type fault struct {
	kind    string
	message uint32
	held    *answer // the answer to be sent behind the next one
}

func plantedFault(text string) (*fault, error) {
	if text == "" {
		return nil, nil
	}
	kind, number, _ := strings.Cut(text, ":")
	message, err := strconv.ParseUint(number, 10, 32)
	switch kind {
	case faultFlip, faultLose, faultRepeat, faultSwap:
	default:
		err = fmt.Errorf("no fault is called %q", kind)
	}
	if err != nil {
		return nil, fmt.Errorf("%s=%s: %w", faultVariable, text, err)
	}
	return &fault{kind: kind, message: uint32(message)}, nil
}

// answer sends an answer the way that the fault has it.
func (f *fault) answer(message uint32, a answer, send func(uint32, answer) error) error {
	if f == nil {
		return send(message, a)
	}
	if f.held != nil {
		held := *f.held
		f.held = nil
		if err := send(message, a); err != nil {
			return err
		}
		return send(f.message, held)
	}
	if message != f.message {
		return send(message, a)
	}
	switch f.kind {
	case faultFlip:
		a.digest[0] ^= 1
	case faultLose:
		return nil
	case faultRepeat:
		if err := send(message, a); err != nil {
			return err
		}
	case faultSwap:
		f.held = &a
		return nil
	}
	return send(message, a)
}
