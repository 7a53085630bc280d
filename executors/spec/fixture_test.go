package spec

import (
	"maps"
	"runtime"

	imagespec "github.com/opencontainers/image-spec/specs-go/v1"
	specs "github.com/opencontainers/runtime-spec/specs-go"
	"github.com/opencontainers/runtime-spec/specs-go/features"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/stele-runtime/stele/executors/spec/confine"
)

const testPasswd = `root:x:0:0:root:/root:/bin/sh
# a comment, and a broken line
broken
daemon:x:1:1::/:
app:x:1000:1000::/home/app:/bin/sh
other:x:1001:2000::/:
member:x:1003:1003::/:
huge:x:4294967296:0::/:
negative:x:-1:0::/:
badgroup:x:1002:99999999999::/:
1000:x:0:0:a name that looks like an id:/:
`

const testGroup = `root:x:0:
wheel:x:10:root,app
audio:x:29:app, other
staff:x:2000:
directory:x:3000000000:member
hugegroup:x:4294967296:badmember
badmember:x:5:
`

// scene is a container to plan, on a node that is made up.
type scene struct {
	Input
	// node is what the node says of itself, where it isn't ordinary: elsewhere host
	// paths are there, and are what they are called.
	node Answers
}

// tmp is where the container's own directories are.
const tmp = "/run/tmp"

// fixture returns an ordinary container of an ordinary pod, on a node with
// everything.
func fixture() *scene {
	return &scene{
		Input: Input{
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
			Rootfs:      tmp + "/rootfs",
			VolumesDir:  tmp + "/volumes",
			Namespaces:  Namespaces{Net: "/run/ns/net", IPC: "/run/ns/ipc", UTS: "/run/ns/uts", PID: "/proc/42/ns/pid"},
			Files:       Files{ResolvConf: "/run/pod/resolv.conf", Hostname: "/run/pod/hostname", Hosts: "/run/pod/hosts", Shm: "/run/pod/shm"},
			CgroupsPath: "/stele/pod1/stele-c1",
			Host: &HostFacts{
				Node: confine.Node{
					Arch:         runtime.GOARCH,
					Capabilities: append(confine.DefaultCapabilities(), "CAP_NET_ADMIN", "CAP_NET_RAW", "CAP_SYS_ADMIN"),
					Seccomp:      true,
				},
				CgroupV2: true, Hugetlb: true, SwapLimit: true, RecursiveReadOnly: true,
				MinOOMScoreAdj: -1000,
			},
			Features: &features.Features{MountOptions: []string{"ro", "rro"}},
		},
		node: Answers{Hostname: Text{Value: "node-1"}, Passwd: File{Data: []byte(testPasswd)}, Group: File{Data: []byte(testGroup)}},
	}
}

// plan asks the node and plans.
func (s *scene) plan() (Plan, error) {
	q, err := Ask(s.Input)
	if err != nil {
		return Plan{}, err
	}
	return Container(s.Input, s.answer(q))
}

// container returns the spec of the plan.
func (s *scene) container() (*specs.Spec, error) {
	plan, err := s.plan()
	return plan.Spec, err
}

func (s *scene) answer(q Questions) Answers {
	found := s.node
	found.HostPaths = map[string]HostPath{}
	for _, p := range q.HostPaths {
		found.HostPaths[p.Path] = HostPath{Path: p.Path}
	}
	maps.Copy(found.HostPaths, s.node.HostPaths)
	if found.WorkingDir == (Place{}) {
		found.WorkingDir.Path = q.WorkingDir
	}
	return found
}

// ownUsers gives the pod a user namespace, and a runtime that maps the ids of mounts.
func ownUsers(s *scene) *cri.UserNamespace {
	users := &cri.UserNamespace{
		Mode: cri.NamespaceMode_POD,
		Uids: []*cri.IDMapping{{HostId: 200000, Length: 65536}}, Gids: []*cri.IDMapping{{HostId: 300000, Length: 65536}},
	}
	s.Sandbox.Linux.SecurityContext.NamespaceOptions = &cri.NamespaceOption{Pid: cri.NamespaceMode_CONTAINER, UsernsOptions: users}
	s.Namespaces.User = "/run/ns/user"
	yes := true
	s.Features.Linux = &features.Linux{MountExtensions: &features.MountExtensions{IDMap: &features.IDMap{Enabled: &yes}}}
	return users
}

func security(s *scene) *cri.LinuxContainerSecurityContext {
	return s.Container.Linux.SecurityContext
}

func privileged(s *scene) {
	s.Sandbox.Linux.SecurityContext.Privileged = true
	security(s).Privileged = true
}
