//go:build linux && (amd64 || arm64)

package ipc

import (
	"bytes"
	"errors"
	"os"
	"strings"
	"testing"
)

// healing says what a server makes of its files: a lock file of ours heals, whatever
// stands behind its first words, and if a power cut has left only the beginning of
// them, or zeros. A token file is empty.
func healing(lock, token []byte) (heals, foreign bool) {
	begin := []byte("tandem lock file")
	n := min(len(lock), len(begin))
	ours := bytes.Equal(lock[:n], begin[:n]) || len(bytes.Trim(lock, "\x00")) == 0
	return ours && len(lock) <= 512 && len(token) == 0, !ours || len(token) > 0
}

// FuzzLockFile starts a server beside a lock file and a token file that say
// anything. Ours heal; a foreign one is refused, and stays as it is, byte for byte.
func FuzzLockFile(f *testing.F) {
	for _, content := range []string{
		"", "tandem lock file\n", "tandem lock file\ngeneration 00000000000000000007\nserver 1 started", "#!/bin/sh\n", "tandem",
		strings.Repeat("\x00", 140), recordFormat, "tandem lock file\n" + strings.Repeat("x", 1000),
		"tandem lock file\ngeneration 18446744073709551615\n", "tandem lock file\ngeneration 99999999999999999999\n",
	} {
		f.Add([]byte(content), []byte(nil), false)
	}
	f.Add([]byte(nil), []byte("a file of somebody else"), true)
	path := testPath(f)
	f.Fuzz(func(t *testing.T, lock, token []byte, tokenExists bool) {
		defer withinTime()()
		around := lookAround()
		if !tokenExists {
			token = nil
		}
		files := map[string][]byte{path + ".lock": lock[:min(len(lock), 4096)]}
		if tokenExists {
			files[path+".token"] = token
		}
		for name, content := range files {
			if err := os.WriteFile(name, content, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		defer func() {
			for _, suffix := range []string{"", ".lock", ".token", ".token.new"} {
				_ = os.Remove(path + suffix)
			}
		}()
		server, err := Listen(t.Context(), path, hostileOptions())
		if err == nil {
			checkHealed(t, server)
		} else {
			checkUntouched(t, err, files)
		}
		if heals, foreign := healing(lock, token); heals && err != nil || foreign && err == nil {
			t.Fatalf("Listen beside %q and %q: %v", lock, token, err)
		}
		around.check(t)
	})
}

// checkHealed checks that a server beside files of ours serves, and that the next
// one counts on from it.
func checkHealed(t testing.TB, server *Endpoint) {
	t.Helper()
	path, generation := server.Path(), server.Generation()
	client, err := Dial(t.Context(), path, hostileOptions())
	if err != nil {
		t.Fatalf("dial: %v", err)
	}
	newHonest(t, server).exchange(client)
	if err := errors.Join(client.Close(), server.Close()); err != nil {
		t.Fatalf("close: %v", err)
	}
	if generation == 0 {
		t.Fatal("L4: a generation has the number 0, which is that of none")
	}
	content, err := os.ReadFile(path + ".lock")
	if err != nil || !bytes.HasPrefix(content, []byte("tandem lock file\ngeneration 0")) && !bytes.HasPrefix(content, []byte("tandem lock file\ngeneration 1")) {
		t.Fatalf("behind the server the lock file says %q, %v", content, err)
	}
}

// checkUntouched checks what was refused.
func checkUntouched(t testing.TB, err error, files map[string][]byte) {
	t.Helper()
	if !errors.Is(err, ErrForeign) {
		t.Fatalf("Listen: %v, want ErrForeign", err)
	}
	for name, content := range files {
		if _, foreign := healing(content, nil); !foreign && strings.HasSuffix(name, ".lock") {
			continue // it may say who tried
		}
		if now, err := os.ReadFile(name); err != nil || !bytes.Equal(now, content) {
			t.Fatalf("%s said %q, and says %q, %v", name, content, now, err)
		}
	}
}
