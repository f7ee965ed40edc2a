// Tandem shows what the message channel of package ipc promises, with real
// processes.
//
//	tandem demo     real work through shared memory, with the worker killed again and again
//	tandem chaos    the channel broken in every way that is known, layer by layer, and judged
//	tandem bench    what a message costs on this machine, beside sockets and pipes
//	tandem version  the version of this command
//	tandem help     a summary of the commands
//
// Each command explains itself with -help. The exit status is 0 only if all
// that a command is about to show was shown, 1 if it was not, 2 for a command line
// that makes no sense, and 128 more than the number of the signal that has interrupted it.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime/debug"
	"slices"
	"strings"
	"syscall"
	"text/tabwriter"

	"github.com/tandem-ipc/tandem/chaos"
)

// The exit statuses of all commands.
const (
	exitOK     = 0
	exitFailed = 1
	exitUsage  = 2
)

// An interruption is a signal that asks a command to end.
type interruption struct{ signal syscall.Signal }

func (i interruption) Error() string { return "interrupted: " + i.signal.String() }

// interruptible returns a context that such a signal ends.
func interruptible() (ctx context.Context, stop func()) {
	ctx, cancel := context.WithCancelCause(context.Background())
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	go func() {
		select {
		case s := <-signals:
			cancel(interruption{s.(syscall.Signal)})
		case <-ctx.Done():
		}
	}()
	return ctx, func() {
		signal.Stop(signals)
		cancel(nil)
	}
}

// endedWith is the exit status of an interruptible command: also when it was interrupted, and
// has not done all for that.
func endedWith(ctx context.Context, status int) int {
	var by interruption
	if status == exitFailed && errors.As(context.Cause(ctx), &by) {
		return 128 + int(by.signal)
	}
	return status
}

// A command is one word behind "tandem". One without a summary is a part that
// another command plays in a process of its own, and is not for people.
type command struct {
	name, summary string
	run           func(args []string, stdout, stderr io.Writer) int
}

var commands = []command{
	{"demo", "real work through shared memory, with the worker killed again and again", demo},
	{"chaos", "the channel broken in every way that is known, layer by layer, and judged", breakAndJudge},
	{"bench", "what a message costs on this machine, beside sockets and pipes", bench},
	{"version", "the version of this command", version},
	{serverPart, "", playServer},
	{clientPart, "", playClient},
	{driverPart, "", playDriver},
}

func main() {
	// The processes that chaos starts are this binary again, and share its
	// terminal: ^C is for the one that has started them.
	signal.Ignore(os.Interrupt, syscall.SIGHUP)
	chaos.Main()
	signal.Reset(os.Interrupt, syscall.SIGHUP)
	os.Exit(tandem(os.Args[1:], os.Stdout, os.Stderr))
}

// tandem runs the command that args name.
func tandem(args []string, stdout, stderr io.Writer) int {
	if len(args) == 0 {
		_ = usage(stderr)
		return exitUsage
	}
	switch args[0] {
	case "-version", "--version":
		args = append([]string{"version"}, args[1:]...)
	case "help", "-h", "-help", "--help":
		if len(args) == 1 {
			return said(usage(stdout), "tandem help", stderr)
		}
		args = append(slices.Clone(args[1:]), "-help")
	}
	for _, c := range commands {
		if c.name == args[0] && (c.summary != "" || args[len(args)-1] != "-help") {
			return c.run(args[1:], stdout, stderr)
		}
	}
	return misused("tandem", fmt.Errorf("there is no command %q", args[0]), "tandem help", stderr)
}

// misused says in one line what is wrong with a command line, and where the help is.
func misused(command string, err error, help string, stderr io.Writer) int {
	fmt.Fprintf(stderr, "%s: %v; see %s\n", command, err, help)
	return exitUsage
}

// said is the exit status of a command that only had to print something.
func said(err error, command string, stderr io.Writer) int {
	if err != nil {
		fmt.Fprintf(stderr, "%s: %v\n", command, err)
		return exitFailed
	}
	return exitOK
}

// parseFlags reads the command line of a command. If that is all there is to do, done is
// true, and status the exit status: its help was asked for, and was printed, or what is
// wrong was said in one line.
func parseFlags(flags *flag.FlagSet, args []string, help string, stdout, stderr io.Writer) (status int, done bool) {
	flags.SetOutput(io.Discard)
	flags.Usage = func() {}
	err := flags.Parse(args)
	switch {
	case errors.Is(err, flag.ErrHelp):
		text := &strings.Builder{}
		text.WriteString(help)
		flags.SetOutput(text)
		flags.PrintDefaults()
		_, err := io.WriteString(stdout, text.String())
		return said(err, flags.Name(), stderr), true
	case err != nil:
		return misused(flags.Name(), err, flags.Name()+" -help", stderr), true
	}
	return exitOK, false
}

func usage(w io.Writer) error {
	text := &strings.Builder{}
	text.WriteString("Tandem shows two processes that talk through shared memory and survive each other's death.\n\n" +
		"usage: tandem COMMAND [arguments]\n\n")
	table := tabwriter.NewWriter(text, 0, 8, 2, ' ', 0)
	for _, c := range commands {
		if c.summary != "" {
			fmt.Fprintf(table, "  %s\t%s\n", c.name, c.summary)
		}
	}
	fmt.Fprint(table, "  help\tthis summary; help COMMAND explains one of them\n")
	_ = table.Flush()
	text.WriteString("\ntandem COMMAND -help explains one of them.\n")
	_, err := io.WriteString(w, text.String())
	return err
}

const versionHelp = `usage: tandem version

Prints the version of this command, and of the Go that built it.
`

// version prints what the Go toolchain recorded about this binary.
func version(args []string, stdout, stderr io.Writer) int {
	flags := flag.NewFlagSet("tandem version", flag.ContinueOnError)
	if status, done := parseFlags(flags, args, versionHelp, stdout, stderr); done {
		return status
	}
	if flags.NArg() > 0 {
		return misused(flags.Name(), fmt.Errorf("there is no argument %q", flags.Arg(0)), flags.Name()+" -help", stderr)
	}
	text := "tandem: built without a version"
	if info, ok := debug.ReadBuildInfo(); ok {
		text = fmt.Sprintf("tandem %s, built with %s", info.Main.Version, info.GoVersion)
	}
	_, err := fmt.Fprintln(stdout, text)
	return said(err, flags.Name(), stderr)
}
