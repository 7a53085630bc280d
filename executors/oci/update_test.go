package oci_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/stele-runtime/stele/actors/fault"
	"github.com/stele-runtime/stele/executors/oci"
	"github.com/stele-runtime/stele/executors/spec"
)

// update lays a change over a container's configuration, as an effect does.
func (n *node) update(in spec.Input, c oci.Container, change *cri.LinuxContainerResources) error {
	n.t.Helper()
	plan, err := spec.Update(in.Container, &cri.UpdateContainerResourcesRequest{Linux: change}, n.host, 0)
	n.must(err)
	return n.driver.Update(n.t.Context(), c, oci.Update{
		Set: plan.Set, OOMScoreAdj: plan.OOMScoreAdj, MemoryLimit: plan.MemoryLimit, Fields: plan.Fields,
	})
}

// All of an update is in force, or nothing of it, and the bundle says what is.
func TestUpdate(t *testing.T) {
	n := newNode(t)
	in := n.input("c1", "sleep 100")
	in.Container.Linux.Resources = &cri.LinuxContainerResources{CpuShares: 512, MemoryLimitInBytes: 64 << 20, OomScoreAdj: 500}
	c := n.container("c1")
	c.Init = n.create(in)
	config := filepath.Join(c.Bundle, "config.json")
	has := func(shares, memory int, score string) {
		t.Helper()
		if got, want := n.cgroupFile("c1", "memory", "memory.limit_in_bytes", "memory.max"), fmt.Sprint("=", memory); !strings.HasSuffix(got, want) {
			t.Errorf("%s, want %s", got, want)
		}
		if got := n.cgroupFile("c1", "cpu", "cpu.shares", "cpu.weight"); strings.HasPrefix(got, "cpu.shares") && got != fmt.Sprint("cpu.shares=", shares) {
			t.Errorf("%s, want %d", got, shares)
		}
		got, err := os.ReadFile(fmt.Sprintf("/proc/%d/oom_score_adj", c.Init.PID))
		n.must(err)
		if strings.TrimSpace(string(got)) != score {
			t.Errorf("oom_score_adj is %s, want %s", got, score)
		}
		bundle, err := os.ReadFile(config)
		n.must(err)
		for _, want := range []string{`"shares":` + fmt.Sprint(shares), `"limit":` + fmt.Sprint(memory), `"oomScoreAdj":` + score} {
			if !strings.Contains(string(bundle), want) {
				t.Errorf("the bundle lacks %s", want)
			}
		}
	}
	has(512, 64<<20, "500")
	for range 2 {
		n.must(n.update(in, c, &cri.LinuxContainerResources{CpuShares: 1024, MemoryLimitInBytes: 96 << 20, OomScoreAdj: 600}))
		has(1024, 96<<20, "600")
	}
	n.start("c1")
	in.Container.Linux.Resources = &cri.LinuxContainerResources{CpuShares: 1024, MemoryLimitInBytes: 96 << 20, OomScoreAdj: 600}
	for field, change := range map[string]*cri.LinuxContainerResources{
		"linux.memory_limit_in_bytes": {CpuShares: 2, MemoryLimitInBytes: 4096, OomScoreAdj: 700},
		"linux.cpuset_cpus":           {CpuShares: 2, CpusetCpus: "60000", OomScoreAdj: 700},
	} {
		err := n.update(in, c, change)
		if fault.KindOf(err) != fault.Precondition || !strings.Contains(err.Error(), field) {
			t.Errorf("%v, want a refusal that names %s", err, field)
		}
		has(1024, 96<<20, "600")
	}
	c.Init.PID = 0
	if err := n.update(in, c, &cri.LinuxContainerResources{CpuShares: 2}); fault.KindOf(err) != fault.Precondition {
		t.Errorf("what has ended was updated: %v", err)
	}
	n.delete(t.Context(), "c1")
	c.Init.PID = os.Getpid()
	if err := n.update(in, c, &cri.LinuxContainerResources{CpuShares: 2}); err == nil {
		t.Error("what is gone was updated")
	}
}
