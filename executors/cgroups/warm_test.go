package cgroups

import (
	"os"
	"testing"
	"time"
)

func TestProcsOf(t *testing.T) {
	const v1 = "5:memory:/a/b\n4:cpu,cpuacct:/a\n1:name=systemd:/x\n0::/y\n"
	memory := Hierarchy{Mountpoint: "/sys/fs/cgroup/memory", Controllers: []string{"memory"}}
	cpu := Hierarchy{Mountpoint: "/sys/fs/cgroup/cpu", Controllers: []string{"cpu", "cpuacct"}}
	for _, c := range []struct {
		hierarchies      []Hierarchy
		membership, want string
	}{
		{[]Hierarchy{{Mountpoint: "/sys/fs/cgroup", Controllers: []string{"cpu", "memory"}, Unified: true}}, "0::/user.slice\n", "/sys/fs/cgroup/user.slice/cgroup.procs"},
		{[]Hierarchy{{Mountpoint: "/sys/fs/cgroup/unified", Unified: true}, memory}, v1, "/sys/fs/cgroup/memory/a/b/cgroup.procs"},
		{[]Hierarchy{cpu, memory}, v1, "/sys/fs/cgroup/cpu/a/cgroup.procs"},
		{[]Hierarchy{memory}, "0::/y\n", ""},
		{[]Hierarchy{memory}, "garbage", ""},
		{nil, v1, ""},
	} {
		if got := (&Node{Hierarchies: c.hierarchies}).procsOf(c.membership); got != c.want {
			t.Errorf("%v: %q, want %q", c.hierarchies, got, c.want)
		}
	}
}

// It changes nothing, and is over by itself.
func TestWarm(t *testing.T) {
	node, err := Detect()
	if err != nil {
		t.Skip(err)
	}
	m, err := NewManager(node, Cgroupfs, "")
	if err != nil {
		t.Fatal(err)
	}
	membership := func() string {
		own, err := os.ReadFile("/proc/self/cgroup")
		if err != nil {
			t.Fatal(err)
		}
		return string(own)
	}
	before := membership()
	for range 10 {
		m.Warm()
	}
	for m.warming.Load() {
		time.Sleep(time.Millisecond)
	}
	if after := membership(); after != before {
		t.Errorf("this process was moved from\n%sto\n%s", before, after)
	}
	procs := node.procsOf(before)
	if _, err := os.Stat(procs); err != nil {
		t.Errorf("it writes nowhere: %v", err)
	}
}

func BenchmarkWarm(b *testing.B) {
	node, err := Detect()
	if err != nil {
		b.Skip(err)
	}
	own, _ := os.ReadFile("/proc/self/cgroup")
	procs := node.procsOf(string(own))
	for name, again := range map[string]bool{"after a quiet while": false, "again": true} {
		b.Run(name, func(b *testing.B) {
			for range b.N {
				b.StopTimer()
				time.Sleep(300 * time.Millisecond)
				if again {
					_ = os.WriteFile(procs, []byte("0"), 0)
				}
				b.StartTimer()
				if err := os.WriteFile(procs, []byte("0"), 0); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
