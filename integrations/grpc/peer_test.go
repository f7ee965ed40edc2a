//go:build linux && (amd64 || arm64)

package tandemgrpc

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"

	"github.com/tandem-ipc/tandem/ipc"
	"github.com/tandem-ipc/tandem/ipc/conn"
)

// whoCalls makes a call, and returns whom the server's interceptor has seen, and what
// the client has found out about the server.
func whoCalls(ctx context.Context, cc *grpc.ClientConn, options ...grpc.CallOption) (seen string, server credentials.AuthInfo, err error) {
	var header metadata.MD
	var p peer.Peer
	_, err = ask(ctx, cc, "who", append(options, grpc.Header(&header), grpc.Peer(&p), grpc.WaitForReady(true))...)
	return strings.Join(header.Get("peer"), " "), p.AuthInfo, err
}

// It says whom the server has seen.
var _ = part("caller", func(arguments []string) {
	// The server is root's, or of this user.
	cc, err := grpc.NewClient(arguments[0], DialOptions(waiting)...)
	check(err)
	seen, _, err := whoCalls(context.Background(), cc)
	check(err)
	say("%s", seen)
	<-told["leave"]
	check(cc.Close())
	say("left")
	<-told["leave"]
})

func TestBothSidesLearnTheProcessOfTheOther(t *testing.T) {
	target := "tandem:" + testPath(t)
	worker := startWorker(t, target)
	cc := newClient(t, target)
	seen, info, err := whoCalls(testContext(t), cc)
	if err != nil {
		t.Fatal(err)
	}
	if want := fmt.Sprintf("uid %d pid %d PrivacyAndIntegrity", os.Geteuid(), os.Getpid()); seen != want {
		t.Errorf("the worker has seen %q, want %q", seen, want)
	}
	want := AuthInfo{credentials.CommonAuthInfo{SecurityLevel: credentials.PrivacyAndIntegrity}, uint32(os.Geteuid()), worker.cmd.Process.Pid}
	if info != credentials.AuthInfo(want) {
		t.Errorf("this side has seen %+v, want %+v", info, want)
	}
}

// nobody is an unprivileged user and group.
const nobody = 65534

func TestTheServerLearnsTheUserOfEachClient(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("becoming another user needs root")
	}
	path := testPath(t)
	if err := os.Chmod(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	serveHere(t, "tandem:"+path, &Options{Conn: &conn.Options{IPC: &ipc.Options{AllowUIDs: []uint32{0, nobody}}}})
	for _, user := range []*syscall.Credential{nil, {Uid: nobody, Gid: nobody}, nil} {
		client := startAs(t, user, "caller", "tandem:"+path)
		uid := uint32(0)
		if user != nil {
			uid = user.Uid
		}
		client.expect(fmt.Sprintf("uid %d pid %d PrivacyAndIntegrity", uid, client.cmd.Process.Pid))
		client.kill()
	}
}

// A token is sent only where it cannot be read.
type token struct{}

func (token) GetRequestMetadata(context.Context, ...string) (map[string]string, error) {
	return map[string]string{"authorization": "secret"}, nil
}
func (token) RequireTransportSecurity() bool { return true }

func TestTokensGoOverPairsAndNotOverInsecureConnections(t *testing.T) {
	target := "tandem:" + testPath(t)
	serveHere(t, target, nil)
	overTCP, _ := serveHere(t, "127.0.0.1:0", nil)
	options := append(DialOptions(&Options{Remote: insecure.NewCredentials()}), grpc.WithPerRPCCredentials(token{}))
	for _, target := range []string{target, "dns:///" + overTCP.Addr().String()} {
		cc, err := grpc.NewClient(target, options...)
		if err != nil {
			t.Fatal(err)
		}
		defer cc.Close()
		if strings.HasPrefix(target, "tandem:") {
			mustCall(t, cc)
		} else {
			wantUnavailable(t, cc, "cannot send secure credentials on an insecure connection")
		}
	}
}

