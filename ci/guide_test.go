package ci

import (
	"fmt"
	"regexp"
	"strings"
	"testing"
)

// A block is one piece of code of a page, with the word behind its fence.
type block struct{ kind, text string }

// blocksOf are the blocks of a section of a page, in order.
func blocksOf(page, heading string) (blocks []block, err error) {
	_, section, found := strings.Cut(page, "\n"+heading+"\n")
	if !found {
		return nil, fmt.Errorf("there is no section %q", heading)
	}
	section, _, _ = strings.Cut(section, "\n## ")
	parts := strings.Split(section, "```")
	for i := 1; i+1 < len(parts); i += 2 {
		kind, text, _ := strings.Cut(parts[i], "\n")
		blocks = append(blocks, block{kind, text})
	}
	if len(blocks) == 0 {
		return nil, fmt.Errorf("the section %q has no code", heading)
	}
	return blocks, nil
}

// varies is what is different in each run.
var varies = regexp.MustCompile(`worker \d+ \(process \d+\)|worker \d+\[\d+\]`)

// follow does what a section of a page says, in a directory where nothing is: it writes
// each program into main.go, runs each line of each block of the shell, and compares
// what the last of them prints with the block behind it. Only one thing is not on the
// page: behind go mod init comes a replace directive, so that the checkout is used.
func (o stranger) follow(page, heading string) (stderr string, err error) {
	o.t.Helper()
	blocks, err := blocksOf(page, heading)
	compared, stdout := 0, ""
	for _, b := range blocks {
		switch b.kind {
		case "go":
			o.write("main.go", b.text)
		case "sh":
			for line := range strings.Lines(b.text) {
				line = strings.TrimSpace(line)
				if stdout, stderr, err = o.run(line); err != nil {
					return "", err
				}
				if strings.HasPrefix(line, "go mod init") {
					o.replace()
				}
			}
		case "":
			compared++
			got, want := varies.ReplaceAllString(stdout, "worker N"), varies.ReplaceAllString(b.text, "worker N")
			if got != want {
				return "", fmt.Errorf("it prints\n%s\nand the page says\n%s", got, want)
			}
		default:
			return "", fmt.Errorf("what is a block of kind %q?", b.kind)
		}
	}
	if err == nil && compared == 0 {
		err = fmt.Errorf("the section %q shows no output: nothing was compared", heading)
	}
	return stderr, err
}

func TestTheGuideDoesWhatItSays(t *testing.T) {
	const heading = "## The program"
	guide := string(readRepository(t)["docs/GUIDE.md"].Data)
	stderr, err := newStranger(t).follow(guide, heading)
	if err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(varies.ReplaceAllString(stderr, "worker N"), "worker N: that was too much\n"); n != 3 {
		t.Errorf("the workers' lines come %d times, and the guide says three:\n%s", n, stderr)
	}
	if _, err := newStranger(t).follow(guide, "## Without a pool"); err != nil {
		t.Error(err)
	}
	for name, edit := range map[string]struct{ old, new, want string }{
		"other output":         {"GOODBYE", "Goodbye", "it prints"},
		"no output":            {"On its standard output", "\n\n## Output\n\nIt", "nothing was compared"},
		"a step is missing":    {"go mod tidy\n", "", "go run"},
		"a call that is gone":  {"pool.Call(", "pool.Invoke(", "Invoke undefined"},
		"another import":       {"/ipc/worker", "/ipc/workers", "workers"},
		"no section":           {heading, "## A program", "no section"},
		"a block in no tongue": {"```sh\n", "```fish\n", "fish"},
	} {
		page := strings.Replace(guide, edit.old, edit.new, 1)
		if _, err := newStranger(t).follow(page, heading); page == guide || err == nil || !strings.Contains(err.Error(), edit.want) {
			t.Errorf("%s: %v, want %q", name, err, edit.want)
		}
	}
}

func TestAPageIsTakenApartAsItStands(t *testing.T) {
	page := "# P\n\n## One\n\nText.\n\n```sh\ngo run .\n```\n\n```\nout\n```\n\n## Two\n\n```go\npackage p\n```\n"
	blocks, err := blocksOf(page, "## One")
	if err != nil || len(blocks) != 2 || blocks[0] != (block{"sh", "go run .\n"}) || blocks[1] != (block{"", "out\n"}) {
		t.Errorf("blocks %q, %v", blocks, err)
	}
	for _, heading := range []string{"## Three", "# P"} {
		if blocks, err := blocksOf(page, heading); err == nil {
			t.Errorf("%s: blocks %q, want an error", heading, blocks)
		}
	}
}
