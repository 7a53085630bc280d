package nri

import (
	"strings"
	"testing"

	"github.com/containerd/nri/pkg/api"
	"github.com/google/go-cmp/cmp"
	specs "github.com/opencontainers/runtime-spec/specs-go"
	"google.golang.org/protobuf/testing/protocmp"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/stele-runtime/stele/executors/spec"
)

func TestMerged(t *testing.T) {
	was := &cri.LinuxContainerResources{
		CpuShares: 2, CpuQuota: 3, MemoryLimitInBytes: 4, MemorySwapLimitInBytes: 5, CpusetCpus: "0-3", OomScoreAdj: 6,
		HugepageLimits: []*cri.HugepageLimit{{PageSize: "2MB", Limit: 1}, {PageSize: "1GB", Limit: 1}}, Unified: map[string]string{"a": "1", "b": "2"},
	}
	change := &cri.LinuxContainerResources{
		CpuShares: 20, MemoryLimitInBytes: 40, HugepageLimits: []*cri.HugepageLimit{{PageSize: "2MB", Limit: 9}}, Unified: map[string]string{"b": "3"},
	}
	want := &cri.LinuxContainerResources{
		CpuShares: 20, CpuQuota: 3, MemoryLimitInBytes: 40, CpusetCpus: "0-3", OomScoreAdj: 6,
		HugepageLimits: []*cri.HugepageLimit{{PageSize: "1GB", Limit: 1}, {PageSize: "2MB", Limit: 9}}, Unified: map[string]string{"a": "1", "b": "3"},
	}
	if diff := cmp.Diff(want, merged(was, change), protocmp.Transform()); diff != "" {
		t.Error(diff)
	}
	if was.CpuShares != 2 || len(was.Unified) != 2 || was.Unified["b"] != "2" {
		t.Errorf("the request was changed: %v", was)
	}
	if diff := cmp.Diff(change, merged(nil, change), protocmp.Transform()); diff != "" {
		t.Error(diff)
	}
}

// Limits go to plug-ins and back without loss.
func TestResourcesThereAndBack(t *testing.T) {
	all := &cri.LinuxContainerResources{
		CpuPeriod: 1, CpuQuota: -1, CpuShares: 3, MemoryLimitInBytes: 4, MemorySwapLimitInBytes: -1, CpusetCpus: "0", CpusetMems: "1",
		HugepageLimits: []*cri.HugepageLimit{{PageSize: "2MB", Limit: 1}}, Unified: map[string]string{"a": "1"},
	}
	for _, r := range []*cri.LinuxContainerResources{all, {}} {
		back, err := toCRI(fromCRI(r))
		if diff := cmp.Diff(r, back, protocmp.Transform()); err != nil || diff != "" {
			t.Errorf("%v\n%s", err, diff)
		}
	}
}

func TestUpdatesThatCannotBe(t *testing.T) {
	for field, r := range map[string]*api.LinuxResources{
		"memory.reservation": {Memory: &api.LinuxMemory{Reservation: api.Int64(int64(1))}},
		"rdt_class":          {RdtClass: api.String("gold")},
		"pids":               {Pids: &api.LinuxPids{Limit: 1}},
	} {
		if _, err := toCRI(r); err == nil || !strings.Contains(err.Error(), "linux.resources."+field) {
			t.Errorf("%s: %v", field, err)
		}
	}
}

// A plug-in can set no lower memory limit than the runtime takes, by whatever name.
func TestLeastMemory(t *testing.T) {
	d := &Driver{config: Config{Limits: Limits{CgroupV2: true}, MemoryMax: spec.MemoryMax}}
	for what, c := range map[string]struct {
		limit   int64
		unified string
		refused string
	}{
		"enough":          {limit: 8 << 20, unified: "8M"},
		"none":            {unified: "max"},
		"too little":      {limit: 1 << 20, refused: "linux.resources.memory.limit: 1048576 is too low"},
		"by the file":     {unified: "1M", refused: "linux.resources.unified[memory.max]: 1048576 is too low"},
		"the file counts": {limit: 8 << 20, unified: "4095", refused: "linux.resources.unified[memory.max]: 4095 is too low"},
	} {
		a := &api.ContainerAdjustment{}
		if c.limit > 0 {
			a.SetLinuxMemoryLimit(c.limit)
		}
		if c.unified != "" {
			a.AddLinuxUnified("memory.max", c.unified)
		}
		of := &Container{Config: &cri.ContainerConfig{}, Spec: &specs.Spec{}, MinMemory: 4 << 20}
		complete(of.Spec)
		_, err := d.apply(of, a)
		if (err != nil) != (c.refused != "") || err != nil && !strings.Contains(err.Error(), c.refused) {
			t.Errorf("%s: %v, want %q", what, err, c.refused)
		}
	}
}