func TestOneServerAndOneSetOfOptionsServeEveryScheme(t *testing.T) {
	path := testPath(t)
	serveHere(t, "tandem:"+path, nil)
	serveHere(t, "unix:"+path+".unix", nil)
	serveHere(t, "@"+path, nil)
	overTCP, _ := serveHere(t, "127.0.0.1:0", nil)
	for target, want := range map[string]string{
		"tandem:" + path:                         fmt.Sprintf("uid %d pid %d PrivacyAndIntegrity", os.Geteuid(), os.Getpid()),
		"tandem://" + path:                       fmt.Sprintf("uid %d pid %d PrivacyAndIntegrity", os.Geteuid(), os.Getpid()),
		"unix:" + path + ".unix":                 "insecure",
		"unix://" + path + ".unix":               "insecure",
		"unix-abstract:" + path:                  "insecure",
		"dns:///" + overTCP.Addr().String():      "insecure",
		"passthrough:" + overTCP.Addr().String(): "insecure",
	} {
		cc, err := grpc.NewClient(target, DialOptions(&Options{Remote: insecure.NewCredentials()})...)
		if err != nil {
			t.Fatal(err)
		}
		if seen, _, err := whoCalls(testContext(t), cc); err != nil || seen != want {
			t.Errorf("%s: the server has seen %q, %v; want %q", target, seen, err, want)
		}
		if err := cc.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

func TestWithoutCredentialsForOthersThereAreOnlyPairs(t *testing.T) {
	overTCP, _ := serveHere(t, "127.0.0.1:0", nil)
	wantUnavailable(t, newClient(t, "dns:///"+overTCP.Addr().String()), ErrNotAPair.Error())
}

func TestASecondProcessIsRefusedUntilTheFirstHasLeft(t *testing.T) {
	target := "tandem:" + testPath(t)
	serveHere(t, target, nil)
	first := start(t, "caller", target)
	first.expect(fmt.Sprintf("uid %d pid %d PrivacyAndIntegrity", os.Geteuid(), first.cmd.Process.Pid))
	cc := newClient(t, target)
	wantUnavailable(t, cc, fmt.Sprint("process ", first.cmd.Process.Pid))
	first.tell("leave")
	first.expect("left") // it lives on
	mustCall(t, cc)
}

func TestClientsOfOneProcessShareAnAttachment(t *testing.T) {
	path := testPath(t)
	serveHere(t, "tandem:"+path, nil)
	first, second := newClient(t, "tandem:"+path), newClient(t, "tandem:"+path)
	for range 3 {
		mustCall(t, first)
		mustCall(t, second)
		if n := dialersInUse(); n != 1 {
			t.Fatalf("%d dialers are in use, want one", n)
		}
		if err := first.Close(); err != nil {
			t.Fatal(err)
		}
		mustCall(t, second)
		first = newClient(t, "tandem:"+path)
	}
	for _, cc := range []*grpc.ClientConn{first, second} {
		if err := cc.Close(); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, "nobody uses a dialer", func() bool { return dialersInUse() == 0 })
}

// A connection that comes while the last one leaves the server waits for that, and
// attaches anew: it finds neither a closed dialer nor its own process in the way.
func TestConnectionsThatComeAndGoAtOnceAreNotRefused(t *testing.T) {
	path := testPath(t)
	serveHere(t, "tandem:"+path, nil)
	ctx := testContext(t)
	failed := make(chan error, 2) // so few that often none is open
	for range cap(failed) {
		go func() {
			for range 200 {
				c, err := dialPath(ctx, key{path, nil})
				if err == nil {
					err = c.Close()
				}
				if err != nil {
					failed <- err
					return
				}
			}
			failed <- nil
		}()
	}
	for range cap(failed) {
		if err := within(t, "coming and going", func() error { return <-failed }); err != nil {
			t.Error(err)
		}
	}
}

func dialersInUse() int {
	dialers.Lock()
	defer dialers.Unlock()
	return len(dialers.of)
}

func TestTargetsThatNameNoPathAreRefused(t *testing.T) {
	for _, target := range []string{"tandem:", "tandem://host/path", "tandem:/a?b", "tandem:/a#b", "tandem:/a,,/b", "tandem:/a,"} {
		wantUnavailable(t, newClient(t, target), "tandemgrpc: target")
	}
}
