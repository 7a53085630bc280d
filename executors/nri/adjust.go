package nri

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"

	"github.com/containerd/nri/pkg/api"
	"github.com/containerd/nri/pkg/runtime-tools/generate"
	specs "github.com/opencontainers/runtime-spec/specs-go"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// maxAdjustment bounds an adjustment as JSON, in bytes: an event holds it.
const maxAdjustment = 256 << 10

// adjust checks an adjustment and makes it in the container's spec.
func (d *Driver) adjust(c *Container, adjustment *api.ContainerAdjustment, plugins []string) (made Adjustment, err error) {
	adjustment = adjustment.Strip()
	if adjustment == nil {
		return made, nil
	}
	made.Plugins = plugins
	if err = check(adjustment); err == nil {
		made.JSON, err = asJSON(adjustment)
	}
	if err == nil {
		made.Resources, err = d.apply(c, adjustment)
	}
	if err != nil {
		return Adjustment{}, fmt.Errorf("the adjustment by NRI plug-in %s: %w", strings.Join(plugins, ", "), err)
	}
	return made, nil
}

// asJSON returns an adjustment as an event records it.
func asJSON(adjustment *api.ContainerAdjustment) (string, error) {
	spaced, err := protojson.Marshal(adjustment)
	if err != nil {
		return "", err
	}
	// protojson puts spaces at random, so that nobody relies on them.
	var compact bytes.Buffer
	if err := json.Compact(&compact, spaced); err != nil {
		return "", err
	}
	if compact.Len() > maxAdjustment {
		return "", fmt.Errorf("it takes %d bytes as JSON; at most %d can be recorded", compact.Len(), maxAdjustment)
	}
	return compact.String(), nil
}

// check refuses what no runtime could do, and what the library would take for something
// else. What is possible is for the node's administrator to allow.
func check(a *api.ContainerAdjustment) error {
	if err := checkText("", a.ProtoReflect()); err != nil {
		return err
	}
	for i, e := range a.GetEnv() {
		if key := api.ClearRemovalMarker(e.GetKey()); key == "" || strings.Contains(key, "=") {
			return fmt.Errorf("env[%d].key: %q is not the name of a variable", i, e.GetKey())
		}
	}
	for i, m := range a.GetMounts() {
		if to := api.ClearRemovalMarker(m.GetDestination()); !path.IsAbs(to) || slices.Contains(strings.Split(to, "/"), "..") {
			return fmt.Errorf("mounts[%d].destination: %q is not an absolute path without %q", i, m.GetDestination(), "..")
		}
	}
	for i, l := range a.GetRlimits() {
		if l.GetSoft() > l.GetHard() {
			return fmt.Errorf("rlimits[%d]: the soft limit of %s, %d, is above the hard one, %d", i, l.GetType(), l.GetSoft(), l.GetHard())
		}
	}
	for _, hooks := range [][]*api.Hook{
		a.GetHooks().GetPrestart(), a.GetHooks().GetCreateRuntime(), a.GetHooks().GetCreateContainer(), //nolint:staticcheck // plug-ins may still use prestart
		a.GetHooks().GetStartContainer(), a.GetHooks().GetPoststart(), a.GetHooks().GetPoststop(),
	} {
		for _, h := range hooks {
			if !path.IsAbs(h.GetPath()) {
				return fmt.Errorf("hooks: the path %q is not absolute", h.GetPath())
			}
		}
	}
	return checkLinux(a.GetLinux())
}

func checkLinux(l *api.LinuxContainerAdjustment) error {
	for i, d := range l.GetDevices() {
		if p := api.ClearRemovalMarker(d.GetPath()); !path.IsAbs(p) {
			return fmt.Errorf("linux.devices[%d].path: %q is not absolute", i, d.GetPath())
		}
	}
	if p := l.GetCgroupsPath(); slices.Contains(strings.Split(p, "/"), "..") {
		return fmt.Errorf("linux.cgroups_path: %q has %q", p, "..")
	}
	r := l.GetResources()
	if r.GetBlockioClass().GetValue() != "" {
		return fmt.Errorf("linux.resources.blockio_class: %q: this runtime has no classes of block I/O", r.GetBlockioClass().GetValue())
	}
	if limit := r.GetMemory().GetLimit(); limit != nil && limit.GetValue() < -1 {
		return fmt.Errorf("linux.resources.memory.limit: %d is negative", limit.GetValue())
	}
	return nil
}

