// Tandem shows what the message channel of package ipc promises, with real
// processes.
//
//	tandem demo     real work through shared memory, with the worker killed again and again
//	tandem chaos    the channel broken in every way that is known, layer by layer, and judged
//	tandem version  the version of this command
//	tandem help     a summary of the commands
//
// Each command explains itself with -help. The exit status is 0 only if all
// that a command is about to show was shown, 1 if it was not, and 2 for a
// command line that makes no sense.
package main

import (
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime/debug"
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

// A command is one word behind "tandem". One without a summary is a part that
// another command plays in a process of its own, and is not for people.
type command struct {
	name, summary string
	run           func(args []string, stdout, stderr io.Writer) int
}

var commands = []command{
	{"demo", "real work through shared memory, with the worker killed again and again", demo},
	{"chaos", "the channel broken in every way that is known, layer by layer, and judged", breakAndJudge},
	{"version", "the version of this command", version},
	{serverPart, "", playServer},
	{clientPart, "", playClient},
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
		usage(stderr)
		return exitUsage
	}
	switch args[0] {
	case "help", "-h", "-help", "--help":
		if len(args) == 1 {
			usage(stdout)
			return exitOK
		}
		args = []string{args[1], "-help"}
	}
	for _, c := range commands {
		if c.name == args[0] && (c.summary != "" || args[len(args)-1] != "-help") {
			return c.run(args[1:], stdout, stderr)
		}
	}
	fmt.Fprintf(stderr, "tandem: there is no command %q\n\n", args[0])
	usage(stderr)
	return exitUsage
}

func usage(w io.Writer) {
	fmt.Fprint(w, "Tandem shows two processes that talk through shared memory and survive each other's death.\n\n"+
		"usage: tandem COMMAND [arguments]\n\n")
	table := tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)
	for _, c := range commands {
		if c.summary != "" {
			fmt.Fprintf(table, "  %s\t%s\n", c.name, c.summary)
		}
	}
	fmt.Fprint(table, "  help\tthis summary; help COMMAND explains one of them\n")
	_ = table.Flush()
	fmt.Fprint(w, "\ntandem COMMAND -help explains one of them.\n")
}

// version prints what the Go toolchain recorded about this binary.
func version(args []string, stdout, stderr io.Writer) int {
	if len(args) == 1 && strings.TrimLeft(args[0], "-") == "help" {
		fmt.Fprintln(stderr, "usage: tandem version\n\nPrints the version of this command, and of the Go that built it.")
		return exitOK
	}
	if len(args) > 0 {
		fmt.Fprintln(stderr, "tandem version: takes no arguments")
		return exitUsage
	}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		fmt.Fprintln(stdout, "tandem: built without a version")
		return exitOK
	}
	fmt.Fprintf(stdout, "tandem %s, built with %s\n", info.Main.Version, info.GoVersion)
	return exitOK
}
