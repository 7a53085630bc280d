package stats

import (
	"context"
	"slices"
	"time"

	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// networkOf is the name of the container to which a pod's network is ascribed: rules and
// dashboards know it from the pause containers of other runtimes.
const networkOf = "POD"

// reading is all that the metrics of a container, or of a pod, are made of. What does not
// apply is not known.
type reading struct {
	usage
	seen                      number
	processes, files, sockets number
	openFiles                 number
	spec                      specification
	fs                        fileSystem
	layerBytes                number
	layerAt                   time.Time
	interfaces                []interfaceUsage
	devices                   *devices
	pids                      []int
}

// specification is what was asked for.
type specification struct {
	started                                number
	cpuPeriod, cpuQuota, cpuShares         number
	memoryLimit, memoryReserved, swapLimit number
}

// defaultCPUPeriod is the kernel's, in microseconds.
const defaultCPUPeriod = 100_000

func specificationOf(c Container) (s specification) {
	limits := c.Limits
	s.cpuPeriod = known(defaultCPUPeriod)
	if period := limits.GetCpuPeriod(); period > 0 {
		s.cpuPeriod = known(uint64(period))
	}
	if quota := limits.GetCpuQuota(); quota > 0 {
		s.cpuQuota = known(uint64(quota))
	}
	s.cpuShares = positive(limits.GetCpuShares())
	s.memoryLimit = positive(limits.GetMemoryLimitInBytes())
	s.swapLimit = positive(limits.GetMemorySwapLimitInBytes())
	s.memoryReserved = known(0)
	if reserved := parse([]byte(limits.GetUnified()["memory.min"])); reserved.known {
		s.memoryReserved = noneIfUnlimited(reserved)
	}
	if !c.Started.IsZero() {
		s.started = positive(c.Started.Unix())
	}
	return s
}

// positive is a number that is 0 if there is no limit.
func positive(value int64) number { return noneIfUnlimited(known(uint64(max(value, 0)))) }

func (r *reading) nameOf(disk diskUsage) string { return r.devices.name(disk.major, disk.minor) }

// transfers puts the bytes, or the number, of an operation by device.
func (r *reading) transfers(operation string, bytes bool, put put) {
	for _, disk := range r.disks {
		for _, o := range disk.operations {
			if o.name != operation {
				continue
			}
			if bytes {
				put(o.bytes, r.nameOf(disk))
			} else {
				put(o.count, r.nameOf(disk))
			}
		}
	}
}

// Descriptors describe the metrics of the configured groups.
func (r *Reader) Descriptors() (all []*runtimeapi.MetricDescriptor) {
	for i := range r.metrics {
		all = append(all, r.metrics[i].descriptor())
	}
	return all
}

// PodMetrics returns the metrics of pods and their containers, in the pods' order. What has
// no cgroup any more is left out. It fails if ctx is done.
func (r *Reader) PodMetrics(ctx context.Context, pods []Pod) ([]*runtimeapi.PodSandboxMetrics, error) {
	want := cpuAndMemory // which tells whether the cgroup is there
	for _, m := range r.metrics {
		want |= partsOf[m.group]
	}
	answer := make([]*runtimeapi.PodSandboxMetrics, len(pods))
	parallel(ctx, len(pods), ownThread, func(t *thread, i int) { answer[i] = r.podMetrics(t, pods[i], want) })
	return answer, context.Cause(ctx)
}

func (r *Reader) podMetrics(t *thread, p Pod, want parts) *runtimeapi.PodSandboxMetrics {
	answer := &runtimeapi.PodSandboxMetrics{PodSandboxId: p.ID}
	own := newBranch(p.Cgroup)
	defer own.close()
	if r.needs("network") {
		through := &reading{interfaces: t.network(p).interfaces}
		answer.Metrics = r.made(answer.Metrics, through, []string{p.Cgroup, p.ID, "", p.Namespace, p.Name, networkOf})
	}
	if of, there := r.reading(own, p.Cgroup, want); there {
		answer.Metrics = r.made(answer.Metrics, of, []string{p.Cgroup, "", "", p.Namespace, p.Name, ""})
	}
	for _, c := range p.Containers {
		of, there := r.containerReading(own, c, want)
		if !there {
			continue
		}
		labels := []string{c.Cgroup, c.ID, c.Image, p.Namespace, p.Name, c.Name}
		answer.ContainerMetrics = append(answer.ContainerMetrics, &runtimeapi.ContainerMetrics{ContainerId: c.ID, Metrics: r.made(nil, of, labels)})
	}
	return answer
}

func (r *Reader) needs(group string) bool {
	return slices.ContainsFunc(r.metrics, func(m metric) bool { return m.group == group })
}

// reading reads a cgroup.
func (r *Reader) reading(open *branch, cgroup string, want parts) (*reading, bool) {
	of, there := &reading{devices: &r.devices}, false
	open.within(cgroup, func(at limb) {
		of.usage, there = r.tree.read(at, want)
		if there && want&tasks != 0 {
			of.pids, _ = processes(at.in(r.tree.procs()), nil)
			of.processes = known(uint64(len(of.pids)))
		}
	})
	of.seen = known(uint64(max(of.at.Unix(), 0)))
	return of, there
}

func (r *Reader) containerReading(pod *branch, c Container, want parts) (*reading, bool) {
	of, there := r.reading(pod, c.Cgroup, want)
	if !there {
		return nil, false
	}
	of.spec = specificationOf(c)
	if want&tasks != 0 {
		of.files, of.sockets = descriptors(of.pids)
		of.openFiles = openFilesLimit(c.Init)
	}
	if layer, is := r.Layer(c.ID); is && r.needs("disk") {
		of.fs = r.devices.fileSystem(layer.Path)
		of.layerBytes, of.layerAt = known(layer.Bytes), layer.At
	}
	return of, true
}

// made appends what the metrics make of a reading. "Timestamp should be 0 if the metric was
// gathered live", says the CRI.
func (r *Reader) made(to []*runtimeapi.Metric, of *reading, labels []string) []*runtimeapi.Metric {
	for i := range r.metrics {
		m := &r.metrics[i]
		m.values(of, func(value number, own ...string) {
			if !value.known {
				return
			}
			made := &runtimeapi.Metric{Name: m.name, MetricType: m.kind, LabelValues: labels, Value: value.message()}
			if len(own) > 0 {
				made.LabelValues = slices.Concat(labels, own)
			}
			if m.name == usageOfLayer {
				made.Timestamp = of.layerAt.UnixNano()
			}
			to = append(to, made)
		})
	}
	return to
}
