package spec

import (
	specs "github.com/opencontainers/runtime-spec/specs-go"

	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/stele-runtime/stele/actors/fault"
	"github.com/stele-runtime/stele/executors/spec/confine"
	"github.com/stele-runtime/stele/executors/spec/userns"
)

// HolderInput is everything that a holder's spec is made from.
type HolderInput struct {
	SandboxID string
	Sandbox   *cri.PodSandboxConfig
	// Rootfs is an empty directory of the sandbox's own.
	Rootfs string
	// Binary is the monitor's, on the node; its subcommand "pause" does nothing
	// but reap.
	Binary string
	// Namespaces of the pod; PID is not used, the holder makes it.
	Namespaces  Namespaces
	CgroupsPath string
	Host        *HostFacts
}

const (
	holderBinary = "/pause"
	// holderMemory, in bytes, is for the runtime's init too, which runs in the
	// same cgroup before it becomes the holder.
	holderMemory = 64 << 20
	holderPids   = 64
	// nobody owns nothing.
	nobody = 65534
)

// Holder returns the runtime spec of the process that holds the PID namespace
// of a pod that shares one: it is the namespace's init, and reaps. It may do
// nothing and sees nothing.
func Holder(in HolderInput) (*specs.Spec, error) {
	list := []specs.LinuxNamespace{{Type: specs.MountNamespace}, {Type: specs.PIDNamespace}}
	users := userns.Of(in.Sandbox)
	for _, ns := range []specs.LinuxNamespace{
		{Type: specs.UserNamespace, Path: in.Namespaces.User},
		{Type: specs.NetworkNamespace, Path: in.Namespaces.Net},
		{Type: specs.IPCNamespace, Path: in.Namespaces.IPC},
		{Type: specs.UTSNamespace, Path: in.Namespaces.UTS},
	} {
		if ns.Path != "" {
			list = append(list, ns)
		}
	}
	annotations, err := podAnnotations(in.SandboxID, in.Sandbox)
	if err != nil {
		return nil, err
	}
	annotations[AnnotationHolder] = "true"
	memory, pids := int64(holderMemory), int64(holderPids)
	// The OOM killer should look elsewhere: the pod dies with the holder.
	adj := max(-998, in.Host.MinOOMScoreAdj)
	s := &specs.Spec{
		Version: ociVersion,
		Root:    &specs.Root{Path: in.Rootfs, Readonly: true},
		Process: &specs.Process{
			Args:            []string{holderBinary, "pause"},
			Cwd:             "/",
			User:            specs.User{UID: nobody, GID: nobody, AdditionalGids: []uint32{nobody}},
			Capabilities:    &specs.LinuxCapabilities{},
			NoNewPrivileges: true,
			OOMScoreAdj:     &adj,
		},
		Mounts: []specs.Mount{
			{Destination: "/proc", Type: "proc", Source: "proc", Options: []string{"nosuid", "noexec", "nodev"}},
			{Destination: "/dev", Type: "tmpfs", Source: "tmpfs", Options: []string{"nosuid", "noexec", "mode=755", "size=64k"}},
			bind(in.Binary, holderBinary, "ro", "rprivate", "nosuid", "nodev"),
		},
		Annotations: annotations,
		Linux: &specs.Linux{
			CgroupsPath: in.CgroupsPath,
			Namespaces:  list,
			Resources: &specs.LinuxResources{
				Devices: []specs.LinuxDeviceCgroup{{Allow: false, Access: "rwm"}},
				Memory:  &specs.LinuxMemory{Limit: &memory},
				Pids:    &specs.LinuxPids{Limit: &pids},
			},
			MaskedPaths:   confine.DefaultMaskedPaths(),
			ReadonlyPaths: confine.DefaultReadonlyPaths(),
		},
	}
	if users != nil {
		s.Linux.UIDMappings, s.Linux.GIDMappings = users.UIDs, users.GIDs
		if _, mapped := users.UID(nobody); !mapped {
			s.Process.User = specs.User{}
		}
	}
	if in.Host.Seccomp {
		if err := confine.HolderSeccomp(&in.Host.Node, s); err != nil {
			return nil, fault.New(fault.Internal, "holder spec", in.SandboxID, "seccomp: %v", err)
		}
	}
	return s, nil
}
