package spec

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	specs "github.com/opencontainers/runtime-spec/specs-go"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/stele-runtime/stele/executors/spec/confine"
)

var update = flag.Bool("update", false, "rewrite the golden files in testdata")

// Each case changes the ordinary container; testdata/<name>.json is its spec.
// testdata/steps.txt has, for all of them, what is asked and what must be made.
func goldenCases() map[string]func(*scene) {
	return map[string]func(*scene){
		"plain": func(in *scene) {},
		"pod_overrides_image": func(in *scene) {
			in.Container.Command = []string{"/bin/sh", "-c"}
			in.Container.Args = []string{"echo $MODE"}
			in.Container.WorkingDir = "/app"
			in.Container.Envs = []*cri.KeyValue{{Key: "MODE", Value: []byte("pod")}, {Key: "TEXT", Value: []byte("two\nlines")}}
			in.Container.Tty = true
			security(in).RunAsUser = &cri.Int64Value{Value: 1000}
			security(in).RunAsGroup = &cri.Int64Value{Value: 3000}
			security(in).SupplementalGroups = []int64{4000, 10}
			security(in).NoNewPrivs = true
			security(in).ReadonlyRootfs = true
		},
		"resources": func(in *scene) {
			in.Container.Linux.Resources = &cri.LinuxContainerResources{
				CpuPeriod: 100000, CpuQuota: 50000, CpuShares: 512, CpusetCpus: "0-1", CpusetMems: "0",
				MemoryLimitInBytes: 64 << 20, OomScoreAdj: 900,
				HugepageLimits: []*cri.HugepageLimit{{PageSize: "2MB", Limit: 4 << 20}, {PageSize: "1GB"}},
				Unified:        map[string]string{"memory.high": "60000000", "memory.oom.group": "1"},
			}
		},
		"resources_on_a_small_node": func(in *scene) {
			in.Container.Linux.Resources = &cri.LinuxContainerResources{
				MemoryLimitInBytes: 64 << 20, OomScoreAdj: -500,
				HugepageLimits: []*cri.HugepageLimit{{PageSize: "2MB"}},
			}
			in.Host = &HostFacts{Node: confine.Node{Capabilities: []string{"CAP_CHOWN"}}, MaxRlimits: map[string]uint64{"RLIMIT_NOFILE": 1000}}
			in.Options.Rlimits = []specs.POSIXRlimit{{Type: "RLIMIT_NOFILE", Soft: 2000, Hard: 4000}, {Type: "RLIMIT_CORE"}}
		},
		"mounts": func(in *scene) {
			const host = tmp + "/host"
			in.node.HostPaths = map[string]HostPath{
				host + "/link":    {Path: host + "/real"},
				host + "/missing": {Path: host + "/missing", Missing: true},
			}
			in.Container.Mounts = []*cri.Mount{
				{ContainerPath: "/data/deep/", HostPath: host + "/link"},
				{ContainerPath: "/data", HostPath: host + "/missing", Readonly: true},
				{ContainerPath: "/etc/hosts", HostPath: host + "/hosts"},
				{ContainerPath: "/dev/termination-log", HostPath: host + "/log"},
				{ContainerPath: "/frozen", HostPath: host, Readonly: true, RecursiveReadOnly: true},
				{ContainerPath: "/safe", HostPath: host, MountOptions: []string{"noexec", "rnosuid"}},
			}
		},
		"mounts_of_the_kernels_directories": func(in *scene) {
			privileged(in)
			in.Options.NoHostDevices = true
			in.Container.Mounts = []*cri.Mount{
				{ContainerPath: "/dev", HostPath: "/dev"},
				{ContainerPath: "/sys", HostPath: "/sys"},
			}
		},
		"image_volumes": func(in *scene) {
			in.Image.Config.Volumes = map[string]struct{}{
				"/app/data": {}, "/var/cache/new/": {}, "relative": {}, "/user/sub": {}, "/user": {},
				"/proc/x": {}, "/etc/resolv.conf": {},
			}
			in.Container.Mounts = []*cri.Mount{{ContainerPath: "/user", HostPath: in.Rootfs}}
		},
		"user_namespace": func(in *scene) {
			users := ownUsers(in)
			in.Container.WorkingDir = "/made"
			in.Image.Config.Volumes = map[string]struct{}{"/data": {}}
			security(in).RunAsUser = &cri.Int64Value{Value: 1000}
			security(in).RunAsGroup = &cri.Int64Value{Value: 2000}
			in.Container.Mounts = []*cri.Mount{
				{ContainerPath: "/volume", HostPath: "/srv/volume", UidMappings: users.Uids, GidMappings: users.Gids},
				{ContainerPath: "/not-mapped", HostPath: "/srv/other", Readonly: true},
				{ContainerPath: "/image", Image: &cri.ImageSpec{Image: "sha256:5678"}, Readonly: true, UidMappings: users.Uids, GidMappings: users.Gids},
			}
			in.ImageMounts = map[int]string{2: tmp + "/images/2"}
			in.Container.Devices = []*cri.Device{
				{HostPath: "/dev/fuse", ContainerPath: "/dev/fuse", Permissions: "rw"}, {HostPath: "/dev/snd", ContainerPath: "/dev/sound"},
			}
			in.node.Devices = map[string]Devices{
				"/dev/fuse": {Nodes: []Device{charDevice("", 10, 229)}}, "/dev/snd": {Nodes: []Device{charDevice("seq", 116, 1)}},
			}
		},
		"mounts_of_images": func(in *scene) {
			in.Container.Mounts = []*cri.Mount{
				{ContainerPath: "/model/", Readonly: true, Image: &cri.ImageSpec{Image: "sha256:ab"}},
				{ContainerPath: "/other", Readonly: true, Image: &cri.ImageSpec{Image: "sha256:cd"}, ImageSubPath: "a/b", MountOptions: []string{"noexec", "noatime"}},
			}
			in.ImageMounts = map[int]string{0: "/run/volumes/c1/0", 1: "/run/volumes/c1/1/a/b"}
		},
		"privileged": func(in *scene) {
			privileged(in)
			in.Options.NoHostDevices = true
			security(in).Seccomp = &cri.SecurityProfile{}
			security(in).Capabilities = &cri.Capability{DropCapabilities: []string{"ALL"}}
			security(in).MaskedPaths = []string{"/proc/kcore"}
		},
		"host_namespaces": func(in *scene) {
			node := cri.NamespaceMode_NODE
			security(in).NamespaceOptions = &cri.NamespaceOption{Network: node, Pid: node, Ipc: node}
			in.Namespaces = Namespaces{}
		},
		"shared_pid_namespace": func(in *scene) {
			security(in).NamespaceOptions = &cri.NamespaceOption{Pid: cri.NamespaceMode_POD}
		},
		"ephemeral_container": func(in *scene) {
			security(in).NamespaceOptions = &cri.NamespaceOption{Pid: cri.NamespaceMode_TARGET, TargetId: "c0"}
		},
		"cgroup_v1": func(in *scene) { in.Host.CgroupV2 = false },
		"capabilities_dropped": func(in *scene) {
			security(in).Capabilities = &cri.Capability{DropCapabilities: []string{"all"}, AddCapabilities: []string{"NET_BIND_SERVICE", "cap_chown"}}
		},
		"capabilities_all_but": func(in *scene) {
			security(in).Capabilities = &cri.Capability{DropCapabilities: []string{"SYS_ADMIN"}, AddCapabilities: []string{"ALL"}}
		},
		"capabilities_ambient": func(in *scene) {
			security(in).Capabilities = &cri.Capability{DropCapabilities: []string{"ALL"}, AddAmbientCapabilities: []string{"NET_RAW"}}
		},
		"devices": func(in *scene) {
			in.node.Devices = map[string]Devices{
				"/dev/null": {Nodes: []Device{charDevice("", 1, 3)}},
				"/dev/full": {Nodes: []Device{charDevice("", 1, 7)}},
			}
			in.Container.Devices = []*cri.Device{
				{HostPath: "/dev/null", ContainerPath: "/dev/nothing", Permissions: "r"},
				{HostPath: "/dev/full", ContainerPath: "/dev/full"},
			}
		},
		"seccomp_and_annotations": func(in *scene) {
			security(in).Seccomp = &cri.SecurityProfile{ProfileType: cri.SecurityProfile_RuntimeDefault}
			in.Options.Annotations = []string{"allowed.example/key"}
			in.Sandbox.Annotations = map[string]string{
				"allowed.example/key": "pod", "allowed.example/key2": "no", "org.systemd.property.ExecStartPre": "no",
			}
			in.Container.Annotations = map[string]string{"allowed.example/key": "container", "run.oci.handler": "no"}
			in.Image.Config.Labels = map[string]string{"allowed.example/key": "image"}
		},
		"selinux": func(in *scene) {
			in.Host.SELinux = true
			in.Host.Contexts = confine.Contexts{
				Process: "system_u:system_r:container_t:s0", Init: "system_u:system_r:container_init_t:s0", File: "system_u:object_r:container_file_t:s0",
			}
			in.Sandbox.Linux.SecurityContext.SelinuxOptions = &cri.SELinuxOption{Level: "s0:c1,c2"}
			in.Container.Command = []string{"/sbin/init"}
			in.Image.Config.Volumes = map[string]struct{}{"/data": {}}
			in.Container.Mounts = []*cri.Mount{{ContainerPath: "/p", HostPath: "/srv/p", SelinuxRelabel: true}}
		},
		"administrators_options": func(in *scene) {
			in.Host.AppArmor = true
			in.Options = Options{
				Options: confine.Options{
					Capabilities: []string{"CHOWN"}, InheritableCapabilities: true,
					AppArmorProfile: confine.OwnAppArmorProfile, Seccomp: []byte(`{"defaultAction": "SCMP_ACT_ALLOW"}`),
				},
				PidsLimit: 77, Env: []string{"FROM=node"},
				DefaultAnnotations: map[string]string{"example/default": "node"},
				Devices:            []*cri.Device{{HostPath: "/dev/fuse", ContainerPath: "/dev/fuse", Permissions: "rw"}},
				DevicesFollowUser:  true, AllowedDevices: []string{"/dev/full"}, Annotations: []string{"devices.crio.io"},
			}
			in.node.Devices = map[string]Devices{
				"/dev/fuse": {Nodes: []Device{charDevice("", 10, 229)}}, "/dev/full": {Nodes: []Device{charDevice("", 1, 7)}},
			}
			in.Sandbox.Annotations = map[string]string{"devices.crio.io": "/dev/full:/dev/asked:r"}
			security(in).RunAsUser = &cri.Int64Value{Value: 1000}
			security(in).Seccomp = &cri.SecurityProfile{ProfileType: cri.SecurityProfile_RuntimeDefault}
		},
		"gifts_of_the_node": func(in *scene) {
			ownUsers(in)
			in.node.NoMtab = true
			in.Files.ContainerEnv = "/run/pod/containerenv"
			in.Options.Timezone = "/usr/share/zoneinfo/Europe/Berlin"
			in.Options.DefaultMounts = []DefaultMount{
				{Source: "/secrets", Destination: "/run/secrets"}, {Source: "/missing", Destination: "/missing"},
				{Source: "/dangling", Destination: "/dangling"}, {Source: "/hidden", Destination: "/opt/hidden/deep"}, {Source: "/key", Destination: "/etc/key"},
			}
			in.node.DefaultMounts = map[string]HostPath{
				"/secrets": {Path: "/usr/share/secrets"}, "/missing": {Path: "/missing", Missing: true},
				"/dangling": {Err: fmt.Errorf("/dangling is %w", ErrDangling)}, "/hidden": {Path: "/hidden"}, "/key": {Path: "/key"},
			}
			in.Options.HostRoot = "/host"
			in.node.HostPaths = map[string]HostPath{"/srv/x": {Path: "/host/srv/x", Missing: true}}
			in.Container.Mounts = []*cri.Mount{
				{ContainerPath: "/run/secrets/token", HostPath: "/srv/x"}, {ContainerPath: "/opt/hidden", HostPath: "/srv/x"},
			}
		},
		"bare": func(in *scene) {
			in.Image, in.Files, in.Namespaces.UTS, in.ImageName = nil, Files{}, "", ""
			in.Container.Linux = nil
			in.Container.Args = []string{"true"}
			in.Sandbox.Linux = nil
			in.Sandbox.Hostname = ""
		},
	}
}

