package spec

import (
	"maps"
	"math"
	"slices"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"google.golang.org/protobuf/proto"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/stele-runtime/stele/executors/spec/refusal"
)

// UpdatePlan is all that a change of a container's limits takes.
type UpdatePlan struct {
	// InForce are the CRI's resources with the change.
	InForce *cri.LinuxContainerResources
	// Set is what is to be set; what is nil or empty there stays as it is.
	Set specs.LinuxResources
	// OOMScoreAdj is to be set for the container's processes, unless nil.
	OOMScoreAdj *int
	// MemoryLimit, in bytes, is a limit lower than the one before: more must not be in
	// use. 0 if the limit is not lowered.
	MemoryLimit int64
	// Fields are the request's that ask for something.
	Fields []string
}

// ValidateUpdate refuses what is wrong in a change of a container's limits whatever the
// node is. The error is a FieldError.
func ValidateUpdate(config *cri.ContainerConfig, change *cri.UpdateContainerResourcesRequest) error {
	_, err := updated(config, change)
	return err
}

// ValidateSandboxUpdate refuses what is wrong in a change of what a pod may use as a whole.
// The error is a FieldError.
func ValidateSandboxUpdate(change *cri.UpdatePodSandboxResourcesRequest) error {
	return refusal.First(
		func() error { return checkResources("overhead", change.GetOverhead()) },
		func() error { return checkResources("resources", change.GetResources()) },
	)
}

// Update plans a change of the limits of a container with the configuration that is in
// force. As the CRI says, zero means "not specified", and so unchanged. A new memory limit is at
// least minMemory, in bytes; see Options.
func Update(config *cri.ContainerConfig, change *cri.UpdateContainerResourcesRequest, host *HostFacts, minMemory int64) (UpdatePlan, error) {
	now, err := updated(config, change)
	if err != nil {
		return UpdatePlan{}, err
	}
	asked := change.GetLinux()
	if len(asked.GetUnified()) > 0 && !host.CgroupV2 {
		return UpdatePlan{}, refusal.Unsupported("linux.unified", slices.Sorted(maps.Keys(asked.GetUnified()))[0], "needs cgroup v2")
	}
	if err := checkMinMemory("linux", changedMemory(config.GetLinux().GetResources(), asked), minMemory); err != nil {
		return UpdatePlan{}, err
	}
	plan := UpdatePlan{
		InForce: now, Set: changedLimits(asked, now, host),
		MemoryLimit: lowered(config.GetLinux().GetResources(), asked), Fields: fieldsOf(asked),
	}
	if asked.GetOomScoreAdj() != 0 {
		plan.OOMScoreAdj = oomScoreAdj(now, host)
	}
	return plan, nil
}

// updated returns the resources that are in force with a change.
func updated(config *cri.ContainerConfig, change *cri.UpdateContainerResourcesRequest) (*cri.LinuxContainerResources, error) {
	switch {
	case change.GetWindows() != nil:
		return nil, refusal.Unsupported("windows", nil, "is for another operating system")
	case change.GetLinux() == nil:
		return nil, refusal.Invalid("linux", nil, "is missing")
	}
	err := refusal.First(
		func() error { return checkAnnotations(change.GetAnnotations()) },
		func() error { return checkResources("linux", change.GetLinux()) },
		func() error { return checkCPU("linux", change.GetLinux()) },
	)
	if err != nil {
		return nil, err
	}
	now := laidOver(config.GetLinux().GetResources(), change.GetLinux())
	return now, checkResources("linux", now)
}

// maxAnnotations bounds the annotations of a request, in bytes. It is Kubernetes' own.
const maxAnnotations = 256 << 10

func checkAnnotations(annotations map[string]string) error {
	size := 0
	for key, value := range annotations {
		size += len(key) + len(value)
	}
	if size > maxAnnotations {
		return refusal.Invalid("annotations", size, "bytes are more than %d", maxAnnotations)
	}
	return nil
}

// laidOver returns resources with a change of some of them. Swap stays what it was if
// only the memory limit changes: the CRI's limit of both moves with it.
func laidOver(before, change *cri.LinuxContainerResources) *cri.LinuxContainerResources {
	now := &cri.LinuxContainerResources{}
	if before != nil {
		now = proto.CloneOf(before)
	}
	for _, n := range []struct {
		now  *int64
		then int64
	}{
		{&now.CpuPeriod, change.GetCpuPeriod()}, {&now.CpuQuota, change.GetCpuQuota()}, {&now.CpuShares, change.GetCpuShares()},
		{&now.MemoryLimitInBytes, change.GetMemoryLimitInBytes()}, {&now.OomScoreAdj, change.GetOomScoreAdj()},
	} {
		if n.then != 0 {
			*n.now = n.then
		}
	}
	if cpus := change.GetCpusetCpus(); cpus != "" {
		now.CpusetCpus = cpus
	}
	if mems := change.GetCpusetMems(); mems != "" {
		now.CpusetMems = mems
	}
	now.MemorySwapLimitInBytes = swapWith(before, change)
	for _, h := range change.GetHugepageLimits() {
		now.HugepageLimits = slices.DeleteFunc(now.HugepageLimits, func(was *cri.HugepageLimit) bool { return was.GetPageSize() == h.GetPageSize() })
		now.HugepageLimits = append(now.HugepageLimits, &cri.HugepageLimit{PageSize: h.GetPageSize(), Limit: h.GetLimit()})
	}
	// What is set by a field now was set by a file of cgroup v2 before.
	for _, file := range filesOf(change) {
		delete(now.Unified, file)
	}
	if len(change.GetUnified()) > 0 && now.Unified == nil {
		now.Unified = map[string]string{}
	}
	maps.Copy(now.Unified, change.GetUnified())
	return now
}