// checkText refuses a zero byte anywhere: no path, variable or argument can have one.
func checkText(where string, m protoreflect.Message) (err error) {
	text := func(name, s string) {
		if err == nil && strings.ContainsRune(s, 0) {
			err = fmt.Errorf("%s: %q has a zero byte", name, shortened(s))
		}
	}
	value := func(name string, f protoreflect.FieldDescriptor, v protoreflect.Value) {
		switch f.Kind() {
		case protoreflect.StringKind:
			text(name, v.String())
		case protoreflect.MessageKind:
			if inner := checkText(name+".", v.Message()); err == nil {
				err = inner
			}
		default: // numbers and truths
		}
	}
	m.Range(func(f protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		name := where + string(f.Name())
		switch {
		case f.IsMap():
			v.Map().Range(func(key protoreflect.MapKey, v protoreflect.Value) bool {
				text(name, key.String())
				value(name, f.MapValue(), v)
				return err == nil
			})
		case f.IsList():
			for i := range v.List().Len() {
				value(fmt.Sprintf("%s[%d]", name, i), f, v.List().Get(i))
			}
		default:
			value(name, f, v)
		}
		return err == nil
	})
	return err
}

// apply makes an adjustment in the container's spec. It returns the limits that the
// container then has, nil if they are those of its request.
func (d *Driver) apply(c *Container, a *api.ContainerAdjustment) (*cri.LinuxContainerResources, error) {
	spec := c.Spec
	generator := generate.SpecGenerator(newGenerator(spec),
		generate.WithResourceChecker(func(r *specs.LinuxResources) error { return d.config.check(r, c.MinMemory) }),
		generate.WithRdtResolver(func(class string) (*specs.LinuxIntelRdt, error) { return &specs.LinuxIntelRdt{ClosID: class}, nil }),
		generate.WithCDIDeviceInjector(d.config.InjectDevices),
	)
	if err := generator.Adjust(a); err != nil {
		return nil, err
	}
	spec.Process.Rlimits = lastOfEach(spec.Process.Rlimits)
	resources := a.GetLinux().GetResources()
	if err := moreMemory(spec.Linux.Resources, resources.GetMemory(), d.config.Limits); err != nil {
		return nil, err
	}
	changed, err := toCRI(onlyLimits(resources))
	if err != nil {
		return nil, err
	}
	if adj := a.GetLinux().GetOomScoreAdj(); adj != nil {
		changed.OomScoreAdj = adj.GetValue()
	}
	if proto.Size(changed) == 0 {
		return nil, nil
	}
	return merged(c.Config.GetLinux().GetResources(), changed), nil
}

// complete makes the parts of a spec that the generators take for granted.
func complete(spec *specs.Spec) {
	if spec.Process == nil {
		spec.Process = &specs.Process{}
	}
	if spec.Linux == nil {
		spec.Linux = &specs.Linux{}
	}
	if spec.Linux.Resources == nil {
		spec.Linux.Resources = &specs.LinuxResources{}
	}
	spec.Linux.Resources.Unified = maps.Clone(spec.Linux.Resources.Unified) // the request's
}

// check completes what the library set. As elsewhere, limits of swap and huge pages are left
// out where the node cannot set them.
func (c *Config) check(r *specs.LinuxResources, minMemory int64) error {
	if r == nil {
		return nil
	}
	l := c.Limits
	const tooLow = "%d is too low to start a container with this runtime, which takes %d bytes"
	if m := r.Memory; m != nil {
		if m.Limit != nil && *m.Limit > 0 && *m.Limit < minMemory {
			return fmt.Errorf("linux.resources.memory.limit: "+tooLow, *m.Limit, minMemory)
		}
		if !l.Swap {
			m.Swap = nil
		}
	}
	if !l.Hugetlb {
		r.HugepageLimits = nil
	}
	if len(r.Unified) > 0 && !l.CgroupV2 {
		return errors.New("linux.resources.unified: needs cgroup v2")
	}
	// The runtime writes these files last, so that they count, and not the limit.
	if limit, has := c.MemoryMax(r.Unified); has && limit < minMemory {
		return fmt.Errorf("linux.resources.unified[memory.max]: "+tooLow, limit, minMemory)
	}
	return nil
}

// moreMemory sets the limits of memory that the library's generator leaves out.
func moreMemory(to *specs.LinuxResources, from *api.LinuxMemory, l Limits) error {
	if from == nil {
		return nil
	}
	if to.Memory == nil {
		to.Memory = &specs.LinuxMemory{}
	}
	m := to.Memory
	if from.GetReservation() != nil {
		m.Reservation = from.GetReservation().Get()
	}
	if from.GetSwap() != nil && l.Swap {
		m.Swap = from.GetSwap().Get()
	}
	if from.GetSwappiness() != nil {
		m.Swappiness = from.GetSwappiness().Get()
	}
	if from.GetDisableOomKiller() != nil {
		m.DisableOOMKiller = from.GetDisableOomKiller().Get()
	}
	if from.GetKernel() != nil || from.GetKernelTcp() != nil || from.GetUseHierarchy() != nil {
		return errors.New("linux.resources.memory: kernel, kernel_tcp and use_hierarchy are cgroup v1's, and runtimes ignore them")
	}
	return nil
}

