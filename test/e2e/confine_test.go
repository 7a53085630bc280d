package e2e

import (
	"context"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/types"
	specs "github.com/opencontainers/runtime-spec/specs-go"
	"google.golang.org/grpc/codes"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/stele-runtime/stele/executors/apparmor"
)

const seccompArtifact = "seccomp-profile.kubernetes.cri-o.io"

// TestConfinement sees from inside, and in what the runtime got, what confines a container.
func TestConfinement(t *testing.T) {
	t.Parallel()
	h := New(t, programs, Options{Config: `
[runtime.handlers.runc]
path = "runc"
allowed_annotations = ["` + seccompArtifact + `"]
`})
	pod := h.RunPod(h.PodConfig("confined"))
	t.Run("seccomp", func(t *testing.T) { confinedSeccomp(t, h.In(t), pod) })
	t.Run("no_new_privs", func(t *testing.T) { confinedPrivileges(t, h.In(t), pod) })
	t.Run("profile in an artifact", func(t *testing.T) { confinedByArtifact(t, h.In(t)) })
	t.Run("relabel", func(t *testing.T) { confinedRelabel(t, h.In(t), pod) })
	t.Run("bad input", func(t *testing.T) { confinedBadInput(t, h.In(t), pod) })
}

// status reads /proc/self/status inside.
func statusLine(h *Harness, id, key string) string {
	h.t.Helper()
	return strings.TrimSpace(strings.TrimPrefix(h.Exec(id, "grep", "^"+key+":", "/proc/self/status"), key+":"))
}

func confinedSeccomp(t *testing.T, h *Harness, pod *Pod) {
	file := filepath.Join(h.Share, "profile.json")
	if err := os.WriteFile(file, []byte(withoutMkdir), 0o644); err != nil {
		t.Fatal(err)
	}
	for name, tc := range map[string]struct {
		profile *runtimeapi.SecurityProfile
		old     string
		mode    string
		mkdir   bool
		unshare bool
	}{
		"default":    {&runtimeapi.SecurityProfile{ProfileType: runtimeapi.SecurityProfile_RuntimeDefault}, "", "2", true, false},
		"unconfined": {&runtimeapi.SecurityProfile{ProfileType: runtimeapi.SecurityProfile_Unconfined}, "", "0", true, true},
		"localhost":  {&runtimeapi.SecurityProfile{ProfileType: runtimeapi.SecurityProfile_Localhost, LocalhostRef: file}, "", "2", false, true},
		"older-form": {nil, "localhost/" + file, "2", false, true},
	} {
		config := h.ContainerConfig("seccomp-" + name)
		config.Linux.SecurityContext.Seccomp, config.Linux.SecurityContext.SeccompProfilePath = tc.profile, tc.old
		id := pod.Run(config)
		if got := statusLine(h, id, "Seccomp"); got != tc.mode {
			t.Errorf("%s: the mode is %s, want %s", name, got, tc.mode)
		}
		if got := h.ExecSync(id, "mkdir", "/dev/shm/"+name).ExitCode == 0; got != tc.mkdir {
			t.Errorf("%s: mkdir works: %v", name, got)
		}
		// Without CAP_SYS_ADMIN the default allows no new namespaces; a user namespace takes no
		// capability.
		if got := h.ExecSync(id, "unshare", "-U", "true").ExitCode == 0; got != tc.unshare {
			t.Errorf("%s: unshare works: %v", name, got)
		}
	}
}

func confinedPrivileges(t *testing.T, h *Harness, pod *Pod) {
	for _, on := range []bool{true, false} {
		config := h.ContainerConfig("privileges-" + map[bool]string{true: "on", false: "off"}[on])
		config.Linux.SecurityContext.NoNewPrivs = on
		config.Linux.SecurityContext.Capabilities = &runtimeapi.Capability{DropCapabilities: []string{"ALL"}, AddCapabilities: []string{"CAP_CHOWN", "kill"}}
		id := pod.Run(config)
		if got, want := statusLine(h, id, "NoNewPrivs"), map[bool]string{true: "1", false: "0"}[on]; got != want {
			t.Errorf("NoNewPrivs is %s, want %s", got, want)
		}
		// CVE-2022-27652, CVE-2022-24769: nothing is inheritable, nothing ambient.
		for set, want := range map[string]string{
			"CapBnd": "0000000000000021", "CapEff": "0000000000000021", "CapInh": "0000000000000000", "CapAmb": "0000000000000000",
		} {
			if got := statusLine(h, id, set); got != want {
				t.Errorf("%s is %s, want %s", set, got, want)
			}
		}
	}
}

