package daemon

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/stele-runtime/stele/cmd/stele/internal/config"
	"github.com/stele-runtime/stele/executors/spec"
	"github.com/stele-runtime/stele/executors/spec/confine"
)

func TestConfinement(t *testing.T) {
	parser := t.TempDir()
	if err := os.WriteFile(filepath.Join(parser, "apparmor_parser"), []byte("#!/bin/sh\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	both := &spec.HostFacts{Node: confine.Node{AppArmor: true, SELinux: true}}
	for name, c := range map[string]struct {
		node    *spec.HostFacts
		profile string
		path    string
		unused  []string
		applied string
	}{
		"neither":            {&spec.HostFacts{}, "", parser, nil, ""},
		"own profile":        {both, "", parser, []string{"SELinux (its policy has no labels for containers)"}, confine.OwnAppArmorProfile},
		"no parser":          {both, "", t.TempDir(), []string{"AppArmor (there is no apparmor_parser)", "SELinux (its policy has no labels for containers)"}, ""},
		"a profile by name":  {both, "mine", t.TempDir(), []string{"SELinux (its policy has no labels for containers)"}, "mine"},
		"labels":             {&spec.HostFacts{Node: confine.Node{SELinux: true, Contexts: confine.Contexts{Process: "u:r:t:s0"}}}, "", parser, nil, ""},
		"unconfined by will": {both, "unconfined", parser, []string{"SELinux (its policy has no labels for containers)"}, ""},
	} {
		t.Setenv("PATH", c.path)
		r := config.Runtime{ApparmorProfile: c.profile}
		if got := appArmorProfile(c.node, r); got != c.applied {
			t.Errorf("%s: the profile is %q, want %q", name, got, c.applied)
		}
		err := Confinement(c.node, r)
		if c.unused == nil {
			if err != nil {
				t.Errorf("%s: %v", name, err)
			}
			continue
		}
		found, ok := errors.AsType[*Unconfined](err)
		if !ok || !found.Degraded() || !slices.Equal(found.Modules, c.unused) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
