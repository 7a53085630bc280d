package spec

import (
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/stele-runtime/stele/actors/fault"
	"github.com/stele-runtime/stele/executors/spec/refusal"
)

type res = cri.LinuxContainerResources

// pages are limits of huge pages.
func pages(limits ...uint64) (list []*cri.HugepageLimit) {
	for i, size := range []string{"2MB", "1GB"}[:len(limits)] {
		list = append(list, &cri.HugepageLimit{PageSize: size, Limit: limits[i]})
	}
	return list
}

// updates are what is in force before and after a change, and what the runtime is told to
// set: only what changes, and what goes with it.
var updates = map[string]struct {
	before, change, want *res
	set                  string
	lowered              int64
}{
	"nothing was set": {nil, &res{CpuShares: 512}, &res{CpuShares: 512}, `{"cpu":{"shares":512}}`, 0},
	"the rest stays": {
		&res{CpuShares: 512, CpusetCpus: "0", OomScoreAdj: 3, MemoryLimitInBytes: 9}, &res{CpusetCpus: "1"},
		&res{CpuShares: 512, CpusetCpus: "1", OomScoreAdj: 3, MemoryLimitInBytes: 9}, `{"cpu":{"cpus":"1"}}`, 0,
	},
	"a quota goes with its period": {
		&res{CpuPeriod: 100000, CpuQuota: 5000}, &res{CpuQuota: 7000},
		&res{CpuPeriod: 100000, CpuQuota: 7000}, `{"cpu":{"quota":7000,"period":100000}}`, 0,
	},
	"no quota": {
		&res{CpuPeriod: 100000, CpuQuota: 5000}, &res{CpuQuota: -1},
		&res{CpuPeriod: 100000, CpuQuota: -1}, `{"cpu":{"quota":-1,"period":100000}}`, 0,
	},
	"memory up, without swap": {
		&res{MemoryLimitInBytes: 10}, &res{MemoryLimitInBytes: 20}, &res{MemoryLimitInBytes: 20},
		`{"memory":{"limit":20,"swap":20,"checkBeforeUpdate":true}}`, 0,
	},
	"memory down, with the swap that it had": {
		&res{MemoryLimitInBytes: 10, MemorySwapLimitInBytes: 15}, &res{MemoryLimitInBytes: 8},
		&res{MemoryLimitInBytes: 8, MemorySwapLimitInBytes: 13},
		`{"memory":{"limit":8,"swap":13,"checkBeforeUpdate":true}}`, 8,
	},
	"memory down, swap without limit": {
		&res{MemoryLimitInBytes: 10, MemorySwapLimitInBytes: -1}, &res{MemoryLimitInBytes: 8},
		&res{MemoryLimitInBytes: 8, MemorySwapLimitInBytes: -1},
		`{"memory":{"limit":8,"swap":-1,"checkBeforeUpdate":true}}`, 8,
	},
	"no memory limit any more": {
		&res{MemoryLimitInBytes: 10, MemorySwapLimitInBytes: 15}, &res{MemoryLimitInBytes: -1},
		&res{MemoryLimitInBytes: -1, MemorySwapLimitInBytes: -1},
		`{"memory":{"limit":-1,"swap":-1,"checkBeforeUpdate":true}}`, 0,
	},
	"the first memory limit": {
		&res{}, &res{MemoryLimitInBytes: 10, MemorySwapLimitInBytes: 12}, &res{MemoryLimitInBytes: 10, MemorySwapLimitInBytes: 12},
		`{"memory":{"limit":10,"swap":12,"checkBeforeUpdate":true}}`, 10,
	},
	"the same memory limit again": {
		&res{MemoryLimitInBytes: 10}, &res{MemoryLimitInBytes: 10}, &res{MemoryLimitInBytes: 10},
		`{"memory":{"limit":10,"swap":10,"checkBeforeUpdate":true}}`, 0,
	},
	"more swap": {
		&res{MemoryLimitInBytes: 10}, &res{MemorySwapLimitInBytes: 30}, &res{MemoryLimitInBytes: 10, MemorySwapLimitInBytes: 30},
		`{"memory":{"limit":10,"swap":30,"checkBeforeUpdate":true}}`, 0,
	},
	"huge pages of one size": {
		&res{HugepageLimits: pages(1, 2)}, &res{HugepageLimits: pages(5)},
		&res{HugepageLimits: []*cri.HugepageLimit{{PageSize: "1GB", Limit: 2}, {PageSize: "2MB", Limit: 5}}},
		`{"hugepageLimits":[{"pageSize":"2MB","limit":5}]}`, 0,
	},
	"files of cgroup v2": {
		&res{Unified: map[string]string{"io.weight": "1", "memory.high": "3"}}, &res{Unified: map[string]string{"memory.high": "4"}},
		&res{Unified: map[string]string{"io.weight": "1", "memory.high": "4"}}, `{"unified":{"memory.high":"4"}}`, 0,
	},
	"a field after its file": {
		&res{Unified: map[string]string{"memory.max": "100", "memory.swap.max": "7"}}, &res{MemoryLimitInBytes: 50},
		&res{MemoryLimitInBytes: 50, Unified: map[string]string{"memory.swap.max": "7"}},
		`{"memory":{"limit":50,"swap":50,"checkBeforeUpdate":true},"unified":{"memory.swap.max":"7"}}`, 50,
	},
	"a file after its field": {
		&res{MemoryLimitInBytes: 50}, &res{Unified: map[string]string{"memory.max": "40"}},
		&res{MemoryLimitInBytes: 50, Unified: map[string]string{"memory.max": "40"}}, `{"unified":{"memory.max":"40"}}`, 40,
	},
	"a score": {&res{OomScoreAdj: 3}, &res{OomScoreAdj: 4}, &res{OomScoreAdj: 4}, `{}`, 0},
}