// What the request and the plug-ins say is in the spec; what neither says stays.
func TestApply(t *testing.T) {
	d := &Driver{config: Config{Limits: Limits{CgroupV2: true}, MemoryMax: spec.MemoryMax}}
	unified := map[string]string{"memory.high": "1"}
	c := &Container{Config: &cri.ContainerConfig{}, Spec: &specs.Spec{
		Process: &specs.Process{Args: []string{"a"}, Rlimits: []specs.POSIXRlimit{{Type: "RLIMIT_NOFILE", Hard: 1, Soft: 1}, {Type: "RLIMIT_CORE"}}},
		Mounts:  []specs.Mount{{Destination: "/proc"}, {Destination: "/gone"}},
		Linux: &specs.Linux{
			Namespaces: []specs.LinuxNamespace{{Type: specs.PIDNamespace}, {Type: specs.NetworkNamespace, Path: "/n"}},
			Resources:  &specs.LinuxResources{Unified: unified},
		},
	}}
	complete(c.Spec)
	a := &api.ContainerAdjustment{}
	a.SetArgs([]string{"b", "c"})
	a.AddRlimit("RLIMIT_NOFILE", 9, 8)
	a.RemoveMount("/gone")
	a.AddMount(&api.Mount{Destination: "/deep/er", Type: "tmpfs", Source: "tmpfs"})
	a.RemoveNamespace(&api.LinuxNamespace{Type: "pid"})
	a.SetLinuxSysctl("net.x", "1")
	a.SetLinuxMemoryLimit(100)
	a.SetLinuxMemoryReservation(50)
	a.AddLinuxUnified("memory.high", "2")
	a.SetLinuxRDTClass("gold")
	a.SetLinuxPidLimits(7)
	a.AddLinuxHugepageLimit("2MB", 5)
	limits, err := d.apply(c, a)
	if err != nil {
		t.Fatal(err)
	}
	limit, reservation, pids := int64(100), int64(50), int64(7)
	want := &specs.Spec{
		Process: &specs.Process{Args: []string{"b", "c"}, Rlimits: []specs.POSIXRlimit{{Type: "RLIMIT_CORE"}, {Type: "RLIMIT_NOFILE", Hard: 9, Soft: 8}}},
		Mounts:  []specs.Mount{{Destination: "/proc"}, {Destination: "/deep/er", Type: "tmpfs", Source: "tmpfs"}},
		Linux: &specs.Linux{
			Namespaces: []specs.LinuxNamespace{{Type: specs.NetworkNamespace, Path: "/n"}},
			Sysctl:     map[string]string{"net.x": "1"}, IntelRdt: &specs.LinuxIntelRdt{ClosID: "gold"},
			Resources: &specs.LinuxResources{
				// The node has no limits of swap and huge pages.
				Memory: &specs.LinuxMemory{Limit: &limit, Reservation: &reservation}, Pids: &specs.LinuxPids{Limit: &pids},
				Unified: map[string]string{"memory.high": "2"},
			},
		},
	}
	c.Spec.Mounts[1].Options = nil // the library makes an empty list
	if diff := cmp.Diff(want, c.Spec); diff != "" {
		t.Error(diff)
	}
	if unified["memory.high"] != "1" {
		t.Error("the request's map was changed")
	}
	if limits.GetMemoryLimitInBytes() != 100 || limits.GetUnified()["memory.high"] != "2" {
		t.Errorf("the limits are %v", limits)
	}
}
