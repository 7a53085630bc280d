package spec

import (
	imagespec "github.com/opencontainers/image-spec/specs-go/v1"
	specs "github.com/opencontainers/runtime-spec/specs-go"
	"github.com/opencontainers/runtime-spec/specs-go/features"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/stele-runtime/stele/executors/spec/confine"
)

// Input is what a container is planned from, beside the Answers to its Questions.
type Input struct {
	SandboxID, ContainerID string
	// Sandbox and Container are the CRI's messages, as Effective returns them.
	Sandbox   *cri.PodSandboxConfig
	Container *cri.ContainerConfig
	// Image is the OCI image config; nil counts as empty.
	Image *imagespec.Image
	// ImageName is the reference that the user asked for. It is informative.
	ImageName string
	// ImageMounts are the directories of the image mounts among Container.Mounts,
	// by their index.
	ImageMounts map[int]string
	// Rootfs is where the container's root file system is mounted, writable.
	Rootfs string
	// VolumesDir gets a directory for each volume of the image.
	VolumesDir string
	Namespaces Namespaces
	Files      Files
	// CgroupsPath is linux.cgroupsPath, as package cgroups makes it.
	CgroupsPath string
	Host        *HostFacts
	// Features is what the runtime reports; nil if it has no such command.
	Features *features.Features
	Options  Options
	// Seccomp is the profile that confine.AskedArtifact asks for.
	Seccomp *confine.Artifact
}

// Namespaces are the paths of namespaces to join. Which of them is joined
// follows from the CRI's namespace options; an empty one that is needed is an
// error. UTS is joined if it is there.
type Namespaces struct {
	Net, IPC, UTS string
	// User is the pod's own user namespace; empty if it has the node's.
	User string
	// PID is the namespace of the pod's holder, or for the mode TARGET that of
	// the target's process.
	PID string
}

// ImageVolumes is a way with the volumes that images declare. The names are CRI-O's.
type ImageVolumes string

const (
	// BindImageVolumes gives each a directory of the container's own, with a copy of what the
	// image has there. It is the default.
	BindImageVolumes ImageVolumes = "bind"
	// MakeImageVolumes makes each a directory in the root file system.
	MakeImageVolumes ImageVolumes = "mkdir"
	// IgnoreImageVolumes does nothing.
	IgnoreImageVolumes ImageVolumes = "ignore"
)

// DefaultShmSize is the size of a pod's /dev/shm, in bytes.
const DefaultShmSize = 64 << 20

// Files are the pod's files on the node, as package podfiles makes them. An empty
// path is not mounted.
type Files struct {
	ResolvConf, Hostname, Hosts string
	// ContainerEnv is an empty file by which programs know that they are in a container.
	ContainerEnv string
	// Shm is the tmpfs that the pod's containers see as /dev/shm.
	Shm string
}

// Options is what the node's administrator decides for a runtime handler. The
// zero value is the default.
type Options struct {
	confine.Options
	// Env, as KEY=VALUE, comes before the image's.
	Env []string
	// MinMemory, in bytes, is what the runtime needs to start a container; 0 if that
	// is not known.
	MinMemory int64
	// Rlimits of every container; without any, it has the daemon's.
	Rlimits []specs.POSIXRlimit
	// PidsLimit is how many processes and threads the container may have; 0 or less for no limit.
	PidsLimit int64
	// DefaultAnnotations reach the runtime; those of pods replace them.
	DefaultAnnotations map[string]string
	// ShmSize is the size of /dev/shm, in bytes; 0 means DefaultShmSize.
	ShmSize int64
	// ImageVolumes says what becomes of volumes that images declare.
	ImageVolumes ImageVolumes
	// AbsentMountSources are paths of the node that are not made if a pod mounts them and
	// nothing is there: as a directory they would break the node.
	AbsentMountSources []string
	// HostRoot is where the root directory of the node is for whoever mounts, if not "/": the
	// paths that pods mount are resolved below it.
	HostRoot string
	// DefaultMounts are copied into every container, if they are there.
	DefaultMounts []DefaultMount
	// Timezone is the file of the node's time zone database that every container gets as
	// /etc/localtime; empty leaves the image's.
	Timezone string
	// ReadOnly makes the root of every container read-only, with a tmpfs on /run, /tmp and
	// /var/tmp.
	ReadOnly bool
	// Devices are in every container.
	Devices []*cri.Device
	// AllowedDevices are the paths that a pod's annotation may name.
	AllowedDevices []string
	// DevicesFollowUser gives devices to the container's user and group.
	DevicesFollowUser bool
	// Annotations are the exact keys of pod and container annotations that reach
	// the runtime. All others don't: a runtime takes orders from some.
	Annotations []string
	// ForbidPrivileged refuses privileged containers.
	ForbidPrivileged bool
	// NoHostDevices keeps the node's devices from privileged containers, which
	// then see and may use those that they name.
	NoHostDevices bool
	// AllowAllDevices lets them use every device, whether they see it or not.
	AllowAllDevices bool
}

// HostFacts are what the node and this process can give a container. Package
// facts finds them once, at start.
type HostFacts struct {
	confine.Node
	// CgroupV2: every controller is on v2.
	CgroupV2 bool
	// Hugetlb: there is a controller for huge pages.
	Hugetlb bool
	// Pids: there is a controller for the number of processes.
	Pids bool
	// SwapLimit: swap can be limited.
	SwapLimit bool
	// RecursiveReadOnly: a tree of mounts can be made read-only at once.
	RecursiveReadOnly bool
	// MinOOMScoreAdj is the least oom_score_adj that this process may set.
	MinOOMScoreAdj int
	// MaxRlimits are the highest hard limits that this process may set, by the
	// OCI spec's names; a limit that isn't there has no bound.
	MaxRlimits map[string]uint64
}
