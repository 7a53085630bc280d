package spec

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	specs "github.com/opencontainers/runtime-spec/specs-go"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
	"pgregory.net/rapid"

	"github.com/stele-runtime/stele/actors/fault"
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
			in := fixture(t)
			in.Image.Config.Entrypoint, in.Image.Config.Cmd = tc.entrypoint, tc.cmd
			in.Container.Command, in.Container.Args = tc.command, tc.args
			got, err := Container(in)
			if tc.want == nil {
				if fe, ok := errors.AsType[*FieldError](err); !ok || fe.Field != "command" {
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
		in := fixture(t)
		in.Image.Config.WorkingDir = "srv/../srv/app"
		got, err := Container(in)
		if err != nil || got.Process.Cwd != "/srv/app" {
			t.Fatalf("%v, %v", got, err)
		}
		if info, err := os.Stat(filepath.Join(in.Rootfs, "srv/app")); err != nil || !info.IsDir() {
			t.Error(err)
		}
	})
	t.Run("in a volume, left to the volume", func(t *testing.T) {
		in := fixture(t)
		in.Container.WorkingDir = "/data/sub"
		in.Container.Mounts = []*cri.Mount{{ContainerPath: "/data", HostPath: t.TempDir()}}
		if _, err := Container(in); err != nil {
			t.Fatal(err)
		}
		if _, err := os.Stat(filepath.Join(in.Rootfs, "data")); err == nil {
			t.Error("made in the image")
		}
	})
	t.Run("through a link, inside", func(t *testing.T) {
		in := fixture(t)
		outside := t.TempDir()
		if err := os.Symlink(outside, filepath.Join(in.Rootfs, "out")); err != nil {
			t.Fatal(err)
		}
		in.Container.WorkingDir = "/out/made"
		_, err := Container(in)
		if entries, _ := os.ReadDir(outside); len(entries) > 0 {
			t.Errorf("made outside (%v)", err)
		}
	})
	for name, dir := range map[string]string{
		"a file":                "/etc/motd",
		"below a file":          "/etc/motd/x",
		"descriptor":            "/proc/self/fd/7",
		"descriptor by dots":    "/x/../proc/1/fd/8/../8",
		"descriptor by a link":  "/link",
		"descriptor, short way": "/dev/fd/3",
		"NUL":                   "/a\x00b",
	} {
		t.Run("refused: "+name, func(t *testing.T) {
			in := fixture(t)
			if err := os.Symlink("proc/self/fd/7", filepath.Join(in.Rootfs, "link")); err != nil {
				t.Fatal(err)
			}
			in.Image.Config.WorkingDir = dir
			got, err := Container(in)
			if _, ok := errors.AsType[*FieldError](err); !ok {
				t.Errorf("cwd %+v, error %v", got, err)
			}
		})
	}
}

// CVE-2022-4318, CVE-2026-15809: a line break in HOME.
func TestEnvironmentRefused(t *testing.T) {
	for name, change := range map[string]func(*Input){
		"HOME of the pod, LF":   func(in *Input) { setEnv(in, "HOME", "/root\nx:x:0:0::/:/bin/sh") },
		"HOME of the pod, CR":   func(in *Input) { setEnv(in, "HOME", "/root\r") },
		"HOME of the image, LF": func(in *Input) { in.Image.Config.Env = []string{"HOME=/\nevil:x:0:0::/:"} },
		"NUL in a value":        func(in *Input) { setEnv(in, "A", "x\x00y") },
		"equals sign in a name": func(in *Input) { setEnv(in, "A=B", "x") },
		"no name":               func(in *Input) { setEnv(in, "", "x") },
		"not UTF-8":             func(in *Input) { setEnv(in, "A", "\xff") },
	} {
		t.Run(name, func(t *testing.T) {
			in := fixture(t)
			change(&in)
			_, err := Container(in)
			fe, ok := errors.AsType[*FieldError](err)
			if !ok {
				t.Fatalf("error %v", err)
			}
			if strings.Contains(fe.Error(), "evil") || strings.Contains(fe.Error(), "/bin/sh") {
				t.Errorf("the error shows the value: %v", err)
			}
		})
	}
	in := fixture(t)
	setEnv(&in, "HOME", `/root\nliteral`)
	if _, err := Container(in); err != nil {
		t.Errorf("a backslash and an n are no line break: %v", err)
	}
}

