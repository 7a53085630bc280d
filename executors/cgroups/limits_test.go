package cgroups

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// fakeManager has a hierarchy of plain files.
func fakeManager(t *testing.T, driver Driver, unified bool, controllers ...string) *Manager {
	t.Helper()
	layout := V1
	if unified {
		layout = V2
	}
	m, err := NewManager(&Node{Layout: layout, Hierarchies: []Hierarchy{{Mountpoint: t.TempDir(), Controllers: controllers, Unified: unified}}}, driver, "")
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func (m *Manager) write(t *testing.T, rel, content string) {
	t.Helper()
	path := filepath.Join(m.node.Hierarchies[0].Mountpoint, rel)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
}

func (m *Manager) read(t *testing.T, rel string) string {
	t.Helper()
	content, err := os.ReadFile(filepath.Join(m.node.Hierarchies[0].Mountpoint, rel))
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(content))
}

func TestPodMemoryLimit(t *testing.T) {
	for name, c := range map[string]struct {
		m                   *Manager
		parent, file, value string
		want                int64
	}{
		"v1":               {fakeManager(t, Cgroupfs, false, "memory"), "/kubepods/pod1", "kubepods/pod1/memory.limit_in_bytes", "2097152\n", 2 << 20},
		"v1 without limit": {fakeManager(t, Cgroupfs, false, "memory"), "/kubepods/pod1", "kubepods/pod1/memory.limit_in_bytes", "9223372036854771712\n", 0},
		"v2":               {fakeManager(t, Cgroupfs, true, "memory"), "kubepods/pod1", "kubepods/pod1/memory.max", "2097152\n", 2 << 20},
		"v2 without limit": {fakeManager(t, Cgroupfs, true, "memory"), "/kubepods/pod1", "kubepods/pod1/memory.max", "max\n", 0},
		"systemd":          {fakeManager(t, Systemd, true, "memory"), "kubepods-pod1.slice", "kubepods.slice/kubepods-pod1.slice/memory.max", "4096\n", 4096},
		"not there":        {fakeManager(t, Cgroupfs, true, "memory"), "/kubepods/pod1", "kubepods/pod2/memory.max", "4096\n", 0},
		"no parent":        {fakeManager(t, Cgroupfs, true, "memory"), "", "memory.max", "4096\n", 0},
		"nobody counts":    {fakeManager(t, Cgroupfs, true, "pids"), "/kubepods/pod1", "kubepods/pod1/memory.max", "4096\n", 0},
	} {
		c.m.write(t, c.file, c.value)
		if got, err := c.m.PodMemoryLimit(c.parent); err != nil || got != c.want {
			t.Errorf("%s: %d, %v, want %d", name, got, err, c.want)
		}
	}
}

func TestHugepages(t *testing.T) {
	for name, c := range map[string]struct {
		m           *Manager
		path, dir   string
		limit, rsvd string
	}{
		"v1":           {fakeManager(t, Cgroupfs, false, "hugetlb"), "/pods/stele-c1", "pods/stele-c1", "limit_in_bytes", "rsvd.limit_in_bytes"},
		"v2":           {fakeManager(t, Cgroupfs, true, "hugetlb"), "/pods/stele-c1", "pods/stele-c1", "max", "rsvd.max"},
		"systemd":      {fakeManager(t, Systemd, true, "hugetlb"), "pods.slice:stele:c1", "pods.slice/stele-c1.scope", "max", "rsvd.max"},
		"crun's below": {fakeManager(t, Systemd, true, "hugetlb"), "pods.slice:stele:c1", "pods.slice/stele-c1.scope/container", "max", "rsvd.max"},
	} {
		t.Run(name, func(t *testing.T) {
			limit, rsvd := filepath.Join(c.dir, "hugetlb.2MB."+c.limit), filepath.Join(c.dir, "hugetlb.2MB."+c.rsvd)
			c.m.write(t, limit, "max\n")
			c.m.write(t, rsvd, "7\n")
			undo, err := c.m.SetHugepages(c.path, "c1", "2MB", 4<<20)
			if err != nil {
				t.Fatal(err)
			}
			if got := c.m.read(t, limit) + " " + c.m.read(t, rsvd); got != "4194304 4194304" {
				t.Errorf("the limits are %s", got)
			}
			if err := undo(); err != nil {
				t.Fatal(err)
			}
			if got := c.m.read(t, limit) + " " + c.m.read(t, rsvd); got != "max 7" {
				t.Errorf("the limits are %s after the undoing", got)
			}
			if _, err := c.m.SetHugepages(c.path, "c1", "1GB", 1); err == nil || !strings.Contains(err.Error(), "hugetlb.1GB") {
				t.Errorf("a size that the kernel does not have: %v", err)
			}
			if _, err := c.m.SetHugepages(c.path, "c2", "2MB", 1); err == nil {
				t.Error("another container's cgroup was changed")
			}
		})
	}
	m := fakeManager(t, Cgroupfs, true)
	if _, err := m.SetHugepages("/pods/stele-c1", "c1", "2MB", 1); err == nil {
		t.Error("limited without the controller")
	}
}

