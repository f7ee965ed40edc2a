package tla

import (
	"fmt"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"unicode"
)

var (
	nextOf     = regexp.MustCompile(`(?ms)^\w*Next ==\n(.*?)\n\n`)
	quantifier = regexp.MustCompile(`\\E \w+ \\in [^:]+ :`)
)

// stepsOf is the module that has the Next which a module is checked with: itself,
// or one that it extends.
func stepsOf(modules map[string]string, name string) string {
	if nextOf.MatchString(modules[name]) {
		return name
	}
	if m := imports.FindStringSubmatch(modules[name]); m != nil {
		for _, other := range word.FindAllString(m[1], -1) {
			if found := stepsOf(modules, other); found != "" {
				return found
			}
		}
	}
	return ""
}

// actionsOf are the actions that a module's Next names.
func actionsOf(t *testing.T, modules map[string]string, name string) []string {
	t.Helper()
	next := nextOf.FindStringSubmatch(modules[name])
	if next == nil {
		t.Fatalf("%s has no Next", name)
	}
	actions := word.FindAllString(quantifier.ReplaceAllString(next[1], ""), -1)
	actions = slices.DeleteFunc(actions, func(name string) bool { return !unicode.IsUpper(rune(name[0])) })
	if len(actions) < 10 {
		t.Fatalf("only %d actions of %s found", len(actions), name)
	}
	return actions
}

// coverageFaults are the actions that no configuration that holds takes, and the
// names that are no action: the checker calls an action whose definition is
// another operator, and nothing else, by that one's name.
func coverageFaults(t *testing.T, manifests []manifest) []string {
	t.Helper()
	var faults []string
	modules := readModules(t)
	steps, actions := map[string]string{}, map[string][]string{} // by module
	for name := range modules {
		if of := stepsOf(modules, name); of != "" {
			steps[name], actions[of] = of, actionsOf(t, modules, of)
		}
	}
	for _, m := range manifests {
		covered := map[string]map[string]bool{} // by module
		for _, c := range m.Configurations {
			module := steps[c.Module]
			if covered[module] == nil {
				covered[module] = map[string]bool{}
			}
			for _, action := range c.Actions {
				covered[module][action] = covered[module][action] || c.Kind == kindHolds
				if !slices.Contains(actions[module], action) && !strings.HasSuffix(action, "Init") {
					faults = append(faults, fmt.Sprintf("%s takes %s, which is no action of %s", c.Name, action, module))
				}
			}
		}
		excepted := map[string]bool{}
		for _, module := range sortedKeys(covered) {
			for _, action := range actions[module] {
				exception := slices.Contains(slices.Concat(m.OnlyInMutants, m.Elsewhere), action)
				excepted[action] = excepted[action] || exception
				switch {
				case !covered[module][action] && !exception:
					faults = append(faults, fmt.Sprintf("%s!%s happens in no configuration that holds", module, action))
				case covered[module][action] && exception:
					faults = append(faults, fmt.Sprintf("%s!%s is excepted, and happens", module, action))
				}
			}
		}
		for _, action := range slices.Concat(m.OnlyInMutants, m.Elsewhere) {
			if !excepted[action] {
				faults = append(faults, fmt.Sprintf("%s excepts %s, which is no action", filepath.Base(m.Path), action))
			}
		}
	}
	return faults
}

// Each action of each module happens where everything holds, by its own name. What
// is pinned is what the checker says: see differences.
func TestEveryActionHappensSomewhere(t *testing.T) {
	for _, fault := range coverageFaults(t, readManifests(t)) {
		t.Error(fault)
	}
}

func TestActionThatNeverHappensIsFound(t *testing.T) {
	dropped := func(action string) func(c *configuration, m *manifest) {
		return func(c *configuration, _ *manifest) {
			c.Actions = slices.DeleteFunc(slices.Clone(c.Actions), func(name string) bool { return name == action })
		}
	}
	for what, plant := range map[string]func(*configuration, *manifest){
		"Ring!SpaceArmed happens in no configuration":      dropped("SpaceArmed"),
		"Channel!EndsMerged happens in no configuration":   dropped("EndsMerged"),
		"Lifecycle!ServerHung happens in no configuration": dropped("ServerHung"),
		"Pair!Retired happens in no configuration":         dropped("Retired"),
		"Gate!Armed happens in no configuration":           dropped("Armed"),
		"ring_plain takes ArmedAt, which is no action of R": func(c *configuration, _ *manifest) {
			if c.Name == "ring_plain" {
				c.Actions = append(c.Actions, "ArmedAt")
			}
		},
		"Ring!Killed is excepted, and happens": func(_ *configuration, m *manifest) {
			if filepath.Base(m.Path) == "ring.json" {
				m.OnlyInMutants = []string{"CountLate", "CopiedLate", "PositionLate", "PublishedEarly", "PublishedLate", "Killed"}
			}
		},
		"gate.json excepts Planted, which is no action": func(_ *configuration, m *manifest) {
			if filepath.Base(m.Path) == "gate.json" {
				m.OnlyInMutants = []string{"Planted"}
			}
		},
	} {
		manifests := readManifests(t)
		for i := range manifests {
			for j := range manifests[i].Configurations {
				plant(&manifests[i].Configurations[j], &manifests[i])
			}
		}
		faults := coverageFaults(t, manifests)
		if len(faults) == 0 || slices.ContainsFunc(faults, func(fault string) bool { return !strings.Contains(fault, what) }) {
			t.Errorf("found %q; want one with %q", faults, what)
		}
	}
}
