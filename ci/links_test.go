package ci

import (
	"fmt"
	"path"
	"regexp"
	"strings"
	"testing"
)

var (
	// link matches a link of a page, but not one into the network.
	link    = regexp.MustCompile(`\]\(([^)\s:]+)\)`)
	inCode  = regexp.MustCompile("`[^`]*`")
	heading = regexp.MustCompile(`(?m)^#+ (.*)$`)
	dropped = regexp.MustCompile(`[^\p{L}\p{N} _-]`)
)

// linksLeadSomewhere holds that each link from a page into the tree names a file or a
// directory of it, and behind a # a heading.
func linksLeadSomewhere(files tree) (broken []string, looked int) {
	exists := map[string]bool{".": true}
	for _, file := range sortedPaths(files) {
		for name := file; !exists[name]; name = path.Dir(name) {
			exists[name] = true
		}
	}
	for _, file := range sortedPaths(files) {
		if !strings.HasSuffix(file, ".md") {
			continue
		}
		code := false
		for i, line := range linesOf(files[file].Data) {
			if strings.HasPrefix(line, "```") {
				code = !code
			}
			if code {
				continue
			}
			for _, match := range link.FindAllStringSubmatch(inCode.ReplaceAllString(line, ""), -1) {
				looked++
				name, anchor, _ := strings.Cut(match[1], "#")
				target := file
				if name != "" {
					target = path.Join(path.Dir(file), name)
				}
				switch {
				case !exists[target]:
					broken = append(broken, fmt.Sprintf("%s:%d: there is no %s", file, i+1, target))
				case anchor != "" && (files[target] == nil || !anchors(string(files[target].Data))[anchor]):
					broken = append(broken, fmt.Sprintf("%s:%d: %s has no heading #%s", file, i+1, target, anchor))
				}
			}
		}
	}
	return broken, looked
}

// anchors are the names that a page's headings have behind a #.
func anchors(page string) map[string]bool {
	names := map[string]bool{}
	for _, match := range heading.FindAllStringSubmatch(page, -1) {
		names[strings.ReplaceAll(dropped.ReplaceAllString(strings.ToLower(match[1]), ""), " ", "-")] = true
	}
	return names
}

func TestEveryLinkLeadsSomewhere(t *testing.T) {
	enforce(t, linksLeadSomewhere,
		plant{"a page that is gone", "docs/OTHER.md", "See [it](GONE.md).\n", "there is no docs/GONE.md"},
		plant{"a directory that is gone", "docs/OTHER.md", "See [it](../gone).\n", "there is no gone"},
		plant{"a heading that is gone", "docs/OTHER.md", "See [it](PROTOCOL.md#gone).\n", "no heading #gone"},
		plant{"a heading of its own that is gone", "docs/OTHER.md", "# Here\n\nSee [it](#there).\n", "no heading #there"},
		plant{"behind code", "docs/OTHER.md", "```go\nf[int](x)\n```\n\n`f[int](x)`, see [it](GONE.md).\n", "docs/OTHER.md:5: there is no docs/GONE.md"},
		plant{"a heading of a directory", "docs/OTHER.md", "See [it](../ipc#types).\n", "no heading #types"},
	)
}