func TestGoldenSpecs(t *testing.T) {
	for name, change := range goldenCases() {
		t.Run(name, func(t *testing.T) {
			in := fixture()
			change(in)
			got, err := in.plan()
			if err != nil {
				t.Fatal(err)
			}
			compareSpec(t, name, got.Spec)
			again, err := in.plan()
			if err != nil {
				t.Fatalf("the second time: %v", err)
			}
			if diff := cmp.Diff(got, again); diff != "" {
				t.Errorf("the second time is different:\n%s", diff)
			}
		})
	}
}

func TestGoldenSteps(t *testing.T) {
	var b bytes.Buffer
	cases := goldenCases()
	for _, name := range slices.Sorted(maps.Keys(cases)) {
		in := fixture()
		cases[name](in)
		q, errQ := Ask(in.Input)
		got, errP := in.plan()
		if err := errors.Join(errQ, errP); err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&b, "%s\n", name)
		q.Rootfs = "" // in all of them
		fields := reflect.ValueOf(q)
		for i := range fields.NumField() {
			if !fields.Field(i).IsZero() {
				fmt.Fprintf(&b, "  ? %s %+v\n", fields.Type().Field(i).Name, fields.Field(i))
			}
		}
		for _, s := range got.Steps {
			fmt.Fprintf(&b, "  %s %+v\n", reflect.TypeOf(s).Name(), s)
		}
	}
	compareGolden(t, "steps.txt", b.Bytes())
}

