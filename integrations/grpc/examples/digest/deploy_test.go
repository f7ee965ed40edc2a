//go:build linux && (amd64 || arm64)

package main

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
)

// An object is what the test looks at of a Kubernetes manifest.
type object struct {
	APIVersion string `yaml:"apiVersion"`
	Kind       string
	Metadata   struct{ Name string }
	Spec       struct {
		Selector yaml.Node
		Template struct {
			Metadata struct{ Labels map[string]string }
			Spec     struct {
				Containers []struct {
					Name, Image  string
					Args         []string
					VolumeMounts []struct{ Name, MountPath string } `yaml:"volumeMounts"`
				}
				Volumes []struct{ Name string }
			}
		}
	}
}

// No cluster is here. What can be seen without one is that the manifests are YAML, that
// the program takes the arguments, and that what they name is there.
func TestTheManifestsAreSound(t *testing.T) {
	files, err := filepath.Glob("deploy/kubernetes/*.yaml")
	if err != nil || len(files) == 0 {
		t.Fatalf("manifests: %v, %v", files, err)
	}
	for _, file := range files {
		objects := readObjects(t, file)
		pods := map[string]string{} // by a label, the Deployment
		listening, wanted := map[string]bool{}, map[string]bool{}
		for _, o := range objects {
			if o.APIVersion == "" || o.Kind == "" || o.Metadata.Name == "" {
				t.Errorf("%s: an object has no apiVersion, kind or name: %+v", file, o)
			}
			pods[o.Spec.Template.Metadata.Labels["app"]] = o.Metadata.Name
			pod := o.Spec.Template.Spec
			for _, c := range pod.Containers {
				if _, err := parse(c.Args); err != nil {
					t.Errorf("%s: container %s: %v", file, c.Name, err)
				}
				noteAddresses(c.Args, listening, wanted)
				for _, mount := range c.VolumeMounts {
					if !slices.Contains(pod.Volumes, struct{ Name string }{mount.Name}) {
						t.Errorf("%s: container %s mounts %s, which is no volume", file, c.Name, mount.Name)
					}
				}
			}
		}
		for _, o := range objects {
			selector := map[string]any{}
			if err := o.Spec.Selector.Decode(&selector); err != nil {
				t.Errorf("%s: %s: %v", file, o.Metadata.Name, err)
			}
			if labels, inside := selector["matchLabels"].(map[string]any); inside {
				selector = labels
			}
			if app, _ := selector["app"].(string); app == "" || pods[app] == "" {
				t.Errorf("%s: %s %s selects %v, which nothing is", file, o.Kind, o.Metadata.Name, selector)
			}
		}
		for address := range wanted {
			if !listening[address] {
				t.Errorf("%s: nobody listens on %s, only on %v", file, address, listening)
			}
		}
	}
}

func readObjects(t *testing.T, file string) (objects []object) {
	t.Helper()
	text, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer text.Close()
	for decoder := yaml.NewDecoder(text); ; {
		var o object
		err := decoder.Decode(&o)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		objects = append(objects, o)
	}
	if len(objects) == 0 {
		t.Fatalf("%s has no object", file)
	}
	return objects
}

// noteAddresses collects the paths that arguments listen on, and those that they go to.
func noteAddresses(arguments []string, listening, wanted map[string]bool) {
	for i, argument := range arguments {
		flag, value, joined := strings.Cut(argument, "=")
		if !joined && i+1 < len(arguments) {
			value = arguments[i+1]
		}
		for path := range strings.SplitSeq(strings.TrimPrefix(value, "tandem:"), ",") {
			switch {
			case !strings.HasPrefix(value, "tandem:"):
			case flag == "-listen":
				listening[path] = true
			case flag == "-workers":
				wanted[path] = true
			}
		}
	}
}

func TestTheUnitsAreSound(t *testing.T) {
	files, err := filepath.Glob("deploy/systemd/*.service")
	if err != nil || len(files) == 0 {
		t.Fatalf("units: %v, %v", files, err)
	}
	listening, wanted := map[string]bool{}, map[string]bool{}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		started := false
		for line := range strings.Lines(string(text)) {
			line = strings.TrimSpace(line)
			command, found := strings.CutPrefix(line, "ExecStart=/usr/local/bin/digest ")
			if !found {
				if name, value, ok := strings.Cut(line, "="); line != "" && line[0] != '#' && line[0] != '[' && (!ok || name == "" || value == "") {
					t.Errorf("%s: %q is no setting", file, line)
				}
				continue
			}
			started = true
			for _, instance := range []string{"0", "1"} {
				arguments := strings.Fields(strings.ReplaceAll(command, "%i", instance))
				if _, err := parse(arguments); err != nil {
					t.Errorf("%s: %v", file, err)
				}
				noteAddresses(arguments, listening, wanted)
			}
		}
		if !started {
			t.Errorf("%s starts nothing", file)
		}
	}
	for path := range wanted {
		if !listening[path] {
			t.Errorf("nobody listens on %s, only on %v", path, listening)
		}
	}
}
