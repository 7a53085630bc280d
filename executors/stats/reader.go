package stats

import (
	"context"
	"strings"
	"time"

	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/stele-runtime/stele/executors/cgroups"
)

// Config is what a Reader needs to know of the node.
type Config struct {
	Node *cgroups.Node
	// Systemd says that systemd makes the cgroups.
	Systemd bool
	// Layer returns what is known of a container's writable layer, without measuring it.
	Layer func(container string) (Layer, bool)
	// Metrics are the groups of metrics that are made, of Groups.
	Metrics []string
}

// Layer is what a container's writable layer takes.
type Layer struct {
	// Path is a directory on its file system.
	Path          string
	Bytes, Inodes uint64
	// At is when that was measured.
	At time.Time
}

// Reader reads what containers and pods use. Its methods may be called concurrently.
type Reader struct {
	Config
	tree    tree
	rates   rates
	idle    idle
	devices devices
	metrics []metric
}

// tree reads cgroups of one version.
type tree interface {
	// read returns what a cgroup uses, and whether it is there.
	read(cgroup limb, want parts) (usage, bool)
	// refresh reads again what changes of a cgroup in which nothing runs: its limits, and
	// averages that are not zero or not settled.
	refresh(cgroup limb, f *figures, settled bool)
	// procs is the mountpoint of the hierarchy in which processes are counted.
	procs() string
}

// New returns a Reader.
func New(c Config) *Reader {
	r := &Reader{Config: c, rates: rates{last: map[string]sample{}}, idle: idle{last: map[string]*lastRead{}}, devices: newDevices()}
	sizes := pageSizes()
	if c.Node.Layout == cgroups.V2 {
		r.tree = newV2(c.Node, c.Systemd, sizes)
	} else {
		r.tree = newV1(c.Node, sizes)
	}
	r.metrics = ofGroups(c.Metrics)
	return r
}

// Container is a container whose figures are wanted.
type Container struct {
	ID string
	// Cgroup is the path of its cgroup below the mountpoints of the hierarchies; empty if
	// that is not known.
	Cgroup string
	// Since is when its cgroup was made.
	Since time.Time
	// Init is the id of its first process, 0 if there is none.
	Init int
	// Name, Image, Started and Limits are for its metrics.
	Name, Image string
	Started     time.Time
	Limits      *runtimeapi.LinuxContainerResources
}

// Pod is a pod whose figures are wanted.
type Pod struct {
	ID string
	// Cgroup is the path of the pod's own cgroup; empty if it has none.
	Cgroup string
	// Network is the pin of its network namespace; empty if it has the node's.
	Network    string
	Containers []Container
	// Name and Namespace are for its metrics.
	Name, Namespace string
}

// Containers returns what containers use, in their order, without attributes. A container
// without a cgroup has no figures but its writable layer's. It fails if ctx is done.
func (r *Reader) Containers(ctx context.Context, containers []Container) ([]*runtimeapi.ContainerStats, error) {
	answer := make([]*runtimeapi.ContainerStats, len(containers))
	parallel(ctx, len(containers), plain, func(_ *thread, i int) {
		u, there := r.read(&branch{}, containers[i].Cgroup, basic)
		used := u.figures()
		answer[i] = r.message(containers[i], u.at, &used, there)
	})
	return answer, context.Cause(ctx)
}

// message says what a container used until a moment, if its cgroup was there.
func (r *Reader) message(c Container, at time.Time, used *figures, there bool) *runtimeapi.ContainerStats {
	stats := &runtimeapi.ContainerStats{WritableLayer: r.layer(c.ID)}
	if there {
		stats.Cpu = used.cpuMessage(at, r.rates.of(c.Cgroup, at, used.cpu, c.Since))
		stats.Memory, stats.Swap, stats.Io = used.memoryMessage(at), used.swapMessage(at), used.ioMessage(at)
	}
	return stats
}