func TestUpdate(t *testing.T) {
	for name, c := range updates {
		t.Run(name, func(t *testing.T) {
			config := &cri.ContainerConfig{Linux: &cri.LinuxContainerConfig{Resources: c.before}}
			before := proto.CloneOf(config)
			plan, err := Update(config, &cri.UpdateContainerResourcesRequest{Linux: c.change}, &HostFacts{CgroupV2: true, Hugetlb: true, SwapLimit: true, MinOOMScoreAdj: -1000}, 0)
			if err != nil {
				t.Fatal(err)
			}
			if !proto.Equal(before, config) {
				t.Errorf("the configuration was changed to %v", config)
			}
			if !proto.Equal(plan.InForce, c.want) {
				t.Errorf("in force is %v, want %v", plan.InForce, c.want)
			}
			if set, _ := json.Marshal(plan.Set); string(set) != c.set {
				t.Errorf("set is %s, want %s", set, c.set)
			}
			if plan.MemoryLimit != c.lowered {
				t.Errorf("the memory limit is lowered to %d, want %d", plan.MemoryLimit, c.lowered)
			}
			if score := plan.OOMScoreAdj; (score == nil) != (c.change.OomScoreAdj == 0) || score != nil && *score != int(c.change.OomScoreAdj) {
				t.Errorf("the score is set to %v", score)
			}
			if len(plan.Fields) == 0 || slices.ContainsFunc(plan.Fields, func(f string) bool { return !strings.HasPrefix(f, "linux.") }) {
				t.Errorf("the fields are %v", plan.Fields)
			}
		})
	}
}

// A new limit is at least what the runtime takes, wherever it is said; an old one may be repeated.
func TestUpdateBelowTheLeast(t *testing.T) {
	const least, low = 4 << 20, 4<<20 - 1
	for name, c := range map[string]struct {
		before, change *res
		field          string
	}{
		"lower":              {&res{MemoryLimitInBytes: 8 << 20}, &res{MemoryLimitInBytes: low}, "linux.memory_limit_in_bytes"},
		"the first":          {&res{}, &res{MemoryLimitInBytes: 1}, "linux.memory_limit_in_bytes"},
		"repeated":           {&res{MemoryLimitInBytes: low}, &res{MemoryLimitInBytes: low, CpuShares: 5}, ""},
		"of another":         {&res{MemoryLimitInBytes: low}, &res{CpuShares: 5}, ""},
		"enough":             {&res{}, &res{MemoryLimitInBytes: least}, ""},
		"none":               {&res{}, &res{MemoryLimitInBytes: -1}, ""},
		"a file":             {&res{}, &res{Unified: map[string]string{"memory.max": " 4095k "}}, "linux.unified[memory.max]"},
		"a file, repeated":   {&res{Unified: map[string]string{"memory.max": "1"}}, &res{Unified: map[string]string{"memory.max": "1"}}, ""},
		"a file with enough": {&res{}, &res{Unified: map[string]string{"memory.max": "4M"}}, ""},
		"a file without":     {&res{}, &res{Unified: map[string]string{"memory.max": "max"}}, ""},
	} {
		config := &cri.ContainerConfig{Linux: &cri.LinuxContainerConfig{Resources: c.before}}
		_, err := Update(config, &cri.UpdateContainerResourcesRequest{Linux: c.change}, &HostFacts{CgroupV2: true}, least)
		if c.field == "" {
			if err != nil {
				t.Errorf("%s: %v", name, err)
			}
			continue
		}
		fe, is := errors.AsType[*refusal.FieldError](err)
		if !is || fe.Field != c.field || fe.Kind != fault.Invalid || !strings.Contains(fe.Error(), "4194304 bytes") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// The kernel takes suffixes and other bases.
func TestFileSize(t *testing.T) {
	for text, want := range map[string]int64{
		"0": 0, "77": 77, " 4k\t": 4096, "2M": 2 << 20, "1g": 1 << 30, "0x10": 16, "0x1e": 30, "010": 8, "7E": 7 << 60,
		"": -1, "max": -1, "k": -1, "-1": -1, "8E": -1, "1 2": -1, "99999999999999999999": -1,
	} {
		got, is := fileSize(map[string]string{"memory.max": text}, "memory.max")
		if is != (want >= 0) || is && got != want {
			t.Errorf("%q: %d, %v", text, got, is)
		}
	}
}

// The node decides on what a change may ask for.
func TestUpdateOnANodeWithoutIt(t *testing.T) {
	update := func(change *cri.LinuxContainerResources) (UpdatePlan, error) {
		return Update(&cri.ContainerConfig{}, &cri.UpdateContainerResourcesRequest{Linux: change}, &HostFacts{MinOOMScoreAdj: -5}, 0)
	}
	_, err := update(&cri.LinuxContainerResources{Unified: map[string]string{"memory.high": "1"}})
	if fields, is := errors.AsType[*refusal.FieldError](err); !is || fields.Field != "linux.unified" || fields.Value != "memory.high" {
		t.Errorf("files of cgroup v2 on v1: %v", err)
	}
	// The kubelet sends limits for every page size, with or without the controller.
	plan, err := update(&cri.LinuxContainerResources{
		OomScoreAdj: -900, MemoryLimitInBytes: 1 << 20, HugepageLimits: []*cri.HugepageLimit{{PageSize: "2MB"}},
	})
	if err != nil || plan.Set.HugepageLimits != nil || plan.Set.Memory.Swap != nil || *plan.OOMScoreAdj != -5 {
		t.Errorf("planned is %+v, %v", plan, err)
	}
}