// pushProfile pushes a seccomp profile as an artifact.
func pushProfile(t *testing.T, h *Harness, name string, files ...string) string {
	artifact := mutate.ConfigMediaType(mutate.MediaType(empty.Image, types.OCIManifestSchema1), "application/vnd.cncf.seccomp-profile.config.v1+json")
	for i, file := range files {
		var err error
		artifact, err = mutate.Append(artifact, mutate.Addendum{
			Layer:       static.NewLayer([]byte(file), "application/vnd.oci.image.layer.v1.tar"),
			Annotations: map[string]string{"org.opencontainers.image.title": string(rune('a'+i)) + ".json"},
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return h.Registry.Push(t, name, artifact)
}

func confinedByArtifact(t *testing.T, h *Harness) {
	name := pushProfile(t, h, "e2e/profile:v1", withoutMkdir)
	run := func(podName string, annotations map[string]string, profile *runtimeapi.SecurityProfile) string {
		config := h.PodConfig(podName)
		for key, value := range annotations {
			config.Annotations[key] = value
		}
		c := h.ContainerConfig("c")
		c.Linux.SecurityContext.Seccomp = profile
		return h.RunPod(config).Run(c)
	}
	unconfined := &runtimeapi.SecurityProfile{ProfileType: runtimeapi.SecurityProfile_Unconfined}
	for podName, tc := range map[string]struct {
		key     string
		profile *runtimeapi.SecurityProfile
		applies bool
	}{
		"whole-pod":   {seccompArtifact + "/POD", unconfined, true},
		"a-container": {seccompArtifact + "/c", nil, true},
		"another":     {seccompArtifact + "/d", unconfined, false},
		"own-profile": {seccompArtifact + "/POD", &runtimeapi.SecurityProfile{ProfileType: runtimeapi.SecurityProfile_RuntimeDefault}, false},
		"not-allowed": {"seccomp-profile.crio.io/POD", unconfined, false},
	} {
		id := run(podName, map[string]string{tc.key: name}, tc.profile)
		if got := h.ExecSync(id, "mkdir", "/dev/shm/x").ExitCode != 0; got != tc.applies {
			t.Errorf("%s: the profile applies: %v, want %v", podName, got, tc.applies)
		}
		got := runtimeSpec(h, id).Annotations["io.github.stele-runtime.seccomp.artifact"]
		if is := strings.HasPrefix(got, name+" sha256:"); is != tc.applies {
			t.Errorf("%s: the bundle says of the artifact: %q", podName, got)
		}
	}
	two := pushProfile(t, h, "e2e/profile:two", withoutMkdir, withoutMkdir)
	text := pushProfile(t, h, "e2e/profile:text", "no profile")
	for value, want := range map[string]struct {
		code codes.Code
		word string
	}{
		two: {codes.InvalidArgument, "2 files"}, text: {codes.InvalidArgument, "can't be used"},
		"not a name": {codes.InvalidArgument, "not a name"}, strings.TrimSuffix(name, "v1") + "v2": {codes.NotFound, "v2"},
	} {
		config := h.PodConfig("bad-artifact")
		config.Annotations[seccompArtifact+"/POD"] = value
		pod := h.RunPod(config)
		_, err := pod.TryCreate(h.ContainerConfig("c"))
		h.Refused(err, want.code, "annotations["+seccompArtifact+"/POD]", want.word)
		pod.Remove()
	}
	for _, ref := range []string{name, two, text} {
		if _, err := h.Images.RemoveImage(h.Context(), &runtimeapi.RemoveImageRequest{Image: &runtimeapi.ImageSpec{Image: ref}}); err != nil {
			t.Error(err)
		}
	}
}

func runtimeSpec(h *Harness, id string) specs.Spec {
	h.t.Helper()
	answer, err := h.Runtime.ContainerStatus(h.Context(), &runtimeapi.ContainerStatusRequest{ContainerId: id, Verbose: true})
	if err != nil {
		h.t.Fatal(err)
	}
	var info struct{ RuntimeSpec specs.Spec }
	if err := json.Unmarshal([]byte(answer.Info["info"]), &info); err != nil {
		h.t.Fatal(err)
	}
	return info.RuntimeSpec
}

// CVE-2021-43816.
func confinedRelabel(t *testing.T, h *Harness, pod *Pod) {
	for _, path := range []string{"/", "/etc", "/usr/bin", "/var/lib", "/run", "/proc/1", h.Root, h.State} {
		config := h.ContainerConfig("relabelled")
		config.Mounts = []*runtimeapi.Mount{{ContainerPath: "/mnt", HostPath: path, SelinuxRelabel: true}}
		_, err := pod.TryCreate(config)
		h.Refused(err, codes.InvalidArgument, "mounts[0].selinux_relabel")
	}
}

func confinedBadInput(t *testing.T, h *Harness, pod *Pod) {
	type security = *runtimeapi.LinuxContainerSecurityContext
	local := runtimeapi.SecurityProfile_Localhost
	for name, tc := range map[string]struct {
		change func(security)
		words  []string
	}{
		"capability":        {func(s security) { s.Capabilities = &runtimeapi.Capability{AddCapabilities: []string{"CAP_FLY"}} }, []string{"add_capabilities", "CAP_FLY"}},
		"capability's line": {func(s security) { s.Capabilities = &runtimeapi.Capability{DropCapabilities: []string{"KILL\nx"}} }, []string{"drop_capabilities"}},
		"ambient":           {func(s security) { s.Capabilities = &runtimeapi.Capability{AddAmbientCapabilities: []string{"../x"}} }, []string{"add_ambient_capabilities", "../x"}},
		"profile's dots":    {func(s security) { s.Seccomp = &runtimeapi.SecurityProfile{ProfileType: local, LocalhostRef: "/a/../b"} }, []string{"seccomp.localhost_ref", "/a/../b"}},
		"a device": {func(s security) {
			s.Seccomp = &runtimeapi.SecurityProfile{ProfileType: local, LocalhostRef: "/dev/zero"}
		}, []string{"seccomp", "/dev/zero", "regular"}},
		"no profile there": {func(s security) { s.Seccomp = &runtimeapi.SecurityProfile{ProfileType: local, LocalhostRef: "/none"} }, []string{"seccomp", "/none"}},
		"type":             {func(s security) { s.Seccomp = &runtimeapi.SecurityProfile{ProfileType: 9} }, []string{"seccomp.profile_type", "9"}},
		"apparmor's name":  {func(s security) { s.Apparmor = &runtimeapi.SecurityProfile{ProfileType: local, LocalhostRef: "a b"} }, []string{"apparmor.localhost_ref", "a b"}},
		"apparmor's word":  {func(s security) { s.ApparmorProfile = "docker-default" }, []string{"apparmor_profile", "docker-default"}},
		"SELinux type":     {func(s security) { s.SelinuxOptions = &runtimeapi.SELinuxOption{Type: "t:s0"} }, []string{"selinux_options.type", "t:s0"}},
		"SELinux level":    {func(s security) { s.SelinuxOptions = &runtimeapi.SELinuxOption{Level: `s0",exec="`} }, []string{"selinux_options.level", "s0"}},
		"masked path":      {func(s security) { s.MaskedPaths = []string{"proc"} }, []string{"masked_paths", "proc"}},
	} {
		config := h.ContainerConfig("bad")
		tc.change(config.Linux.SecurityContext)
		_, err := pod.TryCreate(config)
		if err == nil {
			t.Errorf("%s: accepted", name)
			continue
		}
		h.Refused(err, codes.InvalidArgument, tc.words...)
	}
}

// TestAppArmor sees the profile enforcing: what the container may do by its capabilities and by
// seccomp, AppArmor denies.
//
// It unloads the default profile, which those of other tests need: it is not parallel.
func TestAppArmor(t *testing.T) {
	if !apparmor.Enabled() {
		t.Skip("the kernel has no AppArmor here; test/vm runs this where it has")
	}
	h := New(t, programs, Options{})
	pod := h.RunPod(h.PodConfig("apparmor"))
	run := func(name string, change func(*runtimeapi.LinuxContainerSecurityContext)) string {
		config := h.ContainerConfig(name)
		change(config.Linux.SecurityContext)
		return pod.Run(config)
	}
	current := func(id string) string { return h.Exec(id, "cat", "/proc/self/attr/current") }
	type security = *runtimeapi.LinuxContainerSecurityContext
	profile := func(p runtimeapi.SecurityProfile_ProfileType, ref string) func(security) {
		return func(s security) { s.Apparmor = &runtimeapi.SecurityProfile{ProfileType: p, LocalhostRef: ref} }
	}
	var confined string
	for name, change := range map[string]func(security){
		"default": profile(runtimeapi.SecurityProfile_RuntimeDefault, ""),
		"nothing": func(security) {}, "older": func(s security) { s.ApparmorProfile = "runtime/default" },
	} {
		confined = run(name, change)
		if got := current(confined); got != "stele-default (enforce)" {
			t.Errorf("%s: confined by %q", name, got)
		}
	}
	// A capability allows mounts, and no seccomp profile forbids them: only AppArmor does.
	for kind, want := range map[runtimeapi.SecurityProfile_ProfileType]bool{
		runtimeapi.SecurityProfile_RuntimeDefault: false, runtimeapi.SecurityProfile_Unconfined: true,
	} {
		id := run("enforcing-"+strings.ToLower(kind.String()), func(s security) {
			profile(kind, "")(s)
			s.Capabilities = &runtimeapi.Capability{AddCapabilities: []string{"SYS_ADMIN"}}
		})
		if got := h.ExecSync(id, "mount", "-t", "tmpfs", "none", "/dev/shm"); (got.ExitCode == 0) != want {
			t.Errorf("%s: a mount ends with %v", kind, got)
		}
	}
	appArmorOfTheNode(t, h, pod)
	// Somebody unloads the default: it is there again when it is needed.
	if err := os.WriteFile("/sys/kernel/security/apparmor/.remove", []byte("stele-default"), 0); err != nil {
		t.Fatal(err)
	}
	if got := current(confined); got != "stele-default (enforce)" {
		t.Errorf("a command in a container whose profile was unloaded: %q", got)
	}
	if got := current(run("again", profile(runtimeapi.SecurityProfile_RuntimeDefault, ""))); got != "stele-default (enforce)" {
		t.Errorf("after the profile was unloaded: %q", got)
	}
	privileged := h.PodConfig("privileged")
	privileged.Linux.SecurityContext.Privileged = true
	c := h.ContainerConfig("privileged")
	c.Linux.SecurityContext.Privileged = true
	if got := current(h.RunPod(privileged).Run(c)); got != "unconfined" {
		t.Errorf("a privileged container is confined by %q", got)
	}
}

// appArmorOfTheNode confines by a profile of the node's own, that forbids one thing.
func appArmorOfTheNode(t *testing.T, h *Harness, pod *Pod) {
	local := &runtimeapi.SecurityProfile{ProfileType: runtimeapi.SecurityProfile_Localhost, LocalhostRef: "stele-e2e"}
	const own = "profile stele-e2e flags=(attach_disconnected,mediate_deleted) {\n file,\n capability,\n network,\n signal,\n ptrace,\n deny /dev/shm/forbidden w,\n}\n"
	load := func(option string) {
		cmd := exec.CommandContext(context.WithoutCancel(t.Context()), "apparmor_parser", option)
		cmd.Stdin = strings.NewReader(own)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("apparmor_parser %s: %v\n%s", option, err, out)
		}
	}
	config := h.ContainerConfig("not-loaded")
	config.Linux.SecurityContext.Apparmor = local
	_, err := pod.TryCreate(config)
	h.Refused(err, codes.InvalidArgument, "apparmor", "stele-e2e", "not loaded")
	load("-r")
	t.Cleanup(func() { load("-R") })
	config.Metadata.Name = "loaded"
	// The older form is what the kubelet made of the annotation.
	older := h.ContainerConfig("loaded-older")
	older.Linux.SecurityContext.ApparmorProfile = "localhost/stele-e2e"
	for _, config := range []*runtimeapi.ContainerConfig{config, older} {
		id := pod.Run(config)
		if got := h.ExecSync(id, "touch", "/dev/shm/allowed"); got.ExitCode != 0 {
			t.Errorf("%s: what the profile allows: %v", config.Metadata.Name, got)
		}
		if got := h.ExecSync(id, "touch", "/dev/shm/forbidden"); got.ExitCode == 0 || !strings.Contains(string(got.Stderr), "denied") {
			t.Errorf("%s: what the profile denies: %v", config.Metadata.Name, got)
		}
	}
}
