package cgroups

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/moby/sys/mountinfo"
)

func TestDetectLayouts(t *testing.T) {
	for _, tc := range []struct {
		name, mounts string
		want         Node
	}{
		{
			name:   "v2",
			mounts: "30 23 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw,nsdelegate",
			want: Node{Layout: V2, Hierarchies: []Hierarchy{
				{Mountpoint: "/sys/fs/cgroup", Controllers: []string{"cpu", "memory"}, Unified: true},
			}},
		},
		{
			name: "v1, one tree mounted twice",
			mounts: "31 23 0:28 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n" +
				"32 23 0:29 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,xattr,name=systemd\n" +
				"33 23 0:28 / /var/lib/x/cpu rw - cgroup cgroup rw,cpu,cpuacct",
			want: Node{Layout: V1, Hierarchies: []Hierarchy{
				{Mountpoint: "/sys/fs/cgroup/cpu,cpuacct", Controllers: []string{"cpu", "cpuacct"}},
				{Mountpoint: "/sys/fs/cgroup/systemd"},
			}},
		},
		{
			name: "hybrid",
			mounts: "31 23 0:28 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n" +
				"32 23 0:29 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw",
			want: Node{Layout: Hybrid, Hierarchies: []Hierarchy{
				{Mountpoint: "/sys/fs/cgroup/memory", Controllers: []string{"memory"}},
				{Mountpoint: "/sys/fs/cgroup/unified", Unified: true},
			}},
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			mounts, err := mountinfo.GetMountsFromReader(strings.NewReader(tc.mounts), nil)
			if err != nil {
				t.Fatal(err)
			}
			node, err := detect(mounts, func(string) ([]byte, error) {
				if tc.want.Layout == Hybrid {
					return []byte("hugetlb\n"), nil
				}
				return []byte("memory cpu\n"), nil
			})
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tc.want, *node, cmpopts.EquateEmpty()); diff != "" {
				t.Error(diff)
			}
		})
	}
	if _, err := detect(nil, nil); err == nil {
		t.Error("a node without cgroups was accepted")
	}
}

func TestHas(t *testing.T) {
	v2 := &Node{Layout: V2, Hierarchies: []Hierarchy{{Controllers: []string{"memory"}, Unified: true}}}
	for controller, want := range map[string]bool{"memory": true, "devices": true, "freezer": true, "hugetlb": false} {
		if got := v2.Has(controller); got != want {
			t.Errorf("Has(%q) = %v", controller, got)
		}
	}
}

func TestDetectThisNode(t *testing.T) {
	node, err := Detect()
	if err != nil {
		t.Fatal(err)
	}
	if !node.Has("memory") || !node.Has("cpu") {
		t.Errorf("no memory or cpu controller found in %+v", node)
	}
}