// read reads a cgroup; see within.
func (r *Reader) read(open *branch, cgroup string, want parts) (u usage, there bool) {
	open.within(cgroup, func(at limb) { u, there = r.tree.read(at, want) })
	return u, there
}

func (r *Reader) layer(container string) *runtimeapi.FilesystemUsage {
	used, is := r.Layer(container)
	if !is {
		return nil
	}
	return &runtimeapi.FilesystemUsage{
		Timestamp:  used.At.UnixNano(),
		FsId:       &runtimeapi.FilesystemIdentifier{Mountpoint: used.Path},
		UsedBytes:  &runtimeapi.UInt64Value{Value: used.Bytes},
		InodesUsed: &runtimeapi.UInt64Value{Value: used.Inodes},
	}
}

// Pods returns what pods use, in their order, with their containers as Containers returns
// them. The figures are those of the pod's own cgroup, which has the memory of the pod's
// volumes too. It fails if ctx is done.
func (r *Reader) Pods(ctx context.Context, pods []Pod) ([]*runtimeapi.LinuxPodSandboxStats, error) {
	answer := make([]*runtimeapi.LinuxPodSandboxStats, len(pods))
	parallel(ctx, len(pods), ownThread, func(t *thread, i int) { answer[i] = r.pod(t, pods[i]) })
	return answer, context.Cause(ctx)
}

func (r *Reader) pod(t *thread, p Pod) *runtimeapi.LinuxPodSandboxStats {
	stats := &runtimeapi.LinuxPodSandboxStats{Network: t.network(p).message()}
	own := newBranch(p.Cgroup)
	defer own.close()
	u, there := r.read(own, p.Cgroup, basic) // before the containers: see idle
	at, read := u.at, &lastRead{since: u.at, pod: u.figures()}
	last := r.idle.unchanged(p.Cgroup, at, &read.pod)
	for _, c := range p.Containers {
		stats.Containers = append(stats.Containers, r.member(own, c, at, last, read))
	}
	if !there {
		return stats
	}
	if last != nil {
		read.since, read.processes = last.since, last.processes
		read.settled = at.Sub(last.since) >= settling
	} else if pids, there := processes(limb{own, ""}.in(r.tree.procs()), below(p)); there {
		read.processes = known(uint64(len(pids)))
	}
	r.idle.keep(p.Cgroup, at, read)
	stats.Cpu = read.pod.cpuMessage(at, r.rates.of(p.Cgroup, at, read.pod.cpu, time.Time{}))
	stats.Memory, stats.Io = read.pod.memoryMessage(at), read.pod.ioMessage(at)
	if read.processes.known {
		stats.Process = &runtimeapi.ProcessUsage{Timestamp: at.UnixNano(), ProcessCount: read.processes.message()}
	}
	return stats
}

// member returns what a container of a pod uses, and adds it to what is read. If last,
// which is nil unless the pod has been idle since then, has the container, only what
// changes even so is read at the moment.
func (r *Reader) member(pod *branch, c Container, at time.Time, last, read *lastRead) *runtimeapi.ContainerStats {
	used, there := last.of(c.Cgroup)
	if there {
		pod.within(c.Cgroup, func(at limb) { r.tree.refresh(at, &used, last.settled) })
	} else {
		var u usage
		u, there = r.read(pod, c.Cgroup, basic)
		at, used = u.at, u.figures()
	}
	if own, is := pod.limb(c.Cgroup); there && is && own.below != "" {
		read.containers = append(read.containers, memberRead{c.Cgroup, used})
	}
	return r.message(c, at, &used, there)
}

// below are the names of the containers' cgroups that are directly below a pod's.
func below(p Pod) (names []string) {
	for _, c := range p.Containers {
		if name, is := strings.CutPrefix(c.Cgroup, p.Cgroup+"/"); is && !strings.Contains(name, "/") {
			names = append(names, name)
		}
	}
	return names
}
