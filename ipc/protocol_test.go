//go:build linux && (amd64 || arm64)

package ipc

import (
	"fmt"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/tandem-ipc/tandem/internal/step"
)

// docs/PROTOCOL.md is normative: its tables are compared with the code.

// section returns the rows of the first table under a heading of the document,
// cells trimmed, without the head.
func section(t *testing.T, document, heading string) [][]string {
	t.Helper()
	_, rest, found := strings.Cut(document, "\n## "+heading+"\n")
	if !found {
		t.Fatalf("docs/PROTOCOL.md has no section %q", heading)
	}
	var rows [][]string
	for line := range strings.Lines(rest) {
		line = strings.TrimSpace(line)
		if !strings.HasPrefix(line, "|") {
			if len(rows) > 0 {
				break
			}
			continue
		}
		cells := strings.Split(strings.Trim(line, "|"), "|")
		for i := range cells {
			cells[i] = strings.TrimSpace(cells[i])
		}
		rows = append(rows, cells)
	}
	if len(rows) < 3 {
		t.Fatalf("docs/PROTOCOL.md: the table under %q is empty: the check is blind", heading)
	}
	return rows[2:]
}

func protocolDocument(t *testing.T) string {
	t.Helper()
	content, err := os.ReadFile("../docs/PROTOCOL.md")
	if err != nil {
		t.Fatal(err)
	}
	return string(content)
}

// compareLayout lists the differences between the document's layout and the code's.
func compareLayout(rows [][]string) (differences []string) {
	documented := make(map[string]uint64)
	for _, row := range rows {
		offset, err := strconv.ParseUint(row[0], 0, 64)
		if err != nil {
			differences = append(differences, fmt.Sprintf("offset %q: %v", row[0], err))
		}
		documented[row[1]] = offset
	}
	for _, field := range layoutFields {
		offset, ok := documented[field.name]
		if !ok || offset != uint64(field.offset) {
			differences = append(differences, fmt.Sprintf("%s is at %#x in the code, at %#x (%t) in the document", field.name, field.offset, offset, ok))
		}
		delete(documented, field.name)
	}
	for name := range documented {
		differences = append(differences, fmt.Sprintf("%s stands in the document only", name))
	}
	return differences
}

func TestLayoutMatchesTheProtocolDocument(t *testing.T) {
	rows := section(t, protocolDocument(t), "Layout")
	for _, d := range compareLayout(rows) {
		t.Error(d)
	}
	rows[6] = []string{"0x104", rows[6][1]} // a planted difference is found
	if len(compareLayout(rows)) != 1 {
		t.Error("a moved field is not noticed: the check is blind")
	}
}

func compareSteps(rows [][]string) (differences []string) {
	all := step.All()
	for i, row := range rows {
		if i >= len(all) || row[0] != all[i].String() {
			return append(differences, fmt.Sprintf("row %d of the document is %q, and not the code's step", i+1, row[0]))
		}
		if !strings.HasSuffix(row[3], "!"+row[0]+"`") {
			differences = append(differences, fmt.Sprintf("the action of %s is %s", row[0], row[3]))
		}
	}
	if len(rows) != len(all) {
		differences = append(differences, fmt.Sprintf("%d steps in the document, %d in the code", len(rows), len(all)))
	}
	return differences
}

func TestStepsMatchTheProtocolDocument(t *testing.T) {
	rows := section(t, protocolDocument(t), "Steps")
	for _, d := range compareSteps(rows) {
		t.Error(d)
	}
	if len(compareSteps(rows[:len(rows)-1])) == 0 {
		t.Error("a missing step is not noticed: the check is blind")
	}
}

// Every step that the document names is reached by the code.
func TestEveryStepIsReported(t *testing.T) {
	var code strings.Builder
	entries, err := os.ReadDir(".")
	if err != nil {
		t.Fatal(err)
	}
	for _, entry := range entries {
		if strings.HasSuffix(entry.Name(), ".go") && !strings.HasSuffix(entry.Name(), "_test.go") {
			content, err := os.ReadFile(entry.Name())
			if err != nil {
				t.Fatal(err)
			}
			code.Write(content)
		}
	}
	for _, s := range step.All() {
		if !regexp.MustCompile(`\bstep\.` + s.String() + `\b`).MatchString(code.String()) {
			t.Errorf("no code reports %v", s)
		}
	}
}

func TestHandshakeMatchesTheProtocolDocument(t *testing.T) {
	document := protocolDocument(t)
	if !strings.Contains(document, fmt.Sprintf("little endian, %d bytes", packetSize)) {
		t.Errorf("the document does not say that a packet has %d bytes", packetSize)
	}
	names := map[int]string{packetHello: "hello", packetGrant: "grant", packetRefuse: "refuse", packetReady: "ready"}
	rows := section(t, document, "Handshake")
	if len(rows) != len(names) {
		t.Errorf("%d packets in the document, %d in the code", len(rows), len(names))
	}
	for _, row := range rows {
		number, _ := strconv.Atoi(row[0])
		if names[number] != row[1] {
			t.Errorf("packet %d is %q in the document, %q in the code", number, row[1], names[number])
		}
	}
}
