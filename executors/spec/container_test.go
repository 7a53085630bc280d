package spec

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	specs "github.com/opencontainers/runtime-spec/specs-go"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
	"pgregory.net/rapid"

	"github.com/stele-runtime/stele/actors/fault"
	"github.com/stele-runtime/stele/executors/spec/confine"
	"github.com/stele-runtime/stele/executors/spec/refusal"
)

func TestCommand(t *testing.T) {
	for _, tc := range []struct {
		name                                 string
		entrypoint, cmd, command, args, want []string
	}{
		{"image", []string{"e"}, []string{"c"}, nil, nil, []string{"e", "c"}},
		{"cmd alone", nil, []string{"c", "d"}, nil, nil, []string{"c", "d"}},
		{"args replace cmd", []string{"e"}, []string{"c"}, nil, []string{"a"}, []string{"e", "a"}},
		{"command replaces both", []string{"e"}, []string{"c"}, []string{"x"}, nil, []string{"x"}},
		{"command and args", []string{"e"}, []string{"c"}, []string{"x"}, []string{"a"}, []string{"x", "a"}},
		{"nothing", nil, nil, nil, nil, nil},
		{"empty word", []string{""}, []string{"c"}, nil, nil, nil},
	} {
		t.Run(tc.name, func(t *testing.T) {
			in := fixture()
			in.Image.Config.Entrypoint, in.Image.Config.Cmd = tc.entrypoint, tc.cmd
			in.Container.Command, in.Container.Args = tc.command, tc.args
			got, err := in.container()
			if tc.want == nil {
				if fe, ok := errors.AsType[*refusal.FieldError](err); !ok || fe.Field != "command" {
					t.Fatalf("error %v", err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tc.want, got.Process.Args); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestWorkingDir(t *testing.T) {
	t.Run("made", func(t *testing.T) {
		in := fixture()
		in.Image.Config.WorkingDir = "srv/../srv/app"
		got, err := in.plan()
		if err != nil || got.Spec.Process.Cwd != "/srv/app" {
			t.Fatalf("%v, %v", got, err)
		}
		want := []Step{MakeWorkingDir{Field: "the image's working directory", Rootfs: in.Rootfs, Path: "/srv/app"}}
		if diff := cmp.Diff(want, got.Steps); diff != "" {
			t.Error(diff)
		}
	})
	t.Run("in a volume, left to the volume", func(t *testing.T) {
		in := fixture()
		in.Container.WorkingDir = "/data/sub"
		in.Container.Mounts = []*cri.Mount{{ContainerPath: "/data", HostPath: "/there"}}
		if got, err := in.plan(); err != nil || len(got.Steps) > 0 {
			t.Errorf("%v, %v", got.Steps, err)
		}
	})
	for name, c := range map[string]struct{ dir, leadsTo string }{
		"descriptor":            {"/proc/self/fd/7", "/proc/self/fd/7"},
		"descriptor by dots":    {"/x/../proc/1/fd/8/../8", "/proc/1/fd/8"},
		"descriptor by a link":  {"/link", "/proc/self/fd/7"},
		"descriptor, short way": {"/dev/fd/3", "/dev/fd/3"},
		"NUL":                   {"/a\x00b", "/a\x00b"},
	} {
		t.Run("refused: "+name, func(t *testing.T) {
			in := fixture()
			in.Image.Config.WorkingDir = c.dir
			in.node.WorkingDir.Path = c.leadsTo
			got, err := in.plan()
			if _, ok := errors.AsType[*refusal.FieldError](err); !ok {
				t.Errorf("planned %+v, error %v", got, err)
			}
		})
	}
}

// The kubelet sends no name for a pod on the node's network.
func TestHostname(t *testing.T) {
	in := fixture()
	in.Sandbox.Hostname = ""
	got, err := in.container()
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Contains(got.Process.Env, "HOSTNAME=node-1") {
		t.Errorf("environment %q", got.Process.Env)
	}
	in.node.Hostname = Text{Err: errors.New("no name")}
	if _, err := in.container(); err == nil || !strings.Contains(err.Error(), "no name") {
		t.Errorf("error %v", err)
	}
}

// The kubelet sends empty lists for procMount "Unmasked".
func TestUnmasked(t *testing.T) {
	in := fixture()
	got, err := in.container()
	if err != nil || len(got.Linux.MaskedPaths) == 0 || len(got.Linux.ReadonlyPaths) == 0 {
		t.Errorf("another client's container: %+v, %v", got, err)
	}
	in.Container.Labels = map[string]string{labelKubelet: "server"}
	got, err = in.container()
	if err != nil || len(got.Linux.MaskedPaths) != 0 || len(got.Linux.ReadonlyPaths) != 0 {
		t.Errorf("the kubelet's container: %+v, %v", got, err)
	}
}

// The error says how much it takes.
func TestMemoryLimitIsTooLow(t *testing.T) {
	in := fixture()
	in.Options.MinMemory = 4 << 20
	for limit, refused := range map[int64]bool{1: true, 4<<20 - 1: true, 4 << 20: false, 0: false, -1: false} {
		in.Container.Linux.Resources.MemoryLimitInBytes = limit
		_, err := in.container()
		if !refused {
			if err != nil {
				t.Errorf("%d: %v", limit, err)
			}
			continue
		}
		fe, ok := errors.AsType[*refusal.FieldError](err)
		if !ok || fe.Field != "linux.resources.memory_limit_in_bytes" || !strings.Contains(fe.Error(), "4194304 bytes") {
			t.Errorf("%d: %v", limit, err)
		}
	}
	in = fixture()
	in.Options.MinMemory = 4 << 20
	in.Container.Linux.Resources.Unified = map[string]string{"memory.max": "4095K"}
	_, err := in.container()
	if fe, ok := errors.AsType[*refusal.FieldError](err); !ok || fe.Field != "linux.resources.unified[memory.max]" {
		t.Errorf("by a file: %v", err)
	}
}

// No limit is said, or else systemd sets one of its own. Without the controller nothing is.
func TestPidsLimit(t *testing.T) {
	for _, c := range []struct {
		limit         int64
		hasController bool
		want          int64
	}{{0, true, -1}, {-1, true, -1}, {77, true, 77}, {77, false, 77}, {0, false, 0}, {-1, false, 0}} {
		in := fixture()
		in.Options.PidsLimit, in.Host.Pids = c.limit, c.hasController
		got, err := in.container()
		if err != nil {
			t.Fatal(err)
		}
		if pids := got.Linux.Resources.Pids; (pids == nil) != (c.want == 0) || pids != nil && *pids.Limit != c.want {
			t.Errorf("%+v: planned is %+v", c, pids)
		}
	}
}

// Kubernetes compares mount paths as they are written.
func TestTheLaterMountCounts(t *testing.T) {
	in := fixture()
	in.node.HostPaths = map[string]HostPath{"/first": {Path: "/first", Missing: true}}
	in.Container.Mounts = []*cri.Mount{
		{ContainerPath: "/data", HostPath: "/first"},
		{ContainerPath: "/data/sub", HostPath: "/sub"},
		{ContainerPath: "/data/", HostPath: "/second", Readonly: true},
	}
	got, err := in.plan()
	if err != nil {
		t.Fatal(err)
	}
	if len(got.Steps) > 0 {
		t.Errorf("the hidden mount's source is made: %v", got.Steps)
	}
	var sources []string
	for _, m := range got.Spec.Mounts {
		if covers("/data", m.Destination) {
			sources = append(sources, m.Destination+" "+m.Source)
		}
	}
	if diff := cmp.Diff([]string{"/data /second", "/data/sub /sub"}, sources); diff != "" {
		t.Error(diff)
	}
}

// CVE-2022-4318, CVE-2026-15809: a line break in HOME.
func TestEnvironmentRefused(t *testing.T) {
	for name, change := range map[string]func(*scene){
		"HOME of the pod, LF":   func(in *scene) { setEnv(in, "HOME", "/root\nx:x:0:0::/:/bin/sh") },
		"HOME of the pod, CR":   func(in *scene) { setEnv(in, "HOME", "/root\r") },
		"HOME of the image, LF": func(in *scene) { in.Image.Config.Env = []string{"HOME=/\nevil:x:0:0::/:"} },
		"NUL in a value":        func(in *scene) { setEnv(in, "A", "x\x00y") },
		"equals sign in a name": func(in *scene) { setEnv(in, "A=B", "x") },
		"no name":               func(in *scene) { setEnv(in, "", "x") },
		"not UTF-8":             func(in *scene) { setEnv(in, "A", "\xff") },
	} {
		t.Run(name, func(t *testing.T) {
			in := fixture()
			change(in)
			_, err := in.container()
			fe, ok := errors.AsType[*refusal.FieldError](err)
			if !ok {
				t.Fatalf("error %v", err)
			}
			if strings.Contains(fe.Error(), "evil") || strings.Contains(fe.Error(), "/bin/sh") {
				t.Errorf("the error shows the value: %v", err)
			}
		})
	}
	in := fixture()
	setEnv(in, "HOME", `/root\nliteral`)
	if _, err := in.container(); err != nil {
		t.Errorf("a backslash and an n are no line break: %v", err)
	}
}

func setEnv(in *scene, key, value string) {
	in.Container.Envs = []*cri.KeyValue{{Key: key, Value: []byte(value)}}
}

// CVE-2018-1000400, CVE-2022-24769, CVE-2022-27652: no set but the ones asked
// for; and never more than the process has itself.
func TestCapabilitySets(t *testing.T) {
	known := append(confine.KnownCapabilities(), "ALL")
	in := fixture()
	rapid.Check(t, func(t *rapid.T) {
		list := func(label string) []string {
			return rapid.SliceOfN(rapid.SampledFrom(known), 0, 4).Draw(t, label)
		}
		sec := security(in)
		sec.Capabilities = &cri.Capability{AddCapabilities: list("add"), DropCapabilities: list("drop"), AddAmbientCapabilities: list("ambient")}
		got, err := in.container()
		if err != nil {
			if fault.KindOf(err) != fault.Unsupported {
				t.Fatal(err)
			}
			return
		}
		caps := got.Process.Capabilities
		for _, c := range caps.Bounding {
			if !slices.Contains(in.Host.Capabilities, c) {
				t.Fatalf("%s was given, but the process hasn't got it", c)
			}
			if slices.Contains(sec.Capabilities.DropCapabilities, c) {
				t.Fatalf("%s was dropped, and is there", c)
			}
		}
		for _, set := range [][]string{caps.Effective, caps.Permitted} {
			if !slices.Equal(set, caps.Bounding) {
				t.Fatalf("sets differ: %v, %v", set, caps.Bounding)
			}
		}
		if !slices.Equal(caps.Inheritable, caps.Ambient) {
			t.Fatalf("inheritable %v, ambient %v", caps.Inheritable, caps.Ambient)
		}
		for _, c := range caps.Ambient {
			asked := sec.Capabilities.AddAmbientCapabilities
			if !slices.Contains(asked, c) && !slices.Contains(asked, "ALL") {
				t.Fatalf("ambient %s was not asked for", c)
			}
		}
	})
}

func TestCapabilityThatIsNotThere(t *testing.T) {
	in := fixture()
	security(in).Capabilities = &cri.Capability{AddCapabilities: []string{"SYS_RESOURCE"}}
	_, err := in.container()
	if fault.KindOf(err) != fault.Unsupported || !strings.Contains(err.Error(), "SYS_RESOURCE") {
		t.Errorf("error %v", err)
	}
}

// Sysctls and the host name are set where the namespaces are made.
func TestJoinedNamespacesAreLeftAlone(t *testing.T) {
	in := fixture()
	in.Sandbox.Linux.Sysctls = map[string]string{"net.core.somaxconn": "1"}
	got, err := in.container()
	if err != nil {
		t.Fatal(err)
	}
	if len(got.Linux.Sysctl) != 0 || got.Hostname != "" || got.Domainname != "" || got.Hooks != nil {
		t.Errorf("sysctls %v, host name %q, hooks %v", got.Linux.Sysctl, got.Hostname, got.Hooks)
	}
	in.Namespaces.Net = ""
	if _, err := in.container(); fault.KindOf(err) != fault.Internal {
		t.Errorf("a missing path: %v", err)
	}
}

func TestPropagation(t *testing.T) {
	type modes = map[cri.MountPropagation]string
	const private, in, both = cri.MountPropagation_PROPAGATION_PRIVATE, cri.MountPropagation_PROPAGATION_HOST_TO_CONTAINER, cri.MountPropagation_PROPAGATION_BIDIRECTIONAL
	for on, can := range map[Mount]modes{
		{}:                          {private: "rprivate"},
		{Slave: true}:               {private: "rprivate", in: "rslave"},
		{Shared: true}:              {private: "rprivate", in: "rslave", both: "rshared"},
		{Shared: true, Slave: true}: {private: "rprivate", in: "rslave", both: "rshared"},
	} {
		for _, mode := range []cri.MountPropagation{private, in, both} {
			scene := fixture()
			scene.Container.Mounts = []*cri.Mount{{ContainerPath: "/p", HostPath: "/h", Propagation: mode}}
			scene.node.HostPaths = map[string]HostPath{"/h": {Path: "/h", Mount: on}}
			got, err := scene.container()
			if can[mode] == "" {
				if fault.KindOf(err) != fault.Invalid {
					t.Errorf("%s on %+v: %v", mode, on, err)
				}
				continue
			}
			if err != nil {
				t.Errorf("%s on %+v: %v", mode, on, err)
				continue
			}
			root := strings.TrimPrefix(can[mode], "rprivate")
			i := slices.IndexFunc(got.Mounts, func(m specs.Mount) bool { return m.Destination == "/p" })
			if !slices.Contains(got.Mounts[i].Options, can[mode]) || got.Linux.RootfsPropagation != root {
				t.Errorf("%s on %+v: options %v, root %q", mode, on, got.Mounts[i].Options, got.Linux.RootfsPropagation)
			}
		}
	}
}

// tmpfses are the destinations and options of what is a tmpfs, but for the kernel's directories.
func tmpfses(mounts []specs.Mount) []string {
	var all []string
	for _, m := range mounts {
		if m.Type == "tmpfs" && !isKernelDir(m.Destination) {
			all = append(all, m.Destination+" "+strings.Join(m.Options, ","))
		}
	}
	return all
}

// As CRI-O has them, and none in a volume of the pod.
func TestTmpfses(t *testing.T) {
	const options = " rprivate,nosuid,nodev,noexec,mode="
	for name, c := range map[string]struct {
		change func(*scene)
		want   []string
	}{
		"an ordinary container": {func(*scene) {}, nil},
		"a read-only node": {func(in *scene) { in.Options.ReadOnly = true }, []string{
			"/run" + options + "0755,tmpcopyup", "/tmp" + options + "1777,tmpcopyup", "/var/tmp" + options + "1777,tmpcopyup",
		}},
		"a runtime that copies nothing": {func(in *scene) { in.Options.ReadOnly, in.Features.MountOptions = true, nil }, []string{
			"/run" + options + "0755", "/tmp" + options + "1777", "/var/tmp" + options + "1777",
		}},
		"an init system": {func(in *scene) { in.Container.Command = []string{"/usr/lib/systemd/systemd"} }, []string{
			"/run" + options + "0755,tmpcopyup", "/tmp" + options + "1777,tmpcopyup", "/run/lock" + options + "1777,tmpcopyup", "/var/log/journal" + options + "0755,tmpcopyup",
		}},
		"with volumes": {func(in *scene) {
			in.Options.ReadOnly = true
			in.Container.Mounts = []*cri.Mount{{ContainerPath: "/run", HostPath: "/srv"}, {ContainerPath: "/var", HostPath: "/srv"}}
		}, []string{"/tmp" + options + "1777,tmpcopyup"}},
	} {
		in := fixture()
		in.Features.MountOptions = append(in.Features.MountOptions, "tmpcopyup")
		c.change(in)
		got, err := in.container()
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(c.want, tmpfses(got.Mounts)); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
}

// Only its own cgroup, on v2, is a container's to manage, if it is an init system or the pod asks.
func TestCgroupsOfItsOwn(t *testing.T) {
	const v1, v2 = "io.kubernetes.cri-o.cgroup2-mount-hierarchy-rw", "cgroup2-mount-hierarchy-rw.crio.io"
	for name, c := range map[string]struct {
		allowed     []string
		annotations map[string]string
		change      func(*scene)
		want        string // or the kind of the error
	}{
		"nobody asks":            {nil, nil, func(*scene) {}, "ro"},
		"not allowed":            {nil, map[string]string{v2: "true"}, func(*scene) {}, "ro"},
		"asked":                  {[]string{v2}, map[string]string{v2: "true"}, func(*scene) {}, "rw"},
		"asked by the old name":  {[]string{v1, v2}, map[string]string{v1: "true"}, func(*scene) {}, "rw"},
		"the present name first": {[]string{v1, v2}, map[string]string{v1: "true", v2: "false"}, func(*scene) {}, "ro"},
		"nonsense":               {[]string{v2}, map[string]string{v2: "yes"}, func(*scene) {}, "invalid"},
		"asked on v1":            {[]string{v2}, map[string]string{v2: "true"}, func(in *scene) { in.Host.CgroupV2 = false }, "unsupported"},
		"an init system":         {nil, nil, func(in *scene) { in.Container.Command = []string{"/sbin/init"} }, "rw"},
		"an init system on v1": {nil, nil, func(in *scene) {
			in.Container.Command, in.Host.CgroupV2 = []string{"/sbin/init"}, false
		}, "ro"},
	} {
		in := fixture()
		in.Options.Annotations, in.Sandbox.Annotations = c.allowed, c.annotations
		c.change(in)
		got, err := in.container()
		if err != nil {
			fe, is := errors.AsType[*refusal.FieldError](err)
			if kind := map[fault.Kind]string{fault.Invalid: "invalid", fault.Unsupported: "unsupported"}[fault.KindOf(err)]; !is || kind != c.want || fe.Field != "annotations["+v2+"]" {
				t.Errorf("%s: %v", name, err)
			}
			continue
		}
		i := slices.IndexFunc(got.Mounts, func(m specs.Mount) bool { return m.Destination == "/sys/fs/cgroup" })
		if !slices.Contains(got.Mounts[i].Options, c.want) {
			t.Errorf("%s: options %v, want %s", name, got.Mounts[i].Options, c.want)
		}
		if inits := len(in.Container.Command) > 0 && isInit(in.Container.Command); inits != slices.Contains(got.Process.Env, "container=oci") {
			t.Errorf("%s: environment %v", name, got.Process.Env)
		}
	}
}

// Each path is asked for once, and its mount if any of its mounts needs to know.
func TestHostPathsAreAskedForOnce(t *testing.T) {
	in := fixture()
	in.Container.Mounts = []*cri.Mount{
		{ContainerPath: "/a", HostPath: "/h"},
		{ContainerPath: "/b", HostPath: "/h/", Propagation: cri.MountPropagation_PROPAGATION_BIDIRECTIONAL},
		{ContainerPath: "/c", HostPath: "/h"},
		{ContainerPath: "/d", HostPath: "/i"},
	}
	q, err := Ask(in.Input)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]HostPathQuestion{{Path: "/h", Mount: true}, {Path: "/i"}}, q.HostPaths); diff != "" {
		t.Error(diff)
	}
	if _, err := Container(in.Input, Answers{}); fault.KindOf(err) != fault.Internal {
		t.Errorf("planned without answers: %v", err)
	}
}

func TestRecursiveReadOnlyNeedsSupport(t *testing.T) {
	for name, change := range map[string]func(*scene){
		"kernel":          func(in *scene) { in.Host.RecursiveReadOnly = false },
		"runtime":         func(in *scene) { in.Features.MountOptions = []string{"ro"} },
		"unknown runtime": func(in *scene) { in.Features = nil },
	} {
		in := fixture()
		in.Container.Mounts = []*cri.Mount{{ContainerPath: "/p", HostPath: "/there", Readonly: true, RecursiveReadOnly: true}}
		change(in)
		if _, err := in.container(); fault.KindOf(err) != fault.Unsupported {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// CVE-2021-43816: what belongs to the runtime keeps its label.
func TestRelabel(t *testing.T) {
	in := fixture()
	in.Host.SELinux, in.Host.Contexts = true, confine.Contexts{Process: "u:r:container_t:s0", File: "u:o:f:s0"}
	security(in).SelinuxOptions = &cri.SELinuxOption{Type: "t", Level: "s0:c1,c2"}
	in.Options.OwnDirs = []string{"/own/root"}
	for _, host := range []string{"/own", "/own/root", "/own/root/pods/x", "/", "/etc", "/etc/ssh", "/usr/share", "/var/lib", "/run", "/proc", "/sys/fs", "/dev/shm", "/root", "/home", "/var/lib/kubelet"} {
		in.Container.Mounts = []*cri.Mount{{ContainerPath: "/p", HostPath: "/link", SelinuxRelabel: true}}
		in.node.HostPaths = map[string]HostPath{"/link": {Path: host}}
		if _, err := in.plan(); fault.KindOf(err) != fault.Invalid {
			t.Errorf("%s: %v", host, err)
		}
	}
	in.node.HostPaths["/link"] = HostPath{Path: "/own/rooted", Missing: true}
	got, err := in.plan()
	if err != nil {
		t.Fatalf("a neighbour: %v", err)
	}
	want := []Step{MakeHostDir{Field: "mounts[0].host_path", Path: "/own/rooted"}, Relabel{Path: "/own/rooted", Label: "u:o:f:s0:c1,c2"}}
	if diff := cmp.Diff(want, got.Steps); diff != "" || got.Spec.Process.SelinuxLabel != "u:r:t:s0:c1,c2" {
		t.Errorf("label %q, steps:\n%s", got.Spec.Process.SelinuxLabel, diff)
	}
	q, err := Ask(in.Input)
	if want := []string{"u:r:t:s0:c1,c2", "u:o:f:s0:c1,c2"}; err != nil || !slices.Equal(q.Labels, want) {
		t.Errorf("asked for the labels of %v, %v", q.Labels, err)
	}
}

// CVE-2024-3154, CVE-2023-6476, CVE-2026-53488: nothing but exact keys that the
// administrator lists, and nothing at all from an image.
func TestAnnotations(t *testing.T) {
	in := fixture()
	in.Options.Annotations = []string{"io.example.ok"}
	in.Container.Annotations = map[string]string{
		"io.example.ok": "1", "io.example.ok2": "1", "io.example": "1", "org.systemd.property.X": "1",
		AnnotationSandboxID: "forged", AnnotationContainerName: "forged",
	}
	in.Image.Config.Labels = map[string]string{"io.example.ok": "image", AnnotationHolder: "true"}
	got, err := in.container()
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]string{
		"io.example.ok": "1", AnnotationSandboxID: "pod1", AnnotationPodName: "web", AnnotationPodNamespace: "shop",
		AnnotationPodUID: "uid-1", AnnotationContainerName: "server", AnnotationImageName: "registry.example/server:1",
	}
	if diff := cmp.Diff(want, got.Annotations); diff != "" {
		t.Error(diff)
	}
}

func TestForbidPrivileged(t *testing.T) {
	in := fixture()
	privileged(in)
	in.Options.ForbidPrivileged = true
	if _, err := in.container(); fault.KindOf(err) != fault.Unsupported {
		t.Error(err)
	}
}

func TestPrivilegedSeesTheNodesDevices(t *testing.T) {
	in := fixture()
	privileged(in)
	in.node.AllDevices.Nodes = []Device{charDevice("null", 1, 3), charDevice("net/tun", 10, 200)}
	got, err := in.container()
	if err != nil {
		t.Fatal(err)
	}
	var paths []string
	for _, d := range got.Linux.Devices {
		paths = append(paths, d.Path)
	}
	if want := []string{"/dev/null", "/dev/net/tun"}; !slices.Equal(paths, want) {
		t.Errorf("devices %v, want %v", paths, want)
	}
	in.Options.NoHostDevices = true
	if got, err = in.container(); err != nil || len(got.Linux.Devices) > 0 {
		t.Errorf("devices %v, %v, although the node keeps its own", got.Linux.Devices, err)
	}
}

// A privileged container that does not see the node's devices may not use them either, unless
// the administrator says so: it could make them.
func TestPrivilegedWithoutTheNodesDevices(t *testing.T) {
	for options, want := range map[struct{ none, all bool }]bool{
		{}: true, {none: true}: false, {none: true, all: true}: true,
	} {
		in := fixture()
		privileged(in)
		in.Options.NoHostDevices, in.Options.AllowAllDevices = options.none, options.all
		got, err := in.container()
		if err != nil {
			t.Fatal(err)
		}
		if rule := got.Linux.Resources.Devices[0]; rule.Allow != want || rule.Access != "rwm" || rule.Type != "" || rule.Major != nil {
			t.Errorf("%+v: the first rule is %+v", options, rule)
		}
	}
	in := fixture()
	in.Options.AllowAllDevices = true
	if got, err := in.container(); err != nil || got.Linux.Resources.Devices[0].Allow {
		t.Errorf("an ordinary container may use every device: %v", err)
	}
}

func TestDirectoryOfDevices(t *testing.T) {
	in := fixture()
	in.Container.Devices = []*cri.Device{{HostPath: "/dev/a", ContainerPath: "/dev/x"}}
	in.node.Devices = map[string]Devices{"/dev/a": {Nodes: []Device{charDevice("b/c", 1, 3), charDevice("../../d", 1, 5)}}}
	got, err := in.container()
	if err != nil {
		t.Fatal(err)
	}
	// Not even an answer leads out.
	if d := got.Linux.Devices; len(d) != 2 || d[0].Path != "/dev/x/b/c" || d[1].Path != "/dev/x/d" {
		t.Errorf("devices %+v", d)
	}
}

func TestAnswerIsAnError(t *testing.T) {
	broken := errors.New("it is broken")
	for name, change := range map[string]func(*scene){
		"device": func(in *scene) {
			in.Container.Devices = []*cri.Device{{HostPath: "/d", ContainerPath: "/dev/x"}}
			in.node.Devices = map[string]Devices{"/d": {Err: broken}}
		},
		"host path": func(in *scene) {
			in.Container.Mounts = []*cri.Mount{{HostPath: "/h", ContainerPath: "/p"}}
			in.node.HostPaths = map[string]HostPath{"/h": {Err: broken}}
		},
		"working directory": func(in *scene) {
			in.Container.WorkingDir = "/w"
			in.node.WorkingDir.Err = broken
		},
		"passwd": func(in *scene) { in.node.Passwd.Err = broken },
		"group":  func(in *scene) { in.node.Group.Err = broken },
		"SELinux": func(in *scene) {
			in.Host.SELinux, in.node.Labels, in.Host.Contexts.Process = true, broken, "u:r:t:s0"
		},
		"seccomp": func(in *scene) {
			security(in).SeccompProfilePath, in.node.Seccomp.Err = "localhost//p", broken
		},
	} {
		in := fixture()
		change(in)
		if _, err := in.plan(); fault.KindOf(err) != fault.Invalid || !strings.Contains(err.Error(), "it is broken") {
			t.Errorf("%s: %v", name, err)
		}
	}
	// What is not needed may be broken: the group file, for a user without a name.
	in := fixture()
	security(in).RunAsUser = id(4242)
	in.node.Group.Err = broken
	if _, err := in.plan(); err != nil {
		t.Error(err)
	}
}

func TestUnifiedNeedsV2(t *testing.T) {
	in := fixture()
	in.Host.CgroupV2 = false
	in.Container.Linux.Resources.Unified = map[string]string{"memory.high": "1"}
	if _, err := in.container(); fault.KindOf(err) != fault.Unsupported {
		t.Error(err)
	}
}