func setEnv(in *Input, key, value string) {
	in.Container.Envs = []*cri.KeyValue{{Key: key, Value: []byte(value)}}
}

// CVE-2018-1000400, CVE-2022-24769, CVE-2022-27652: no set but the ones asked
// for; and never more than the process has itself.
func TestCapabilitySets(t *testing.T) {
	known := append(knownCapabilities(), "ALL")
	in := fixture(t)
	rapid.Check(t, func(t *rapid.T) {
		list := func(label string) []string {
			return rapid.SliceOfN(rapid.SampledFrom(known), 0, 4).Draw(t, label)
		}
		sec := security(in)
		sec.Capabilities = &cri.Capability{AddCapabilities: list("add"), DropCapabilities: list("drop"), AddAmbientCapabilities: list("ambient")}
		got, err := Container(in)
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
	in := fixture(t)
	security(in).Capabilities = &cri.Capability{AddCapabilities: []string{"SYS_RESOURCE"}}
	_, err := Container(in)
	if fault.KindOf(err) != fault.Unsupported || !strings.Contains(err.Error(), "SYS_RESOURCE") {
		t.Errorf("error %v", err)
	}
}

// Sysctls and the host name are set where the namespaces are made.
func TestJoinedNamespacesAreLeftAlone(t *testing.T) {
	in := fixture(t)
	in.Sandbox.Linux.Sysctls = map[string]string{"net.core.somaxconn": "1"}
	got, err := Container(in)
	if err != nil {
		t.Fatal(err)
	}
	if len(got.Linux.Sysctl) != 0 || got.Hostname != "" || got.Domainname != "" || got.Hooks != nil {
		t.Errorf("sysctls %v, host name %q, hooks %v", got.Linux.Sysctl, got.Hostname, got.Hooks)
	}
	in.Namespaces.Net = ""
	if _, err := Container(in); fault.KindOf(err) != fault.Internal {
		t.Errorf("a missing path: %v", err)
	}
}

func TestPropagation(t *testing.T) {
	// The mount namespaces of test machines differ: what is refused and what is
	// granted must follow from the mount that the path is on.
	in := fixture(t)
	host := t.TempDir()
	on, err := peersOf(host)
	if err != nil {
		t.Fatal(err)
	}
	for mode, want := range map[cri.MountPropagation]struct {
		can            bool
		option, rootfs string
	}{
		cri.MountPropagation_PROPAGATION_PRIVATE:           {true, "rprivate", ""},
		cri.MountPropagation_PROPAGATION_HOST_TO_CONTAINER: {on.shared || on.slave, "rslave", "rslave"},
		cri.MountPropagation_PROPAGATION_BIDIRECTIONAL:     {on.shared, "rshared", "rshared"},
	} {
		in.Container.Mounts = []*cri.Mount{{ContainerPath: "/p", HostPath: host, Propagation: mode}}
		got, err := Container(in)
		if (err == nil) != want.can {
			t.Errorf("%s: error %v, the mount is %+v", mode, err, on)
		}
		if err != nil {
			continue
		}
		i := slices.IndexFunc(got.Mounts, func(m specs.Mount) bool { return m.Destination == "/p" })
		if !slices.Contains(got.Mounts[i].Options, want.option) || got.Linux.RootfsPropagation != want.rootfs {
			t.Errorf("%s: options %v, root %q", mode, got.Mounts[i].Options, got.Linux.RootfsPropagation)
		}
	}
}

func TestRecursiveReadOnlyNeedsSupport(t *testing.T) {
	for name, change := range map[string]func(*Input){
		"kernel":          func(in *Input) { in.Host.RecursiveReadOnly = false },
		"runtime":         func(in *Input) { in.Features.MountOptions = []string{"ro"} },
		"unknown runtime": func(in *Input) { in.Features = nil },
	} {
		in := fixture(t)
		in.Container.Mounts = []*cri.Mount{{ContainerPath: "/p", HostPath: t.TempDir(), Readonly: true, RecursiveReadOnly: true}}
		change(&in)
		if _, err := Container(in); fault.KindOf(err) != fault.Unsupported {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// CVE-2021-43816: what belongs to the runtime keeps its label.
func TestRelabelRefused(t *testing.T) {
	in := fixture(t)
	own := t.TempDir()
	in.Options.OwnDirs = []string{filepath.Join(own, "root")}
	for _, host := range []string{own, filepath.Join(own, "root"), filepath.Join(own, "root/pods/x")} {
		in.Container.Mounts = []*cri.Mount{{ContainerPath: "/p", HostPath: host, SelinuxRelabel: true}}
		if _, err := Container(in); fault.KindOf(err) != fault.Invalid {
			t.Errorf("%s: %v", host, err)
		}
	}
	in.Container.Mounts = []*cri.Mount{{ContainerPath: "/p", HostPath: filepath.Join(own, "rooted"), SelinuxRelabel: true}}
	if _, err := Container(in); err != nil {
		t.Errorf("a neighbour: %v", err)
	}
}

// CVE-2024-3154, CVE-2023-6476, CVE-2026-53488: nothing but exact keys that the
// administrator lists, and nothing at all from an image.
func TestAnnotations(t *testing.T) {
	in := fixture(t)
	in.Options.Annotations = []string{"io.example.ok"}
	in.Container.Annotations = map[string]string{
		"io.example.ok": "1", "io.example.ok2": "1", "io.example": "1", "org.systemd.property.X": "1",
		AnnotationSandboxID: "forged", AnnotationContainerName: "forged",
	}
	in.Image.Config.Labels = map[string]string{"io.example.ok": "image", AnnotationHolder: "true"}
	got, err := Container(in)
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
	in := fixture(t)
	privileged(in)
	in.Options.ForbidPrivileged = true
	if _, err := Container(in); fault.KindOf(err) != fault.Unsupported {
		t.Error(err)
	}
}

func TestPrivilegedSeesTheNodesDevices(t *testing.T) {
	in := fixture(t)
	privileged(in)
	got, err := Container(in)
	if err != nil {
		t.Fatal(err)
	}
	has := func(path string) bool {
		return slices.ContainsFunc(got.Linux.Devices, func(d specs.LinuxDevice) bool { return d.Path == path })
	}
	if !has("/dev/null") || has("/dev/console") || has("/dev/pts/0") || has("/dev/pts/ptmx") {
		t.Errorf("devices: %+v", got.Linux.Devices)
	}
}

func TestDeviceRefused(t *testing.T) {
	in := fixture(t)
	for _, host := range []string{"/dev/does-not-exist", "/etc/passwd", t.TempDir()} {
		in.Container.Devices = []*cri.Device{{HostPath: host, ContainerPath: "/dev/x"}}
		if _, err := Container(in); fault.KindOf(err) != fault.Invalid {
			t.Errorf("%s: %v", host, err)
		}
	}
}

func TestUnifiedNeedsV2(t *testing.T) {
	in := fixture(t)
	in.Host.CgroupV2 = false
	in.Container.Linux.Resources.Unified = map[string]string{"memory.high": "1"}
	if _, err := Container(in); fault.KindOf(err) != fault.Unsupported {
		t.Error(err)
	}
}

func TestDetectHost(t *testing.T) {
	h, err := DetectHost()
	if err != nil {
		t.Fatal(err)
	}
	if !h.Has("CAP_CHOWN") {
		t.Errorf("capabilities: %v", h.Capabilities)
	}
	if h.Has("CAP_SYS_RESOURCE") != (h.MaxRlimits == nil) {
		t.Errorf("CAP_SYS_RESOURCE %v, limits %v", h.Has("CAP_SYS_RESOURCE"), h.MaxRlimits)
	}
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		t.Fatal(err)
	}
	if h.Seccomp != strings.Contains(string(status), "Seccomp_filters:") {
		t.Errorf("seccomp %v", h.Seccomp)
	}
}
