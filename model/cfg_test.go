package model

import (
	"encoding/json"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// A setting is one configuration of tla/manifest, and its cfg file. The constants
// are read from there and stand nowhere else, so that the machine is always
// compared with what the checker checks.
type setting struct {
	Name      string   `json:"name"`
	Module    string   `json:"module"`
	Kind      string   `json:"kind"` // holds, reach, mutant
	Mutant    string   `json:"mutant"`
	Tier      string   `json:"tier"` // ci, long
	Exit      int      `json:"exit"`
	Property  string   `json:"property"`
	Distinct  int      `json:"distinct"`
	Generated int      `json:"generated"`
	Depth     int      `json:"depth"`
	Actions   []string `json:"actions"`

	constants map[string]string // as they stand in the cfg
	operators []string          // lines of the cfg that put an operator in the place of a constant
	checked   []string          // invariants and properties
}

// The checker's exit code for an invariant that does not hold.
const exitInvariant = 12

// settings are the configurations of one file of tla/manifest.
func settings(t *testing.T, manifest string) []setting {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("../tla/manifest", manifest+".json"))
	if err != nil {
		t.Fatal(err)
	}
	var m struct {
		Configurations []setting `json:"configurations"`
	}
	if err := json.Unmarshal(text, &m); err != nil {
		t.Fatalf("%s.json: %v", manifest, err)
	}
	if len(m.Configurations) == 0 {
		t.Fatalf("%s.json has no configurations", manifest)
	}
	for i := range m.Configurations {
		m.Configurations[i].readCfg(t)
	}
	return m.Configurations
}

// settingNamed is one of them.
func settingNamed(t *testing.T, manifest, name string) setting {
	t.Helper()
	all := settings(t, manifest)
	i := slices.IndexFunc(all, func(s setting) bool { return s.Name == name })
	if i < 0 {
		t.Fatalf("%s.json has no %s", manifest, name)
	}
	return all[i]
}

var (
	cfgComment  = regexp.MustCompile(`(?m)\\\*.*$`)
	cfgConstant = regexp.MustCompile(`^(\w+)\s*(=|<-)\s*(.+)$`)
)

func (s *setting) readCfg(t *testing.T) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("../tla/cfg", s.Name+".cfg"))
	if err != nil {
		t.Fatal(err)
	}
	s.constants = map[string]string{}
	section := ""
	for line := range strings.Lines(cfgComment.ReplaceAllString(string(text), "")) {
		line = strings.TrimSpace(line)
		word, _, _ := strings.Cut(line, " ")
		switch {
		case line == "":
		case word == strings.ToUpper(word) && len(word) > 4:
			section = strings.TrimSuffix(strings.Replace(word, "PROPERTIES", "PROPERTYS", 1), "S")
		case section == "CONSTANT":
			m := cfgConstant.FindStringSubmatch(line)
			switch {
			case m == nil:
				t.Fatalf("%s.cfg: %q is no constant", s.Name, line)
			case m[2] == "<-":
				s.operators = append(s.operators, line)
			default:
				s.constants[m[1]] = m[3]
			}
		case section == "INVARIANT" || section == "PROPERTY":
			s.checked = append(s.checked, line)
		}
	}
	if len(s.constants) == 0 {
		t.Fatalf("%s.cfg has no constants", s.Name)
	}
}

// cfg is the file again with its constants and nothing to check, no SYMMETRY, no
// VIEW and no constraint: the checker then goes through all that there is.
func (s setting) cfg() string {
	var text strings.Builder
	text.WriteString("SPECIFICATION Spec\nCONSTANTS\n")
	for _, name := range sortedNames(s.constants) {
		text.WriteString("  " + name + " = " + s.constants[name] + "\n")
	}
	for _, line := range s.operators {
		text.WriteString("  " + line + "\n")
	}
	text.WriteString("CHECK_DEADLOCK FALSE\n")
	return text.String()
}

// fill puts the constants into the fields of the same names: numbers, truth
// values, strings, and sets of strings or model values. Each constant has a field
// and each field a constant, but for the names in except.
func (s setting) fill(t *testing.T, config any, except ...string) {
	t.Helper()
	fields := reflect.ValueOf(config).Elem()
	for i := range fields.NumField() {
		name := fields.Type().Field(i).Name
		if _, there := s.constants[name]; !there && !slices.Contains(except, name) {
			t.Fatalf("%s.cfg has no %s", s.Name, name)
		}
	}
	for name, text := range s.constants {
		field := fields.FieldByName(name)
		switch {
		case slices.Contains(except, name):
		case !field.IsValid():
			t.Fatalf("%s.cfg: no field for %s", s.Name, name)
		case field.CanInt():
			field.SetInt(int64(s.number(t, name)))
		case field.Kind() == reflect.Bool:
			field.SetBool(text == "TRUE")
		case field.Kind() == reflect.String:
			field.SetString(strings.Trim(text, `"`))
		case field.Kind() == reflect.Slice:
			field.Set(reflect.ValueOf(s.members(name)))
		default:
			t.Fatalf("%s.cfg: no way to put %s = %s into a %v", s.Name, name, text, field.Type())
		}
	}
}

// number is a constant's value.
func (s setting) number(t *testing.T, name string) int {
	t.Helper()
	n, err := strconv.Atoi(s.constants[name])
	if err != nil {
		t.Fatalf("%s.cfg: %s: %v", s.Name, name, err)
	}
	return n
}

// members are the elements of a constant that is a set.
func (s setting) members(name string) []string {
	var all []string
	for _, element := range strings.Split(strings.Trim(s.constants[name], "{}"), ",") {
		if element = strings.Trim(strings.TrimSpace(element), `"`); element != "" {
			all = append(all, element)
		}
	}
	return all
}

func sortedNames[V any](m map[string]V) []string {
	names := make([]string, 0, len(m))
	for name := range m {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}
