package confine

import (
	"strings"
	"testing"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/stele-runtime/stele/actors/fault"
)

// labelled is an ordinary container on a node with SELinux, in a pod that has a level.
func labelled() *Request {
	return &Request{
		Security: &cri.LinuxContainerSecurityContext{NamespaceOptions: &cri.NamespaceOption{}},
		Sandbox: &cri.PodSandboxConfig{Linux: &cri.LinuxPodSandboxConfig{SecurityContext: &cri.LinuxSandboxSecurityContext{
			SelinuxOptions: &cri.SELinuxOption{Level: "s0:c1,c2"},
		}}},
		Node: &Node{SELinux: true, Contexts: Contexts{
			Process: "system_u:system_r:container_t:s0", Init: "system_u:system_r:container_init_t:s0",
			File: "system_u:object_r:container_file_t:s0",
		}},
	}
}

func TestLabels(t *testing.T) {
	const process, file = "system_u:system_r:container_t:s0:c1,c2", "system_u:object_r:container_file_t:s0:c1,c2"
	for name, tc := range map[string]struct {
		change        func(*Request)
		process, file string
	}{
		"the pod's level":     {func(*Request) {}, process, file},
		"SELinux is off":      {func(r *Request) { r.Node.SELinux = false }, "", ""},
		"privileged":          {func(r *Request) { r.Security.Privileged = true }, "", file},
		"processes of node":   {func(r *Request) { r.Security.NamespaceOptions.Pid = cri.NamespaceMode_NODE }, "", ""},
		"IPC of the node":     {func(r *Request) { r.Security.NamespaceOptions.Ipc = cri.NamespaceMode_NODE }, "", ""},
		"network of the node": {func(r *Request) { r.Security.NamespaceOptions.Network = cri.NamespaceMode_NODE }, "", file},
		"it may have a label": {func(r *Request) {
			r.Security.NamespaceOptions.Network, r.Options.LabelHostNetwork = cri.NamespaceMode_NODE, true
		}, process, file},
		"an init system":    {func(r *Request) { r.Init = true }, "system_u:system_r:container_init_t:s0:c1,c2", file},
		"no type for those": {func(r *Request) { r.Init, r.Node.Contexts.Init = true, "" }, process, file},
		"own type":          {func(r *Request) { r.Init, r.Security.SelinuxOptions = true, &cri.SELinuxOption{Type: "spc_t"} }, "system_u:system_r:spc_t:s0:c1,c2", file},
		"own level and user": {func(r *Request) {
			r.Security.SelinuxOptions = &cri.SELinuxOption{User: "u", Role: "r", Level: "s0:c3,c4"}
		}, "u:r:container_t:s0:c3,c4", "u:object_r:container_file_t:s0:c3,c4"},
		"the pod's type":       {func(r *Request) { r.Sandbox.Linux.SecurityContext.SelinuxOptions.Type = "t" }, "system_u:system_r:t:s0:c1,c2", file},
		"a policy of 3 parts":  {func(r *Request) { r.Node.Contexts.Process, r.Node.Contexts.File = "u:r:t", "u:o:f" }, "u:r:t", "u:o:f"},
		"no security context ": {func(r *Request) { r.Security, r.Sandbox = &cri.LinuxContainerSecurityContext{}, nil }, "system_u:system_r:container_t:s0", "system_u:object_r:container_file_t:s0"},
	} {
		r := labelled()
		tc.change(r)
		spec := &specs.Spec{Process: &specs.Process{}, Linux: &specs.Linux{}}
		if err := r.SELinux(spec); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if spec.Process.SelinuxLabel != tc.process || spec.Linux.MountLabel != tc.file || r.MountLabel() != tc.file {
			t.Errorf("%s: process %q, files %q, root %q", name, spec.Process.SelinuxLabel, spec.Linux.MountLabel, r.MountLabel())
		}
	}
}

func TestPodMountLabel(t *testing.T) {
	r := labelled()
	if got := PodMountLabel(r.Node, r.Sandbox); got != "system_u:object_r:container_file_t:s0:c1,c2" {
		t.Errorf("%q", got)
	}
	if NeedsLevel(r.Node, r.Sandbox) || !NeedsLevel(r.Node, nil) || NeedsLevel(&Node{}, nil) {
		t.Error("who needs a level")
	}
	r.Sandbox.Linux.SecurityContext.NamespaceOptions = &cri.NamespaceOption{Ipc: cri.NamespaceMode_NODE}
	if got := PodMountLabel(r.Node, r.Sandbox); got != "" {
		t.Errorf("a pod with the node's IPC: %q", got)
	}
}

