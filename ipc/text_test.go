package ipc

import (
	"encoding"
	"encoding/json"
	"testing"
)

// What has a name is written by it, and read again; what has none is an error.
func TestNamesAreWrittenAndReadAgain(t *testing.T) {
	check := func(value interface {
		encoding.TextMarshaler
		String() string
	}, read encoding.TextUnmarshaler, back func() any) {
		t.Helper()
		text, err := value.MarshalText()
		if err != nil || string(text) != value.String() {
			t.Errorf("%v is written as %q, %v", value, text, err)
		}
		if err := read.UnmarshalText(text); err != nil || back() != value {
			t.Errorf("%q is read as %v, %v", text, back(), err)
		}
		for _, none := range []string{"nobody", "Server"} {
			if err := read.UnmarshalText([]byte(none)); err == nil || back() != value {
				t.Errorf("%q is read as %v, %v", none, back(), err)
			}
		}
	}
	for r := RoleServer; r <= RoleClient; r++ {
		var read Role
		check(r, &read, func() any { return read })
	}
	for s := PeerAbsent; s <= PeerClosed; s++ {
		var read PeerState
		check(s, &read, func() any { return read })
	}
	for k := EventAttached; k <= EventResumed; k++ {
		var read EventKind
		check(k, &read, func() any { return read })
	}
	for name, none := range map[string]encoding.TextMarshaler{
		"role 3": Role(3), "state 5": PeerState(5), "event 200": EventKind(200),
	} {
		if text, err := none.MarshalText(); err == nil {
			t.Errorf("%s is written as %q", name, text)
		}
	}
	var zero, read struct { // of a value that nobody has filled in
		Role  Role
		Event EventKind
		Peer  PeerState
	}
	text, err := json.Marshal(zero)
	if err != nil || json.Unmarshal(text, &read) != nil || read != zero || string(text) != `{"Role":"","Event":"","Peer":"absent"}` {
		t.Errorf("zero values as JSON: %s, %v, read as %v", text, err, read)
	}
	if err := new(PeerState).UnmarshalText(nil); err == nil {
		t.Error("nothing is read as the state of a peer")
	}
	if text, err := json.Marshal(map[PeerState]Role{PeerHung: RoleClient}); err != nil || string(text) != `{"hung":"client"}` {
		t.Errorf("as JSON: %s, %v", text, err)
	}
}