func TestMemoryUsed(t *testing.T) {
	v1, v2, none := fakeManager(t, Cgroupfs, false, "memory"), fakeManager(t, Cgroupfs, true, "memory"), fakeManager(t, Cgroupfs, true)
	v1.write(t, "pods/stele-c1/memory.usage_in_bytes", "4096\n")
	v2.write(t, "pods/stele-c1/memory.current", "8192\n")
	for m, want := range map[*Manager]int64{v1: 4096, v2: 8192, none: 0} {
		if got, err := m.MemoryUsed("/pods/stele-c1", "c1"); err != nil || got != want {
			t.Errorf("%d, %v; want %d", got, err, want)
		}
	}
	if _, err := v1.MemoryUsed("/pods/stele-gone", "gone"); err == nil {
		t.Error("a cgroup that is not there uses memory")
	}
}

// All processes of a container get the score of its first one, those below its cgroup, too;
// those that made another choice keep it, and so do strangers.
func TestOOMScoreAdj(t *testing.T) {
	m := realManager(t)
	rel := m.sandboxPath("pod") + "/stele-c1"
	m.mkdirEverywhere(t, rel+"/below")
	m.mkdirEverywhere(t, m.sandboxPath("pod")+"/stele-c2")
	init, child, deep := m.join(t, rel).Process.Pid, m.join(t, rel).Process.Pid, m.join(t, rel+"/below").Process.Pid
	other, stranger := m.join(t, rel).Process.Pid, m.join(t, m.sandboxPath("pod")+"/stele-c2").Process.Pid
	score := func(pid int) string {
		text, err := os.ReadFile(fmt.Sprintf("/proc/%d/oom_score_adj", pid))
		if err != nil {
			t.Fatal(err)
		}
		return strings.TrimSpace(string(text))
	}
	for _, pid := range []int{init, child, deep, stranger} {
		if err := os.WriteFile(fmt.Sprintf("/proc/%d/oom_score_adj", pid), []byte("300"), 0); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(fmt.Sprintf("/proc/%d/oom_score_adj", other), []byte("900"), 0); err != nil {
		t.Fatal(err)
	}
	before, err := m.SetOOMScoreAdj("/"+strings.TrimPrefix(rel, "/"), "c1", init, 400)
	if err != nil || before != 300 {
		t.Fatalf("before it was %d, %v", before, err)
	}
	if got := strings.Join([]string{score(init), score(child), score(deep), score(other), score(stranger)}, " "); got != "400 400 400 900 300" {
		t.Errorf("the scores are %s", got)
	}
	if _, err := m.SetOOMScoreAdj("/"+strings.TrimPrefix(rel, "/"), "c1", stranger, 500); err == nil {
		t.Error("another container's process was taken for the first one")
	}
	if got := score(stranger); got != "300" {
		t.Errorf("the stranger has %s", got)
	}
}