// swapWith returns the limit of memory and swap together with a change; 0 if there is
// none of its own.
func swapWith(before, change *cri.LinuxContainerResources) int64 {
	was, limit, limitWas := before.GetMemorySwapLimitInBytes(), change.GetMemoryLimitInBytes(), before.GetMemoryLimitInBytes()
	switch {
	case change.GetMemorySwapLimitInBytes() != 0:
		return change.GetMemorySwapLimitInBytes()
	case limit == 0 || was <= 0:
		return was
	case limit < 0:
		return limit
	case limitWas > 0 && was-limitWas <= math.MaxInt64-limit:
		return was - limitWas + limit
	}
	return was
}

// filesOf names the files of cgroup v2 that a change sets by fields of their own.
func filesOf(change *cri.LinuxContainerResources) []string {
	var files []string
	for _, f := range []struct {
		set   bool
		files []string
	}{
		{change.GetCpuPeriod() != 0 || change.GetCpuQuota() != 0, []string{"cpu.max"}},
		{change.GetCpuShares() != 0, []string{"cpu.weight", "cpu.weight.nice"}},
		{change.GetMemoryLimitInBytes() != 0, []string{fileMemoryMax}},
		{change.GetMemorySwapLimitInBytes() != 0, []string{fileSwapMax}},
		{change.GetCpusetCpus() != "", []string{"cpuset.cpus"}},
		{change.GetCpusetMems() != "", []string{"cpuset.mems"}},
	} {
		if f.set {
			files = append(files, f.files...)
		}
	}
	for _, h := range change.GetHugepageLimits() {
		files = append(files, "hugetlb."+h.GetPageSize()+".max")
	}
	return files
}

const (
	fileMemoryMax = "memory.max"
	fileSwapMax   = "memory.swap.max"
)

// changedLimits returns the limits that a change sets, and those that the kernel or the
// runtime takes only together with them.
func changedLimits(change, now *cri.LinuxContainerResources, host *HostFacts) specs.LinuxResources {
	part := &cri.LinuxContainerResources{
		CpuShares: change.GetCpuShares(), CpusetCpus: change.GetCpusetCpus(), CpusetMems: change.GetCpusetMems(),
		HugepageLimits: change.GetHugepageLimits(), Unified: maps.Clone(change.GetUnified()),
	}
	if change.GetCpuPeriod() != 0 || change.GetCpuQuota() != 0 {
		part.CpuPeriod, part.CpuQuota = now.GetCpuPeriod(), now.GetCpuQuota()
	}
	if change.GetMemoryLimitInBytes() != 0 || change.GetMemorySwapLimitInBytes() != 0 {
		part.MemoryLimitInBytes, part.MemorySwapLimitInBytes = now.GetMemoryLimitInBytes(), now.GetMemorySwapLimitInBytes()
		// The files have the last word, as they had at the creation.
		for _, file := range []string{fileMemoryMax, fileSwapMax} {
			if value, is := now.GetUnified()[file]; is {
				if part.Unified == nil {
					part.Unified = map[string]string{}
				}
				part.Unified[file] = value
			}
		}
	}
	set := limits(part, host)
	if set.Memory != nil {
		// On v2 the kernel would kill for a limit below what is used.
		check := true
		set.Memory.CheckBeforeUpdate = &check
	}
	return set
}

// changedMemory returns the memory limits of a change that are not in force already: the kubelet
// repeats those that stay.
func changedMemory(before, change *cri.LinuxContainerResources) *cri.LinuxContainerResources {
	changed := &cri.LinuxContainerResources{}
	if limit := change.GetMemoryLimitInBytes(); limit != before.GetMemoryLimitInBytes() {
		changed.MemoryLimitInBytes = limit
	}
	if max, is := change.GetUnified()[fileMemoryMax]; is && max != before.GetUnified()[fileMemoryMax] {
		changed.Unified = map[string]string{fileMemoryMax: max}
	}
	return changed
}

// lowered returns the memory limit of a change that is lower than the one before; 0 if
// there is none.
func lowered(before, change *cri.LinuxContainerResources) int64 {
	was, limit := before.GetMemoryLimitInBytes(), change.GetMemoryLimitInBytes()
	if max, is := fileSize(change.GetUnified(), fileMemoryMax); is {
		was, limit = 0, max // What was in force before may be in either place.
	}
	if limit > 0 && (was <= 0 || limit < was || before.GetUnified()[fileMemoryMax] != "") {
		return limit
	}
	return 0
}

// fieldsOf names the fields of a change that ask for something.
func fieldsOf(change *cri.LinuxContainerResources) []string {
	var fields []string
	for _, f := range []struct {
		name string
		set  bool
	}{
		{"cpu_period", change.GetCpuPeriod() != 0}, {"cpu_quota", change.GetCpuQuota() != 0}, {"cpu_shares", change.GetCpuShares() != 0},
		{"memory_limit_in_bytes", change.GetMemoryLimitInBytes() != 0}, {"memory_swap_limit_in_bytes", change.GetMemorySwapLimitInBytes() != 0},
		{"oom_score_adj", change.GetOomScoreAdj() != 0}, {"cpuset_cpus", change.GetCpusetCpus() != ""}, {"cpuset_mems", change.GetCpusetMems() != ""},
		{"hugepage_limits", len(change.GetHugepageLimits()) > 0}, {"unified", len(change.GetUnified()) > 0},
	} {
		if f.set {
			fields = append(fields, "linux."+f.name)
		}
	}
	return fields
}
