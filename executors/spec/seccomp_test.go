package spec

import (
	"runtime"
	"slices"
	"testing"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"github.com/opencontainers/runtime-spec/specs-go/features"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/stele-runtime/stele/actors/fault"
	"github.com/stele-runtime/stele/executors/spec/confine"
)

func allows(s *specs.LinuxSeccomp, call string) bool {
	return slices.ContainsFunc(s.Syscalls, func(r specs.LinuxSyscall) bool {
		return r.Action == specs.ActAllow && len(r.Args) == 0 && slices.Contains(r.Names, call)
	})
}

func TestSeccompFollowsCapabilities(t *testing.T) {
	in := fixture()
	security(in).Seccomp = &cri.SecurityProfile{ProfileType: cri.SecurityProfile_RuntimeDefault}
	got, err := in.container()
	if err != nil {
		t.Fatal(err)
	}
	if !allows(got.Linux.Seccomp, "openat") || allows(got.Linux.Seccomp, "mount") {
		t.Error("openat must be allowed, mount must not")
	}
	security(in).Capabilities = &cri.Capability{AddCapabilities: []string{"SYS_ADMIN"}}
	if got, err = in.container(); err != nil {
		t.Fatal(err)
	}
	if !allows(got.Linux.Seccomp, "mount") {
		t.Error("with CAP_SYS_ADMIN, mount must be allowed")
	}
}

func TestSeccompChoice(t *testing.T) {
	const profile = "/profiles/one.json"
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
			in := fixture()
			in.Sandbox.Linux.SecurityContext.Privileged = tc.sec.Privileged
			in.node.Seccomp.Data = []byte(`{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["chmod"],"action":"SCMP_ACT_ERRNO"}]}`)
			in.Container.Linux.SecurityContext = tc.sec
			got, err := in.container()
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

// Who needs no 32-bit programs saves what compiling a profile for them takes.
func TestSeccompNativeOnly(t *testing.T) {
	both := []byte(`{"defaultAction":"SCMP_ACT_ALLOW","architectures":["SCMP_ARCH_X86","SCMP_ARCH_X86_64","SCMP_ARCH_AARCH64"],"syscalls":[{"names":["chmod"],"action":"SCMP_ACT_ERRNO"}]}`)
	for name, tc := range map[string]struct {
		change func(*scene)
		one    bool
	}{
		"default":                     {func(in *scene) { in.Options.NativeSeccomp = false }, false},
		"native only":                 {func(*scene) {}, true},
		"the administrator's profile": {func(in *scene) { in.Options.Seccomp = both }, true},
		"an image that does not say":  {func(in *scene) { in.Image.Architecture = "" }, true},
		"an image for 32 bits":        {func(in *scene) { in.Image.Architecture = "386" }, false},
		"a profile of the pod's": {func(in *scene) {
			security(in).Seccomp = &cri.SecurityProfile{ProfileType: cri.SecurityProfile_Localhost, LocalhostRef: "/p"}
			in.node.Seccomp.Data = both
		}, false},
	} {
		t.Run(name, func(t *testing.T) {
			in := fixture()
			in.Options.NativeSeccomp = true
			in.Image.Architecture = runtime.GOARCH
			security(in).Seccomp = &cri.SecurityProfile{}
			tc.change(in)
			got, err := in.container()
			if err != nil {
				t.Fatal(err)
			}
			if one := len(got.Linux.Seccomp.Architectures) == 1; one != tc.one {
				t.Errorf("the profile is for %v", got.Linux.Seccomp.Architectures)
			}
		})
	}
}

func TestSeccompRefused(t *testing.T) {
	no := false
	for name, tc := range map[string]struct {
		profile *cri.SecurityProfile
		change  func(*scene)
		kind    fault.Kind
	}{
		"relative":          {&cri.SecurityProfile{ProfileType: cri.SecurityProfile_Localhost, LocalhostRef: "p.json"}, nil, fault.Invalid},
		"dots":              {&cri.SecurityProfile{ProfileType: cri.SecurityProfile_Localhost, LocalhostRef: "/profiles/../p.json"}, nil, fault.Invalid},
		"no path":           {&cri.SecurityProfile{ProfileType: cri.SecurityProfile_Localhost}, nil, fault.Invalid},
		"no JSON":           {&cri.SecurityProfile{ProfileType: cri.SecurityProfile_Localhost, LocalhostRef: "/p"}, func(in *scene) { in.node.Seccomp.Data = []byte("no JSON") }, fault.Invalid},
		"empty":             {&cri.SecurityProfile{ProfileType: cri.SecurityProfile_Localhost, LocalhostRef: "/p"}, func(in *scene) { in.node.Seccomp.Data = []byte("{}") }, fault.Invalid},
		"path with default": {&cri.SecurityProfile{LocalhostRef: "/p"}, nil, fault.Invalid},
		"unknown type":      {&cri.SecurityProfile{ProfileType: 7}, nil, fault.Invalid},
		"no kernel support": {&cri.SecurityProfile{}, func(in *scene) { in.Host.Seccomp = false }, fault.Unsupported},
		"no runtime support": {&cri.SecurityProfile{}, func(in *scene) {
			in.Features.Linux = &features.Linux{Seccomp: &features.Seccomp{Enabled: &no}}
		}, fault.Unsupported},
	} {
		t.Run(name, func(t *testing.T) {
			in := fixture()
			security(in).Seccomp = tc.profile
			if tc.change != nil {
				tc.change(in)
			}
			if _, err := in.container(); err == nil || fault.KindOf(err) != tc.kind {
				t.Errorf("error %v of kind %v, want %v", err, fault.KindOf(err), tc.kind)
			}
		})
	}
}

func TestAppArmor(t *testing.T) {
	in := fixture()
	in.Options.AppArmorProfile = confine.OwnAppArmorProfile
	got, err := in.container()
	if err != nil || got.Process.ApparmorProfile != "" {
		t.Errorf("a node without AppArmor: %q, %v", got.Process.ApparmorProfile, err)
	}
	security(in).Apparmor = &cri.SecurityProfile{ProfileType: cri.SecurityProfile_Localhost, LocalhostRef: "mine"}
	if _, err := in.container(); fault.KindOf(err) != fault.Unsupported {
		t.Errorf("a named profile on a node without AppArmor: %v", err)
	}
	in.Host.AppArmor = true
	security(in).Apparmor = nil
	if got, err = in.container(); err != nil || got.Process.ApparmorProfile != confine.OwnAppArmorProfile {
		t.Errorf("default: %q, %v", got.Process.ApparmorProfile, err)
	}
	security(in).ApparmorProfile = "unconfined"
	if got, err = in.container(); err != nil || got.Process.ApparmorProfile != "" {
		t.Errorf("unconfined: %q, %v", got.Process.ApparmorProfile, err)
	}
	security(in).ApparmorProfile = "localhost/mine"
	if _, err = in.container(); fault.KindOf(err) != fault.Invalid {
		t.Errorf("a profile that is not loaded: %v", err)
	}
	in.node.AppArmor.Is = true
	if got, err = in.container(); err != nil || got.Process.ApparmorProfile != "mine" {
		t.Errorf("a profile that is loaded: %v", err)
	}
	if q, err := Ask(in.Input); err != nil || q.AppArmorProfile != "mine" {
		t.Errorf("asked for %+v, %v", q, err)
	}
}
