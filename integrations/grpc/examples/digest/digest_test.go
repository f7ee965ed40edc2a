//go:build linux && (amd64 || arm64)

package main

import (
	"bufio"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// watchdog bounds every wait of a test. It is a watchdog's bound, not a claim.
const watchdog = 2 * time.Minute

// asDigest in the environment makes the test binary the program itself.
const asDigest = "TANDEM_TEST_AS_DIGEST"

func TestMain(m *testing.M) {
	go func() { // a timer: where a process has none, Go 1.26 can stop the world for a minute
		for range time.NewTicker(10 * time.Millisecond).C {
		}
	}()
	if os.Getenv(asDigest) != "" {
		go func() { // nobody else holds the other end: the test is gone
			_, _ = io.Copy(io.Discard, os.Stdin)
			os.Exit(4)
		}()
		main()
		return
	}
	os.Exit(m.Run())
}

// A process is the program, as the test sees it.
type process struct {
	t       *testing.T
	cmd     *exec.Cmd
	address string // where it serves or answers
	ended   func() error
}

// start starts the program, and waits until it listens.
func start(t *testing.T, arguments ...string) *process {
	t.Helper()
	p := &process{t: t, cmd: exec.Command("/proc/self/exe", arguments...)}
	p.cmd.Env = append(os.Environ(), asDigest+"=yes")
	p.cmd.Stderr = os.Stderr
	if _, err := p.cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	stdout, err := p.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	p.ended = sync.OnceValue(p.cmd.Wait)
	t.Cleanup(p.kill)
	timer := time.AfterFunc(watchdog, func() { _ = p.cmd.Process.Kill() })
	defer timer.Stop()
	line, err := bufio.NewReader(stdout).ReadString('\n')
	if err != nil {
		t.Fatalf("%v says nothing: %v", arguments, err)
	}
	p.address = strings.TrimSpace(line[strings.LastIndex(line, " on ")+4:])
	return p
}

func (p *process) kill() {
	_ = p.cmd.Process.Kill()
	_ = p.ended()
}

// stop asks the process to leave, and sees that it does.
func (p *process) stop() {
	p.t.Helper()
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		p.t.Fatal(err)
	}
	timer := time.AfterFunc(watchdog, func() { _ = p.cmd.Process.Kill() })
	defer timer.Stop()
	if err := p.ended(); err != nil {
		p.t.Fatalf("%v: %v", p.cmd.Args, err)
	}
}

// askFront has the front work, and returns who has done it.
func askFront(t *testing.T, front *process, text string) (worker string) {
	t.Helper()
	client := &http.Client{Timeout: watchdog}
	response, err := client.Post("http://"+front.address, "", strings.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	answer, err := io.ReadAll(response.Body)
	if err != nil || response.StatusCode != http.StatusOK {
		t.Fatalf("%s %q, %v", response.Status, answer, err)
	}
	sum, worker, found := strings.Cut(strings.TrimSpace(string(answer)), " by ")
	if want := fmt.Sprintf("%x", sha256.Sum256([]byte(text))); sum != want || !found {
		t.Fatalf("answered %q, want the digest %s", answer, want)
	}
	return worker
}

// wantAll asks until each of the workers has answered.
func wantAll(t *testing.T, front *process, workers ...string) {
	t.Helper()
	left := map[string]bool{}
	for _, worker := range workers {
		left[worker] = true
	}
	for deadline := time.Now().Add(watchdog); len(left) > 0; runtime.Gosched() {
		if time.Now().After(deadline) {
			t.Fatalf("%v have never answered", left)
		}
		delete(left, askFront(t, front, "some text"))
	}
}

// The volume is as Kubernetes makes it, open to everybody.
func TestTheFrontOutlivesItsWorkersOnOneMachine(t *testing.T) {
	volume := shortDirectory(t)
	if err := os.Chmod(volume, 0o777); err != nil {
		t.Fatal(err)
	}
	paths := []string{volume + "/pairs/0", volume + "/pairs/1"}
	workers := []*process{
		start(t, "serve", "-name=zero", "-listen=tandem:"+paths[0]),
		start(t, "serve", "-name=one", "-listen=tandem:"+paths[1]),
	}
	front := start(t, "front", "-http=127.0.0.1:0", "-workers=tandem:"+strings.Join(paths, ","))
	wantAll(t, front, "zero", "one")
	workers[0].kill()
	for range 20 {
		if worker := askFront(t, front, "other text"); worker != "one" {
			t.Fatalf("%s has answered, and it is dead", worker)
		}
	}
	workers[0] = start(t, "serve", "-name=zero again", "-listen=tandem:"+paths[0])
	wantAll(t, front, "zero again", "one")
	workers[1].stop() // in good order
	for range 20 {
		if worker := askFront(t, front, "other text"); worker != "zero again" {
			t.Fatalf("%s has answered, and it has stopped", worker)
		}
	}
	front.stop()
	workers[0].stop()
}

func TestTheSameProgramServesOverTCPWithCertificates(t *testing.T) {
	directory := t.TempDir()
	files := certify(t, directory)
	worker := start(t, append([]string{"serve", "-name=far", "-listen=127.0.0.1:0"}, files...)...)
	front := start(t, append([]string{"front", "-http=127.0.0.1:0", "-workers=dns:///" + worker.address}, files...)...)
	wantAll(t, front, "far")
}

// shortDirectory is one whose name leaves room in the address of a socket.
func shortDirectory(t *testing.T) string {
	t.Helper()
	directory, err := os.MkdirTemp("", "digest")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(directory) })
	return directory
}

// certify makes a certificate that is its own authority, and returns the flags for it.
func certify(t *testing.T, directory string) []string {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "digest"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		IsCA: true, BasicConstraintsValid: true, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
	}
	certificate, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	flags := []string{}
	for name, block := range map[string]*pem.Block{
		"cert": {Type: "CERTIFICATE", Bytes: certificate}, "ca": {Type: "CERTIFICATE", Bytes: certificate},
		"key": {Type: "PRIVATE KEY", Bytes: der},
	} {
		file := filepath.Join(directory, name)
		if err := os.WriteFile(file, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
		flags = append(flags, "-"+name+"="+file)
	}
	return flags
}