func TestPolicyWithoutLabels(t *testing.T) {
	r := labelled()
	r.Node.Contexts = Contexts{}
	if err := r.SELinux(&specs.Spec{}); fault.KindOf(err) != fault.Unsupported {
		t.Errorf("a level on a node without labels: %v", err)
	}
	r.Sandbox = nil
	if err := r.SELinux(&specs.Spec{}); err != nil {
		t.Error(err)
	}
}

// CVE-2021-43816: what belongs to the system keeps its label, whatever the kernel has.
func TestRelabelOfTheSystem(t *testing.T) {
	for _, on := range []bool{true, false} {
		r := labelled()
		r.Node.SELinux = on
		for _, p := range []string{"/", "/etc", "/etc/kubernetes/pki", "/usr", "/usr/bin", "/boot", "/var", "/var/lib", "/home", "/root", "/run", "/tmp", "/proc/1", "/sys/fs", "/dev/sda", "/lib64", "/var/lib/kubelet", "/var/lib/kubelet/pods"} {
			if _, err := r.Relabel("mounts[0]", p); fault.KindOf(err) != fault.Invalid {
				t.Errorf("%s: %v", p, err)
			}
		}
		for _, p := range []string{"/var/lib/kubelet/pods/u/volumes/v", "/srv/data", "/home/app", "/etcetera", "/mnt/disk"} {
			if got, err := r.Relabel("mounts[0]", p); err != nil || (got.Label != "") != on {
				t.Errorf("%s: %+v, %v", p, got, err)
			}
		}
	}
}

func TestRelabelUnless(t *testing.T) {
	r := labelled()
	r.Sandbox.Annotations = map[string]string{AnnotationSkipRelabel: "true"}
	relabel := func() Relabelling {
		got, err := r.Relabel("mounts[0]", "/srv/data")
		if err != nil {
			t.Error(err)
		}
		return got
	}
	if got := relabel(); got.Unless || got.Label == "" {
		t.Errorf("an annotation that the handler does not allow: %+v", got)
	}
	r.Annotations = []string{AnnotationSkipRelabel}
	if got := relabel(); !got.Unless {
		t.Errorf("an annotation that the handler allows: %+v", got)
	}
	r.Sandbox.Annotations[AnnotationSkipRelabel] = "yes"
	if got := relabel(); got.Unless {
		t.Errorf("another value: %+v", got)
	}
	r.Security.SelinuxOptions = &cri.SELinuxOption{Type: superPrivileged}
	if got := relabel(); got.Label != "" {
		t.Errorf("a container that SELinux does not confine: %+v", got)
	}
}

// CRI-O refuses to start without the profile that its configuration names; here a pod that wants
// it is refused, since it may be loaded later.
func TestAppArmorOfTheNode(t *testing.T) {
	r := labelled()
	r.Node.AppArmor, r.Options.AppArmorProfile = true, "mine"
	process := &specs.Process{}
	if _, err := r.AppArmor(process); fault.KindOf(err) != fault.Unsupported || r.Ask().AppArmorProfile != "mine" {
		t.Errorf("the node's profile is not loaded: %v, asked for %q", err, r.Ask().AppArmorProfile)
	}
	r.Found.AppArmor.Is = true
	if load, err := r.AppArmor(process); err != nil || load != "" || process.ApparmorProfile != "mine" {
		t.Errorf("the node's profile: %q is confined by %q, %v", load, process.ApparmorProfile, err)
	}
	r.Security.Apparmor = &cri.SecurityProfile{ProfileType: cri.SecurityProfile_Localhost, LocalhostRef: OwnAppArmorProfile}
	if load, err := r.AppArmor(process); err != nil || load != OwnAppArmorProfile || r.Ask().AppArmorProfile != "" {
		t.Errorf("Stele's own by its name: %q, %v", load, err)
	}
	r.Security.Privileged = true
	if load, err := r.AppArmor(&specs.Process{}); err != nil || load != "" {
		t.Errorf("privileged: %q, %v", load, err)
	}
}

func TestHostileLabels(t *testing.T) {
	for _, o := range []*cri.SELinuxOption{
		{User: "u:r"}, {Role: "r\n"}, {Type: "t t"}, {Level: "s0\" ,exec"}, {Level: "s0\\"}, {Type: "t\x00"}, {Level: strings.Repeat("c", maxLabel+1)},
	} {
		if err := CheckSELinux("f", o); fault.KindOf(err) != fault.Invalid {
			t.Errorf("%v: %v", o, err)
		}
	}
	if err := CheckSELinux("f", &cri.SELinuxOption{Level: "s0-s0:c0.c1023"}); err != nil {
		t.Error(err)
	}
}
