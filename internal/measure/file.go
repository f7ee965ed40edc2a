package measure

import (
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strings"
)

// A File is all that one run of the evaluation has measured.
type File struct {
	Date       string      `json:"date"`
	Commit     string      `json:"commit"`
	Machine    Machine     `json:"machine"`
	Quick      bool        `json:"quick"`
	Rounds     int         `json:"rounds"`
	WarmMillis int64       `json:"warm_ms"`
	TimeMillis int64       `json:"time_ms"`
	Seconds    float64     `json:"seconds"` // the whole run
	LoadBefore string      `json:"load_before"`
	LoadAfter  string      `json:"load_after"`
	Floors     []float64   `json:"floors"`
	Absent     []Absent    `json:"absent,omitempty"`
	Rows       []*Row      `json:"rows"`
	Deaths     []*DeathRow `json:"deaths,omitempty"`
	Losses     []*LossRow  `json:"losses,omitempty"`
	Idle       []*IdleRow  `json:"idle,omitempty"`
	Calls      []*CallRow  `json:"calls,omitempty"`
	Scale      []*ScaleRow `json:"scale,omitempty"`
}

// A Machine is where it was measured.
type Machine struct {
	CPU        string `json:"cpu"`
	Processors int    `json:"processors"`
	Memory     uint64 `json:"memory"`
	Kernel     string `json:"kernel"`
	Go         string `json:"go"`
	Virtual    bool   `json:"virtual"` // the processor says that a hypervisor runs it
}

// Absent is a contender that was not measured at all, and why.
type Absent struct {
	Contender string `json:"contender"`
	Why       string `json:"why"`
}

// ReadFile reads a result file.
func ReadFile(path string) (*File, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	f := &File{}
	if err := json.Unmarshal(text, f); err != nil {
		return nil, fmt.Errorf("%s is no result file: %w", path, err)
	}
	return f, nil
}

// Write writes a result file.
func (f *File) Write(path string) error {
	text, err := json.MarshalIndent(f, "", " ")
	if err != nil {
		return err
	}
	return writeWhole(path, string(compact(text))+"\n")
}

// compact puts each list of numbers on one line.
func compact(text []byte) []byte {
	var out strings.Builder
	inside := false
	for line := range strings.Lines(string(text)) {
		trimmed := strings.TrimSpace(line)
		switch {
		case strings.HasSuffix(trimmed, ": ["):
			out.WriteString(strings.TrimSuffix(line, "\n"))
			inside = true
			continue
		case inside && (strings.HasPrefix(trimmed, "]")):
			out.WriteString(trimmed + "\n")
			inside = false
			continue
		case inside && !strings.ContainsAny(trimmed, "{}"):
			out.WriteString(trimmed)
			continue
		case inside:
			out.WriteString("\n")
			inside = false
		}
		out.WriteString(line)
	}
	return []byte(out.String())
}

// writeWhole writes a file that nobody reads half written.
func writeWhole(path, text string) error {
	if err := os.WriteFile(path+".new", []byte(text), 0o600); err != nil {
		return err
	}
	return os.Rename(path+".new", path)
}

// Row is the row of that name, nil if there is none.
func (f *File) Row(name string) *Row {
	if i := slices.IndexFunc(f.Rows, func(r *Row) bool { return r.Name == name }); i >= 0 {
		return f.Rows[i]
	}
	return nil
}
