package cgroup

import (
	"os"
	"reflect"
	"strings"
	"testing"
)

func TestDirsOf(t *testing.T) {
	const mounts = "35 32 0:30 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n" +
		"36 32 0:31 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n" +
		"38 32 0:33 / /sys/fs/cgroup/cpuset rw - cgroup cgroup rw,cpuset\n" +
		"37 32 0:32 / /sys/fs/cgroup/unified rw shared:9 - cgroup2 cgroup2 rw\n"
	const cgroups = "5:pids:/x\n4:memory:/x\n3:cpuacct,cpu:/\n2:cpuset:/\n0::/x\n"
	want := []string{"/sys/fs/cgroup/memory/a/b", "/sys/fs/cgroup/cpu,cpuacct/a/b", "/sys/fs/cgroup/unified/a/b"}
	if got := dirsOf(cgroups, mounts, "/a/b"); !reflect.DeepEqual(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestOOMFiles(t *testing.T) {
	const (
		mountV1     = "35 32 0:30 / /sys/fs/cgroup/memory rw,nosuid - cgroup cgroup rw,memory\n"
		mountOther  = "36 32 0:31 / /sys/fs/cgroup/cpu,cpuacct rw,nosuid - cgroup cgroup rw,cpu,cpuacct\n"
		mountHybrid = "37 32 0:32 / /sys/fs/cgroup/unified rw,nosuid shared:9 - cgroup2 cgroup2 rw\n"
		mountV2     = "29 23 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n"
		mountInside = "29 23 0:26 /docker/abc /sys/fs/cgroup rw - cgroup2 cgroup rw\n"
	)
	for _, test := range []struct {
		name, cgroups, mounts string
		want                  []string
	}{
		{
			"v1", "4:memory:/pods/p/c\n3:cpu,cpuacct:/pods/p/c\n", mountOther + mountV1,
			[]string{"/sys/fs/cgroup/memory/pods/p/c/memory.oom_control"},
		},
		{
			"v2", "0::/kubepods.slice/c.scope/container\n", mountV2,
			[]string{"/sys/fs/cgroup/kubepods.slice/c.scope/container/memory.events"},
		},
		{
			"hybrid", "4:memory:/p/c\n0::/p/c\n", mountV1 + mountHybrid,
			[]string{"/sys/fs/cgroup/memory/p/c/memory.oom_control", "/sys/fs/cgroup/unified/p/c/memory.events"},
		},
		{
			"only a part is mounted", "0::/docker/abc/p/c\n", mountInside,
			[]string{"/sys/fs/cgroup/p/c/memory.events"},
		},
		{"outside of the part", "0::/elsewhere\n", mountInside, nil},
		{"a colon in the name", "0::/p:c\n", mountV2, []string{"/sys/fs/cgroup/p:c/memory.events"}},
		{"nothing", "", "", nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			if got := oomFiles(test.cgroups, test.mounts); !reflect.DeepEqual(got, test.want) {
				t.Errorf("got %q, want %q", got, test.want)
			}
		})
	}
}

// Of mountinfo, the lines about cgroups are kept, however long others are.
func TestCgroupLines(t *testing.T) {
	const v1 = "30 24 0:26 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n"
	const v2 = "31 24 0:27 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n"
	overlay := "32 24 0:28 / /merged rw - overlay overlay rw,lowerdir=" + strings.Repeat("l", 200_000) + "\n"
	got, err := cgroupLines(strings.NewReader(v1 + overlay + v2 + overlay))
	if err != nil || got != v1+v2 {
		t.Errorf("kept are %.200q, %v", got, err)
	}
}

// The counter of this process is found again, also when what was known of mounts is wrong by now.
func TestOOMCounter(t *testing.T) {
	want := oomCounter(os.Getpid())
	for _, known := range []string{"", "30 24 0:26 / /nowhere rw - cgroup cgroup rw,memory\n31 24 0:27 / /nowhere rw - cgroup2 cgroup2 rw\n"} {
		hierarchies.Store(&known)
		for range 2 {
			if got := oomCounter(os.Getpid()); got != want {
				t.Errorf("the counter is %q, not %q", got, want)
			}
		}
	}
}
