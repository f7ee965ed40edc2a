package chaos

import (
	"reflect"
	"testing"

	"github.com/tandem-ipc/tandem/ipc"
)

func TestCoordinatesGoThroughText(t *testing.T) {
	want := coordinate{false, ipc.RoleClient, []string{"send", "batch"}, []point{{ipc.RoleClient, ipc.RoleClient, 7}, {ipc.RoleServer, ipc.RoleClient, 3}}}
	for _, text := range []string{"client:send,batch/client@7/server@client.3", "recorded,client:send,batch/client@7/server@client.3"} {
		if want.String() != text {
			t.Errorf("printed as %s", want)
		}
		if got, err := parseCoordinate(text); err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("read as %+v, %v", got, err)
		}
		want.Recorded = true
	}
	for _, wrong := range []string{"", "client", "client:", "nobody:send", "client:send/7", "client:send/client@0", "client:send/nobody@1", "client:send/client@nobody.1"} {
		if _, err := parseCoordinate(wrong); err == nil {
			t.Errorf("%q was read", wrong)
		}
	}
}

func TestSequencesAreAll(t *testing.T) {
	brief, final := len(briefOperations), len(finalOperations)
	all := sequences(3)
	if want := (brief + final) * (1 + brief + brief*brief); len(all) != want {
		t.Errorf("%d sequences, want %d", len(all), want)
	}
	seen := map[string]bool{}
	for _, s := range all {
		c := coordinate{Actor: ipc.RoleServer, Operations: s}
		if seen[c.String()] {
			t.Errorf("%v twice", c)
		}
		seen[c.String()] = true
	}
}