// lastOfEach keeps the last limit of each type: the OCI spec allows one.
func lastOfEach(limits []specs.POSIXRlimit) []specs.POSIXRlimit {
	var kept []specs.POSIXRlimit
	for _, l := range slices.Backward(limits) {
		if !slices.ContainsFunc(kept, func(k specs.POSIXRlimit) bool { return k.Type == l.Type }) {
			kept = append(kept, l)
		}
	}
	slices.Reverse(kept)
	return kept
}

// onlyLimits leaves out what the CRI cannot show.
func onlyLimits(r *api.LinuxResources) *api.LinuxResources {
	if r == nil {
		return nil
	}
	only := &api.LinuxResources{HugepageLimits: r.GetHugepageLimits(), Unified: r.GetUnified()}
	if cpu := r.GetCpu(); cpu != nil {
		only.Cpu = &api.LinuxCPU{Shares: cpu.GetShares(), Quota: cpu.GetQuota(), Period: cpu.GetPeriod(), Cpus: cpu.GetCpus(), Mems: cpu.GetMems()}
	}
	if memory := r.GetMemory(); memory != nil {
		only.Memory = &api.LinuxMemory{Limit: memory.GetLimit(), Swap: memory.GetSwap()}
	}
	return only
}

// toCRI translates limits. It refuses those that the CRI does not have.
func toCRI(r *api.LinuxResources) (*cri.LinuxContainerResources, error) {
	out := &cri.LinuxContainerResources{}
	if r == nil {
		return out, nil
	}
	cpu, memory := r.GetCpu(), r.GetMemory()
	for name, given := range map[string]bool{
		"cpu.realtime_runtime": cpu.GetRealtimeRuntime() != nil, "cpu.realtime_period": cpu.GetRealtimePeriod() != nil,
		"memory.reservation": memory.GetReservation() != nil, "memory.kernel": memory.GetKernel() != nil, "memory.kernel_tcp": memory.GetKernelTcp() != nil,
		"memory.swappiness": memory.GetSwappiness() != nil, "memory.disable_oom_killer": memory.GetDisableOomKiller() != nil,
		"memory.use_hierarchy": memory.GetUseHierarchy() != nil,
		"blockio_class":        r.GetBlockioClass() != nil, "rdt_class": r.GetRdtClass() != nil, "devices": len(r.GetDevices()) > 0, "pids": r.GetPids() != nil,
	} {
		if given {
			return nil, fmt.Errorf("linux.resources.%s: cannot be updated", name)
		}
	}
	out.CpuShares, out.CpuPeriod = int64(cpu.GetShares().GetValue()), int64(cpu.GetPeriod().GetValue())
	out.CpuQuota, out.CpusetCpus, out.CpusetMems = cpu.GetQuota().GetValue(), cpu.GetCpus(), cpu.GetMems()
	out.MemoryLimitInBytes, out.MemorySwapLimitInBytes = memory.GetLimit().GetValue(), memory.GetSwap().GetValue()
	for _, h := range r.GetHugepageLimits() {
		out.HugepageLimits = append(out.HugepageLimits, &cri.HugepageLimit{PageSize: h.GetPageSize(), Limit: h.GetLimit()})
	}
	out.Unified = maps.Clone(r.GetUnified())
	return out, nil
}

// merged returns limits with changes, of which zeros are none.
func merged(was, change *cri.LinuxContainerResources) *cri.LinuxContainerResources {
	now := &cri.LinuxContainerResources{}
	if was != nil {
		now = proto.CloneOf(was)
	}
	if change.GetMemoryLimitInBytes() != 0 {
		// A limit of memory is one of memory and swap together, unless that is given.
		now.MemorySwapLimitInBytes = 0
	}
	var replaced []*cri.HugepageLimit
	for _, h := range now.GetHugepageLimits() {
		if !slices.ContainsFunc(change.GetHugepageLimits(), func(c *cri.HugepageLimit) bool { return c.GetPageSize() == h.GetPageSize() }) {
			replaced = append(replaced, h)
		}
	}
	now.HugepageLimits = replaced
	proto.Merge(now, change) // zeros are not merged, lists are appended, maps are joined
	return now
}
