package spec

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"github.com/opencontainers/runtime-spec/specs-go/features"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/stele-runtime/stele/actors/fault"
)

func allows(s *specs.LinuxSeccomp, call string) bool {
	return slices.ContainsFunc(s.Syscalls, func(r specs.LinuxSyscall) bool {
		return r.Action == specs.ActAllow && len(r.Args) == 0 && slices.Contains(r.Names, call)
	})
}

func TestSeccompFollowsCapabilities(t *testing.T) {
	in := fixture(t)
	security(in).Seccomp = &cri.SecurityProfile{ProfileType: cri.SecurityProfile_RuntimeDefault}
	got, err := Container(in)
	if err != nil {
		t.Fatal(err)
	}
	if !allows(got.Linux.Seccomp, "openat") || allows(got.Linux.Seccomp, "mount") {
		t.Error("openat must be allowed, mount must not")
	}
	security(in).Capabilities = &cri.Capability{AddCapabilities: []string{"SYS_ADMIN"}}
	if got, err = Container(in); err != nil {
		t.Fatal(err)
	}
	if !allows(got.Linux.Seccomp, "mount") {
		t.Error("with CAP_SYS_ADMIN, mount must be allowed")
	}
}

func TestSeccompChoice(t *testing.T) {
	profile := filepath.Join(t.TempDir(), "profile.json")
	if err := os.WriteFile(profile, []byte(`{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["chmod"],"action":"SCMP_ACT_ERRNO"}]}`), 0o600); err != nil {
		t.Fatal(err)
	}
	type sec = cri.LinuxContainerSecurityContext
	for name, tc := range map[string]struct {
		sec  *sec
		want specs.LinuxSeccompAction
	}{
		"nothing said is unconfined":    {&sec{}, ""},
		"unconfined":                    {&sec{Seccomp: &cri.SecurityProfile{ProfileType: cri.SecurityProfile_Unconfined}}, ""},
		"default":                       {&sec{Seccomp: &cri.SecurityProfile{}}, specs.ActErrno},
		"localhost":                     {&sec{Seccomp: &cri.SecurityProfile{ProfileType: cri.SecurityProfile_Localhost, LocalhostRef: profile}}, specs.ActAllow},
		"deprecated default":            {&sec{SeccompProfilePath: "runtime/default"}, specs.ActErrno},
		"deprecated unconfined":         {&sec{SeccompProfilePath: "unconfined"}, ""},
		"deprecated localhost":          {&sec{SeccompProfilePath: "localhost/" + profile}, specs.ActAllow},
		"the new field goes before":     {&sec{Seccomp: &cri.SecurityProfile{}, SeccompProfilePath: "unconfined"}, specs.ActErrno},
		"privileged, default asked for": {&sec{Privileged: true, Seccomp: &cri.SecurityProfile{}}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			in := fixture(t)
			in.Sandbox.Linux.SecurityContext.Privileged = tc.sec.Privileged
			in.Options.NoHostDevices = true
			in.Container.Linux.SecurityContext = tc.sec
			got, err := Container(in)
			if err != nil {
				t.Fatal(err)
			}
			var action specs.LinuxSeccompAction
			if got.Linux.Seccomp != nil {
				action = got.Linux.Seccomp.DefaultAction
			}
			if action != tc.want {
				t.Errorf("default action %q, want %q", action, tc.want)
			}
		})
	}
}

func TestSeccompRefused(t *testing.T) {
	dir := t.TempDir()
	large := filepath.Join(dir, "large")
	writeFiles(t, dir, map[string]string{"large": strings.Repeat(" ", maxSeccompProfile+1), "text": "no JSON", "empty": "{}"})
	no := false
	for name, tc := range map[string]struct {
		profile *cri.SecurityProfile
		change  func(*Input)
		kind    fault.Kind
	}{
		"relative":          {&cri.SecurityProfile{ProfileType: cri.SecurityProfile_Localhost, LocalhostRef: "p.json"}, nil, fault.Invalid},
		"dots":              {&cri.SecurityProfile{ProfileType: cri.SecurityProfile_Localhost, LocalhostRef: dir + "/../p.json"}, nil, fault.Invalid},
		"no path":           {&cri.SecurityProfile{ProfileType: cri.SecurityProfile_Localhost}, nil, fault.Invalid},
		"missing":           {&cri.SecurityProfile{ProfileType: cri.SecurityProfile_Localhost, LocalhostRef: dir + "/none"}, nil, fault.Invalid},
		"too large":         {&cri.SecurityProfile{ProfileType: cri.SecurityProfile_Localhost, LocalhostRef: large}, nil, fault.Invalid},
		"a device":          {&cri.SecurityProfile{ProfileType: cri.SecurityProfile_Localhost, LocalhostRef: "/dev/zero"}, nil, fault.Invalid},
		"no JSON":           {&cri.SecurityProfile{ProfileType: cri.SecurityProfile_Localhost, LocalhostRef: dir + "/text"}, nil, fault.Invalid},
		"empty":             {&cri.SecurityProfile{ProfileType: cri.SecurityProfile_Localhost, LocalhostRef: dir + "/empty"}, nil, fault.Invalid},
		"path with default": {&cri.SecurityProfile{LocalhostRef: large}, nil, fault.Invalid},
		"unknown type":      {&cri.SecurityProfile{ProfileType: 7}, nil, fault.Invalid},
		"no kernel support": {&cri.SecurityProfile{}, func(in *Input) { in.Host.Seccomp = false }, fault.Unsupported},
		"no runtime support": {&cri.SecurityProfile{}, func(in *Input) {
			in.Features.Linux = &features.Linux{Seccomp: &features.Seccomp{Enabled: &no}}
		}, fault.Unsupported},
	} {
		t.Run(name, func(t *testing.T) {
			in := fixture(t)
			security(in).Seccomp = tc.profile
			if tc.change != nil {
				tc.change(&in)
			}
			if _, err := Container(in); err == nil || fault.KindOf(err) != tc.kind {
				t.Errorf("error %v of kind %v, want %v", err, fault.KindOf(err), tc.kind)
			}
		})
	}
}

func TestAppArmor(t *testing.T) {
	in := fixture(t)
	in.Options.AppArmorProfile = "node-default"
	got, err := Container(in)
	if err != nil || got.Process.ApparmorProfile != "" {
		t.Errorf("a node without AppArmor: %q, %v", got.Process.ApparmorProfile, err)
	}
	security(in).Apparmor = &cri.SecurityProfile{ProfileType: cri.SecurityProfile_Localhost, LocalhostRef: "mine"}
	if _, err := Container(in); fault.KindOf(err) != fault.Unsupported {
		t.Errorf("a named profile on a node without AppArmor: %v", err)
	}
	in.Host.AppArmor = true
	security(in).Apparmor = nil
	if got, err = Container(in); err != nil || got.Process.ApparmorProfile != "node-default" {
		t.Errorf("default: %q, %v", got.Process.ApparmorProfile, err)
	}
	security(in).ApparmorProfile = "unconfined"
	if got, err = Container(in); err != nil || got.Process.ApparmorProfile != "" {
		t.Errorf("unconfined: %q, %v", got.Process.ApparmorProfile, err)
	}
	list := "docker-default (enforce)\nmy profile (complain)\n"
	for name, want := range map[string]bool{"docker-default": true, "my profile": true, "docker": false, "my": false} {
		if got, err := listsProfile(strings.NewReader(list), name); got != want || err != nil {
			t.Errorf("%q: %v, %v", name, got, err)
		}
	}
}
