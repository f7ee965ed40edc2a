//go:build linux && (amd64 || arm64)

package worker

import (
	"errors"
	"strings"
	"testing"
)

// A user can make an error of each exported type himself, as a stub in a test, and print it.
func TestTheZeroValueOfEachErrorHasAText(t *testing.T) {
	for name, zero := range map[string]error{
		"RemoteError": &RemoteError{}, "DeathError": &DeathError{}, "DeathError of a call": &DeathError{Method: "work"},
	} {
		func() {
			defer func() {
				if cause := recover(); cause != nil {
					t.Errorf("%s panics: %v", name, cause)
				}
			}()
			if text := zero.Error(); text == "" || strings.Contains(text, "%!") {
				t.Errorf("%s: %q", name, text)
			}
			var other *RemoteError
			if errors.Is(zero, ErrPoison) || errors.As(zero, &other) != (name == "RemoteError") {
				t.Errorf("%s is an error that it does not name", name)
			}
		}()
	}
	for name, text := range map[string]string{"Death": Death{}.String(), "Reason": Reason(0).String(), "EventKind": EventKind(0).String()} {
		if text == "" || strings.Contains(text, "%!") {
			t.Errorf("%s: %q", name, text)
		}
	}
}
