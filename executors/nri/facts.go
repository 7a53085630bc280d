package nri

import (
	"cmp"
	"maps"
	"time"

	"github.com/containerd/nri/pkg/api"
	specs "github.com/opencontainers/runtime-spec/specs-go"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// Pod is what plug-ins get to know of a pod.
type Pod struct {
	ID, Handler string
	Config      *cri.PodSandboxConfig
	// IPs are the pod's addresses. A hook on a container leaves them out: the driver
	// remembers them.
	IPs []string
	// Namespaces are the pod's own, with the paths at which they are pinned.
	Namespaces []specs.LinuxNamespace
	// PID is the process that holds the shared PID namespace; 0 if there is none.
	PID int
}

func (p *Pod) toNRI() *api.PodSandbox {
	linux := p.Config.GetLinux()
	return &api.PodSandbox{
		Id: p.ID, Name: p.Config.GetMetadata().GetName(), Uid: p.Config.GetMetadata().GetUid(),
		Namespace: p.Config.GetMetadata().GetNamespace(),
		Labels:    maps.Clone(p.Config.GetLabels()), Annotations: maps.Clone(p.Config.GetAnnotations()),
		RuntimeHandler: p.Handler, Pid: uint32(p.PID), Ips: p.IPs,
		Linux: &api.LinuxPodSandbox{
			PodOverhead: fromCRI(linux.GetOverhead()), PodResources: fromCRI(linux.GetResources()),
			CgroupParent: linux.GetCgroupParent(), Namespaces: api.FromOCILinuxNamespaces(p.Namespaces),
		},
	}
}

// Container is what plug-ins get to know of a container.
type Container struct {
	ID, PodID string
	Config    *cri.ContainerConfig
	// ImageID is the image's id in the store.
	ImageID string
	State   State
	// PID is the container's first process, 0 if there is none.
	PID                              int
	CreatedAt, StartedAt, FinishedAt time.Time
	ExitCode                         int
	Reason, Message                  string
	// MinMemory is the least limit of memory that the runtime starts a container with.
	MinMemory int64
	// Spec is what the container is, or is to be, made from; nil if it is gone.
	Spec *specs.Spec
}

// State is where a container is in its life, as NRI has it.
type State = api.ContainerState

// The states of a container.
const (
	Unknown = api.ContainerState_CONTAINER_UNKNOWN
	Created = api.ContainerState_CONTAINER_CREATED
	Running = api.ContainerState_CONTAINER_RUNNING
	Stopped = api.ContainerState_CONTAINER_STOPPED
)

func (c *Container) toNRI() *api.Container {
	image := c.Config.GetImage()
	out := &api.Container{
		Id: c.ID, PodSandboxId: c.PodID, Name: c.Config.GetMetadata().GetName(), State: c.State,
		Labels: maps.Clone(c.Config.GetLabels()), Annotations: maps.Clone(c.Config.GetAnnotations()),
		Pid: uint32(c.PID), CreatedAt: nanoseconds(c.CreatedAt), StartedAt: nanoseconds(c.StartedAt),
		FinishedAt: nanoseconds(c.FinishedAt), ExitCode: int32(c.ExitCode), StatusReason: c.Reason, StatusMessage: c.Message,
		Image: &api.Image{
			Name:   cmp.Or(image.GetUserSpecifiedImage(), image.GetImage()),
			Digest: image.GetImage(), ConfigDigest: c.ImageID,
		},
	}
	if c.Spec != nil {
		describe(out, c.Spec)
	}
	if out.Linux == nil {
		out.Linux = &api.LinuxContainer{}
	}
	out.Linux.SeccompProfile = seccompProfile(c.Config.GetLinux().GetSecurityContext())
	return out
}

// describe adds what the OCI spec says.
func describe(out *api.Container, spec *specs.Spec) {
	if len(spec.Annotations) > 0 {
		annotations := maps.Clone(spec.Annotations)
		maps.Copy(annotations, out.GetAnnotations())
		out.Annotations = annotations
	}
	out.Mounts, out.Hooks = api.FromOCIMounts(spec.Mounts), api.FromOCIHooks(spec.Hooks)
	if linux := spec.Linux; linux != nil {
		out.Linux = &api.LinuxContainer{
			Namespaces: api.FromOCILinuxNamespaces(linux.Namespaces), Devices: api.FromOCILinuxDevices(linux.Devices),
			Resources: api.FromOCILinuxResources(linux.Resources, spec.Annotations), CgroupsPath: linux.CgroupsPath,
			Sysctl: maps.Clone(linux.Sysctl), NetDevices: api.FromOCILinuxNetDevices(linux.NetDevices),
		}
		if linux.Seccomp != nil {
			out.Linux.SeccompPolicy = api.FromOCILinuxSeccomp(linux.Seccomp)
		}
		if rdt := linux.IntelRdt; rdt != nil {
			out.Linux.Rdt = &api.LinuxRdt{
				ClosId: api.String(rdt.ClosID), Schemata: api.RepeatedString(rdt.Schemata), EnableMonitoring: api.Bool(rdt.EnableMonitoring),
			}
		}
	}
	process := spec.Process
	if process == nil {
		return
	}
	out.Args, out.Env = api.DupStringSlice(process.Args), api.DupStringSlice(process.Env)
	out.User = &api.User{Uid: process.User.UID, Gid: process.User.GID, AdditionalGids: process.User.AdditionalGids}
	for _, limit := range process.Rlimits {
		out.Rlimits = append(out.Rlimits, &api.POSIXRlimit{Type: limit.Type, Hard: limit.Hard, Soft: limit.Soft})
	}
	if out.Linux != nil {
		out.Linux.OomScoreAdj, out.Linux.IoPriority = api.Int(process.OOMScoreAdj), api.FromOCILinuxIOPriority(process.IOPriority)
		if process.Scheduler != nil {
			out.Linux.Scheduler = api.FromOCILinuxScheduler(process.Scheduler)
		}
	}
}

// seccompProfile is the profile that the pod asked for; the validator goes by it.
func seccompProfile(of *cri.LinuxContainerSecurityContext) *api.SecurityProfile {
	profile := of.GetSeccomp()
	switch {
	case of.GetPrivileged(), profile == nil, profile.GetProfileType() == cri.SecurityProfile_Unconfined:
		return &api.SecurityProfile{ProfileType: api.SecurityProfile_UNCONFINED}
	case profile.GetProfileType() == cri.SecurityProfile_Localhost:
		return &api.SecurityProfile{ProfileType: api.SecurityProfile_LOCALHOST, LocalhostRef: profile.GetLocalhostRef()}
	}
	return &api.SecurityProfile{ProfileType: api.SecurityProfile_RUNTIME_DEFAULT}
}

// fromCRI translates limits. In the CRI 0 means not given.
func fromCRI(r *cri.LinuxContainerResources) *api.LinuxResources {
	if r == nil {
		return nil
	}
	out := &api.LinuxResources{
		Cpu:     &api.LinuxCPU{Cpus: r.GetCpusetCpus(), Mems: r.GetCpusetMems()},
		Memory:  &api.LinuxMemory{},
		Unified: maps.Clone(r.GetUnified()),
	}
	if shares := r.GetCpuShares(); shares > 0 {
		out.Cpu.Shares = api.UInt64(uint64(shares))
	}
	if period := r.GetCpuPeriod(); period > 0 {
		out.Cpu.Period = api.UInt64(uint64(period))
	}
	if quota := r.GetCpuQuota(); quota != 0 {
		out.Cpu.Quota = api.Int64(quota)
	}
	if limit := r.GetMemoryLimitInBytes(); limit != 0 {
		out.Memory.Limit = api.Int64(limit)
	}
	if swap := r.GetMemorySwapLimitInBytes(); swap != 0 {
		out.Memory.Swap = api.Int64(swap)
	}
	for _, h := range r.GetHugepageLimits() {
		out.HugepageLimits = append(out.HugepageLimits, &api.HugepageLimit{PageSize: h.GetPageSize(), Limit: h.GetLimit()})
	}
	return out
}

func nanoseconds(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixNano()
}