// The holder of a pod with few users is not nobody, whom there is not.
func TestHolderInAUserNamespace(t *testing.T) {
	for length, want := range map[uint32]uint32{65536: nobody, 1000: 0} {
		in := fixture()
		users := ownUsers(in)
		users.Uids[0].Length, users.Gids[0].Length = length, length
		got, err := Holder(HolderInput{
			SandboxID: in.SandboxID, Sandbox: in.Sandbox, Rootfs: "/run/pod/holder", Binary: "/usr/bin/stele-monitor",
			Namespaces: in.Namespaces, CgroupsPath: "/stele/pod1/stele-pod1", Host: in.Host,
		})
		if err != nil {
			t.Fatal(err)
		}
		if got.Process.User.UID != want || got.Linux.UIDMappings[0].Size != length || !slices.ContainsFunc(got.Linux.Namespaces, func(n specs.LinuxNamespace) bool {
			return n.Type == specs.UserNamespace && n.Path == in.Namespaces.User
		}) {
			t.Errorf("%d ids: %+v in %+v", length, got.Process.User, got.Linux)
		}
	}
}

func TestGoldenHolder(t *testing.T) {
	in := fixture()
	got, err := Holder(HolderInput{
		SandboxID: in.SandboxID, Sandbox: in.Sandbox, Rootfs: "/run/pod/holder", Binary: "/usr/bin/stele-monitor",
		Namespaces: in.Namespaces, CgroupsPath: "/stele/pod1/stele-pod1", Host: in.Host,
	})
	if err != nil {
		t.Fatal(err)
	}
	if got.Linux.Seccomp == nil {
		t.Error("no seccomp")
	}
	compareSpec(t, "holder", got)
}

func charDevice(path string, major, minor int64) Device {
	mode, root := os.FileMode(0o666), uint32(0)
	return Device{Path: path, Type: "c", Major: major, Minor: minor, FileMode: &mode, UID: &root, GID: &root}
}

// compareSpec compares all but the system calls, which depend on the kernel and the
// library.
func compareSpec(t *testing.T, name string, got *specs.Spec) {
	t.Helper()
	short := *got
	if got.Linux.Seccomp != nil {
		linux := *got.Linux
		linux.Seccomp = &specs.LinuxSeccomp{DefaultAction: got.Linux.Seccomp.DefaultAction}
		short.Linux = &linux
	}
	b, err := json.MarshalIndent(short, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	compareGolden(t, name+".json", append(b, '\n'))
}

func compareGolden(t *testing.T, name string, got []byte) {
	t.Helper()
	got = bytes.ReplaceAll(got, []byte(tmp), []byte("$TMP"))
	file := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(file, got, 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(fmt.Errorf("%w; run the test with -update", err))
	}
	if diff := cmp.Diff(string(want), string(got)); diff != "" {
		t.Errorf("%s (-want +got; -update rewrites it):\n%s", file, diff)
	}
}
