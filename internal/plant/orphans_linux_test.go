package plant

import (
	"io"
	"os/exec"
	"testing"
)

// What a child has left behind ends, and is waited for.
func TestOrphansEnd(t *testing.T) {
	if err := AdoptOrphans(); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("sh", "-c", "sleep 1000 & sleep 1000 & echo left")
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	said := make([]byte, 5)
	if _, err := io.ReadFull(out, said); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Fatal(err)
	}
	if ended := EndOrphans(); ended != 2 {
		t.Errorf("%d have ended, want 2", ended)
	}
	if left := children(); len(left) > 0 {
		t.Errorf("%v are left", left)
	}
}
