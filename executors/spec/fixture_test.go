package spec

import (
	"maps"
	"os"
	"path/filepath"
	"testing"

	imagespec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/opencontainers/runtime-spec/specs-go/features"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
)

const testPasswd = `root:x:0:0:root:/root:/bin/sh
# a comment, and a broken line
broken
daemon:x:1:1::/:
app:x:1000:1000::/home/app:/bin/sh
other:x:1001:2000::/:
huge:x:4294967296:0::/:
negative:x:-1:0::/:
badgroup:x:1002:99999999999::/:
1000:x:0:0:a name that looks like an id:/:
`

const testGroup = `root:x:0:
wheel:x:10:root,app
audio:x:29:app, other
staff:x:2000:
hugegroup:x:4294967296:badmember
badmember:x:5:
`

// fixture returns an ordinary container of an ordinary pod, on a node with
// everything. Paths are below a temporary directory.
func fixture(t testing.TB) Input {
	t.Helper()
	dir := t.TempDir()
	rootfs := filepath.Join(dir, "rootfs")
	writeFiles(t, rootfs, map[string]string{
		"etc/passwd": testPasswd,
		"etc/group":  testGroup,
		"app/data/a": "a",
		"etc/motd":   "hello",
	})
	return Input{
		SandboxID:   "pod1",
		ContainerID: "c1",
		Sandbox: &cri.PodSandboxConfig{
			Metadata: &cri.PodSandboxMetadata{Name: "web", Namespace: "shop", Uid: "uid-1"},
			Hostname: "web-0",
			Linux:    &cri.LinuxPodSandboxConfig{SecurityContext: &cri.LinuxSandboxSecurityContext{}},
		},
		Container: &cri.ContainerConfig{
			Metadata: &cri.ContainerMetadata{Name: "server"},
			Image:    &cri.ImageSpec{Image: "sha256:1234"},
			Linux: &cri.LinuxContainerConfig{
				Resources: &cri.LinuxContainerResources{},
				SecurityContext: &cri.LinuxContainerSecurityContext{
					NamespaceOptions: &cri.NamespaceOption{Pid: cri.NamespaceMode_CONTAINER},
				},
			},
		},
		Image: &imagespec.Image{Config: imagespec.ImageConfig{
			Env: []string{"LANG=C", "MODE=image"}, Entrypoint: []string{"/bin/server"}, Cmd: []string{"--default"},
		}},
		ImageName:   "registry.example/server:1",
		Rootfs:      rootfs,
		VolumesDir:  filepath.Join(dir, "volumes"),
		Namespaces:  Namespaces{Net: "/run/ns/net", IPC: "/run/ns/ipc", UTS: "/run/ns/uts", PID: "/proc/42/ns/pid"},
		Files:       Files{ResolvConf: "/run/pod/resolv.conf", Hostname: "/run/pod/hostname", Hosts: "/run/pod/hosts", Shm: "/run/pod/shm"},
		CgroupsPath: "/stele/pod1/stele-c1",
		Host: &HostFacts{
			Capabilities: append(DefaultCapabilities(), "CAP_NET_ADMIN", "CAP_NET_RAW", "CAP_SYS_ADMIN"),
			Seccomp:      true, CgroupV2: true, Hugetlb: true, SwapLimit: true, RecursiveReadOnly: true,
			MinOOMScoreAdj: -1000,
		},
		Features: &features.Features{MountOptions: []string{"ro", "rro"}},
	}
}

// writeFiles makes files with their directories.
func writeFiles(t testing.TB, dir string, files map[string]string) {
	t.Helper()
	for name := range maps.Keys(files) {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(files[name]), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

func security(in Input) *cri.LinuxContainerSecurityContext { return in.Container.Linux.SecurityContext }

func privileged(in Input) {
	in.Sandbox.Linux.SecurityContext.Privileged = true
	security(in).Privileged = true
}
