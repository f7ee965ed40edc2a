//go:build linux

package main

import (
	"bufio"
	"crypto/sha256"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strings"
)

var (
	symbolLine  = regexp.MustCompile(`^(\S.*?) (STEXT|SRODATA|SNOPTRDATA|SDATA|SBSS|SNOPTRBSS|SDWARF\w*|\w+) .*size=`)
	instruction = regexp.MustCompile(`^\t0x[0-9a-f]{4,} \d{5} \(.*?\)\t(.*)$`)
	copyName    = regexp.MustCompile(suffix + `(\d+)`)
	temporary   = regexp.MustCompile(`[\w./-]*\.\.stmp_\d+`)
)

// A listing is what the compiler says with -S about functions and what they refer to.
type listing struct {
	functions map[string][]string // the instructions, by the name of the function
	data      map[string]string   // the contents, by the name
}

func readListing(r io.Reader) (*listing, error) {
	l := &listing{map[string][]string{}, map[string]string{}}
	lines := bufio.NewReaderSize(r, 1<<20)
	name, text := "", false
	for {
		line, err := lines.ReadString('\n')
		line = strings.TrimSuffix(line, "\n")
		switch {
		case line == "":
		case line[0] != '\t' && line[0] != ' ':
			name, text = "", false
			if parts := symbolLine.FindStringSubmatch(line); parts != nil {
				text = parts[2] == "STEXT" && copyName.MatchString(parts[1])
				if text || temporary.MatchString(parts[1]) {
					name = parts[1]
				}
			}
		case text:
			if parts := instruction.FindStringSubmatch(line); parts != nil {
				l.functions[name] = append(l.functions[name], parts[1])
			}
		case name != "":
			l.data[name] += line + "\n"
		}
		if err == io.EOF {
			return l, nil
		} else if err != nil {
			return nil, err
		}
	}
}

// codes are the codes of copies, with their literals, by the name of the function and the
// number of the mutant: equal ones do the same.
func (l *listing) codes() map[string]string {
	parts := map[string][]string{}
	for name, instructions := range l.functions {
		at := copyName.FindStringSubmatchIndex(name)
		own := name[:at[1]]
		var text strings.Builder
		text.WriteString(name[at[1]:] + "\n")
		for _, line := range instructions {
			text.WriteString(l.plain(line, 3) + "\n")
		}
		parts[own] = append(parts[own], text.String())
	}
	codes := map[string]string{}
	for own, texts := range parts {
		slices.Sort(texts)
		codes[own] = fmt.Sprintf("%x", sha256.Sum256([]byte(strings.Join(texts, "\x00"))))
	}
	return codes
}

// plain is a line without the names that differ from copy to copy.
func (l *listing) plain(line string, depth int) string {
	line = copyName.ReplaceAllString(line, suffix)
	return temporary.ReplaceAllStringFunc(line, func(name string) string {
		if depth == 0 {
			return name
		}
		return "{" + l.plain(l.data[name], depth-1) + "}"
	})
}
