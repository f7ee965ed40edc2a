package main

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// A repository is one of git, with a module in it whose package ipc is one function.
type repository struct {
	t         *testing.T
	directory string
}

func newRepository(t *testing.T) repository {
	t.Helper()
	if _, err := exec.LookPath("git"); err != nil {
		t.Skip("NOT RUN: there is no git")
	}
	r := repository{t, t.TempDir()}
	r.git("init", "-q")
	r.write("go.mod", "module example.com/small\n\ngo 1.24\n")
	r.write("ipc/send.go", "package ipc\n\nfunc Send() int { return 1 }\n")
	r.write("ipc/send_test.go", "package ipc\n")
	r.commit("one")
	return r
}

func (r repository) git(args ...string) string {
	r.t.Helper()
	cmd := exec.Command("git", append([]string{"-C", r.directory, "-c", "user.name=n", "-c", "user.email=e", "-c", "commit.gpgsign=false"}, args...)...)
	out, err := cmd.CombinedOutput()
	if err != nil {
		r.t.Fatalf("git %v: %v\n%s", args, err, out)
	}
	return string(out)
}

func (r repository) commit(subject string) {
	r.t.Helper()
	r.git("add", "-A")
	r.git("commit", "-q", "--allow-empty", "-m", subject)
}

func (r repository) write(name, text string) {
	r.t.Helper()
	path := filepath.Join(r.directory, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		r.t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		r.t.Fatal(err)
	}
}

const faster = "package ipc\n\nfunc Send() int { return 2 }\n"

func TestATreeIsComparedWithWhatItHasComeFrom(t *testing.T) {
	for _, c := range []struct {
		name string
		do   func(repository)
		base string
		want string // in the name of the commit
	}{
		{"committed", func(r repository) { r.write("ipc/send.go", faster); r.commit("two") }, "", "HEAD~1, "},
		{"not yet committed", func(r repository) { r.commit("two"); r.write("ipc/send.go", faster) }, "", "HEAD, "},
		{"committed, and a file that is no code", func(r repository) { r.commit("two"); r.write("left", "behind") }, "", "HEAD~1, "},
		{"a commit that is named", func(r repository) { r.commit("two"); r.commit("three") }, "HEAD~2", "(one)"},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newRepository(t)
			c.do(r)
			before := r.git("status", "--porcelain") + r.git("worktree", "list")
			w := newTestWork(t, t.Context())
			directory, name, err := w.parentOf(r.directory, c.base)
			if err != nil {
				t.Fatal(err)
			}
			if !strings.Contains(name, c.want) {
				t.Errorf("it is compared with %s, want %s", name, c.want)
			}
			if text, err := os.ReadFile(filepath.Join(directory, "ipc/send.go")); err != nil || string(text) == faster {
				t.Errorf("the parent has %q (%v)", text, err)
			}
			if now := r.git("status", "--porcelain") + r.git("worktree", "list"); now != before {
				t.Errorf("the repository was %q, and is %q", before, now)
			}
		})
	}
}

func TestWithoutAParentNothingIsCompared(t *testing.T) {
	one := newRepository(t)
	bare := repository{t, t.TempDir()} // no repository at all
	bare.write("go.mod", "module example.com/small\n\ngo 1.24\n")
	bare.write("ipc/send.go", faster)
	for name, r := range map[string]repository{"the first commit": one, "no history": bare} {
		verdict, why, err := guard(t.Context(), r.directory, "", "none")
		if verdict != NotRun || err != nil || strings.Contains(why, "\n") {
			t.Errorf("%s: %s: %s, %v, want NOT RUN in one line", name, verdict, why, err)
		}
	}
	if _, _, err := guard(t.Context(), one.directory, "no-such-commit", "none"); err == nil {
		t.Error("a commit that was named and is not there is no error")
	}
}

// A parent that is broken does not stand in the way of the commit that mends it.
func TestABrokenParentIsVoid(t *testing.T) {
	r := newRepository(t)
	for _, file := range benchmarkFiles {
		r.write("ipc/"+file, "package ipc\n")
	}
	for _, text := range []string{"no code\n", "package ipc\n\nfunc Send() int { return \"\" }\n"} {
		r.write("ipc/send.go", text)
		r.commit("broken")
		r.write("ipc/send.go", faster)
		verdict, why, err := guard(t.Context(), r.directory, "", "none")
		if verdict != Void || err != nil || strings.Contains(why, "\n") {
			t.Errorf("behind %q: %s: %s, %v, want Void", text, verdict, why, err)
		}
	}
	r.commit("mended")
	r.write("ipc/send.go", "package ipc\n\nfunc Send() int { return \"\" }\n")
	if verdict, why, err := guard(t.Context(), r.directory, "", "none"); err == nil {
		t.Errorf("this tree is broken: %s: %s, want an error", verdict, why)
	}
}

func TestTheSameCodeIsNotMeasured(t *testing.T) {
	r := newRepository(t)
	r.write("ipc/send.go", "// Package ipc sends.\npackage ipc\n\nfunc Send() int {\n\treturn 1 // as ever\n}\n")
	r.write("ipc/more_test.go", "package ipc\n")
	r.commit("two")
	t.Setenv("TMPDIR", t.TempDir())
	verdict, why, err := guard(t.Context(), r.directory, "", "none")
	if verdict != Pass || err != nil || !strings.Contains(why, "the same code") {
		t.Errorf("%s: %s, %v", verdict, why, err)
	}
	if left, err := os.ReadDir(os.Getenv("TMPDIR")); err != nil || len(left) > 0 {
		t.Errorf("%v are left (%v)", left, err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, _, err := guard(ctx, r.directory, "", "none"); err == nil {
		t.Errorf("interrupted: %v", err)
	}
}

// What the compiler sees changes the summary of the code, and nothing else does.
func TestCodeIsWhatTheCompilerSees(t *testing.T) {
	const text = "package ipc\n\n// Send sends.\nfunc Send() string { return \"a\" }\n"
	for _, c := range []struct {
		name, file, text string
		same             bool
	}{
		{"a comment", "ipc/send.go", "package ipc\n\nfunc Send() string { return \"a\" }\n", true},
		{"other lines", "ipc/send.go", "package ipc\n\nfunc Send() string {\n\treturn \"a\"\n}\n", true},
		{"a test", "ipc/more_test.go", "package ipc\n", true},
		{"a package that ipc does not import", "other/other.go", "package other\n", true},
		{"a literal", "ipc/send.go", strings.Replace(text, `"a"`, `"b"`, 1), false},
		{"a directive", "ipc/send.go", strings.Replace(text, "// Send sends.", "//go:noinline", 1), false},
		{"one more file", "ipc/more.go", "package ipc\n", false},
		{"a file for another system", "ipc/more_windows.go", "package ipc\n", true},
		{"another version of Go", "go.mod", "module example.com/small\n\ngo 1.23\n", false},
	} {
		r := repository{t, t.TempDir()}
		r.write("go.mod", "module example.com/small\n\ngo 1.24\n")
		r.write("ipc/send.go", text)
		w := newTestWork(t, t.Context())
		before, err := w.code(r.directory)
		if err != nil {
			t.Fatal(err)
		}
		r.write(c.file, c.text)
		after, err := w.code(r.directory)
		if err != nil {
			t.Fatal(err)
		}
		if (before == after) != c.same {
			t.Errorf("%s: the same %v, want %v", c.name, before == after, c.same)
		}
	}
}
