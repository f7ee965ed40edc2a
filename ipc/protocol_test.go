//go:build linux && (amd64 || arm64)

package ipc

import (
	"fmt"
	"math/bits"
	"os"
	"reflect"
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
	_, rest, found := strings.Cut(document, "# "+heading+"\n")
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

// comparePacket lists the differences between the document's bytes of a packet and the code's.
func comparePacket(rows [][]string) (differences []string) {
	fields, offset := reflect.TypeFor[packet](), 0
	for i := range fields.NumField() {
		size := int(fields.Field(i).Type.Size())
		want := fmt.Sprint(offset, " ", size, " ", strings.ToLower(fields.Field(i).Name))
		got := "nothing"
		if i < len(rows) {
			name, _, _ := strings.Cut(rows[i][2], ":")
			got = fmt.Sprint(rows[i][0], " ", rows[i][1], " ", strings.ToLower(strings.ReplaceAll(name, " ", "")))
		}
		if got != want {
			differences = append(differences, fmt.Sprintf("field %d of a packet is %q in the document, %q in the code", i+1, got, want))
		}
		offset += size
	}
	if offset != packetSize || len(rows) != fields.NumField() {
		differences = append(differences, fmt.Sprintf("a packet has %d bytes and %d fields, %d in the document", offset, fields.NumField(), len(rows)))
	}
	return differences
}

// The document says which numbers tell the protocol, its version and its layout.
func TestNumbersMatchTheProtocolDocument(t *testing.T) {
	document := protocolDocument(t)
	var text strings.Builder
	for _, f := range layoutFields {
		fmt.Fprintf(&text, "%s@%d ", f.name, f.offset)
	}
	fmt.Fprintf(&text, "header %d align %d", headerSize, recordAlign)
	hash := uint64(14695981039346656037) // FNV-1a, by its definition
	for _, b := range []byte(text.String()) {
		hash = (hash ^ uint64(b)) * 1099511628211
	}
	begin, end := text.String()[:len("magic@0 version@8 fingerprint@16")], text.String()[strings.Index(text.String(), "goodbye@"):]
	for what, want := range map[string]string{
		"the magic of a segment": fmt.Sprintf("0x%016x: the bytes `tandem`", segmentMagic),
		"the magic of a packet":  fmt.Sprintf("0x%016x: the bytes `tandmt1`", packetMagic),
		"the fingerprint":        fmt.Sprintf("of this table: 0x%x,", hash),
		"what is hashed":         fmt.Sprintf("`%s` … `%s`", begin, end),
		"the version":            fmt.Sprintf("This is version %d of the protocol", protocolVersion),
		"the largest ring":       fmt.Sprintf("from one page to 2^%d", bits.TrailingZeros64(MaxRingSize)),
	} {
		if !strings.Contains(document, want) {
			t.Errorf("the document does not say %s: %q", what, want)
		}
	}
	if hash != layoutFingerprint() {
		t.Errorf("the fingerprint is %#x, and FNV-1a of its text %#x", layoutFingerprint(), hash)
	}
}

func TestHandshakeMatchesTheProtocolDocument(t *testing.T) {
	document := protocolDocument(t)
	if !strings.Contains(document, fmt.Sprintf("little endian, %d bytes", packetSize)) {
		t.Errorf("the document does not say that a packet has %d bytes", packetSize)
	}
	rows := section(t, document, "Handshake")
	for _, d := range comparePacket(rows) {
		t.Error(d)
	}
	rows[3][1] = "4" // a planted difference is found
	if len(comparePacket(rows)) != 1 {
		t.Error("a field of another size is not noticed: the check is blind")
	}
	names := map[int]string{packetHello: "hello", packetGrant: "grant", packetRefuse: "refuse", packetReady: "ready"}
	rows = section(t, document, "Packets")
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
