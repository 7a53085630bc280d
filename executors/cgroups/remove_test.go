package cgroups

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// realManager works on this node's cgroups, under a root of its own.
func realManager(t *testing.T) *Manager {
	t.Helper()
	if os.Getuid() != 0 {
		t.Fatal("needs root: it makes cgroups")
	}
	node, err := Detect()
	if err != nil {
		t.Fatal(err)
	}
	m, err := NewManager(node, Cgroupfs, fmt.Sprintf("/stele-test-%d-%s", os.Getpid(), t.Name()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := m.remove(context.Background(), m.root); err != nil {
			t.Error(err)
		}
	})
	return m
}

func (m *Manager) mkdirEverywhere(t *testing.T, rel string) {
	t.Helper()
	for _, h := range m.node.Hierarchies {
		if err := os.MkdirAll(filepath.Join(h.Mountpoint, rel), 0o755); err != nil {
			t.Fatal(err)
		}
	}
}

func (m *Manager) countDirs(rel string) (n int) {
	for _, h := range m.node.Hierarchies {
		if _, err := os.Stat(filepath.Join(h.Mountpoint, rel)); err == nil {
			n++
		}
	}
	return n
}

// join starts a process and moves it into a cgroup of every hierarchy.
func (m *Manager) join(t *testing.T, rel string) *exec.Cmd {
	t.Helper()
	cmd := exec.Command("sleep", "1000")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
	for _, h := range m.node.Hierarchies {
		dir := filepath.Join(h.Mountpoint, rel)
		if !h.Unified {
			inheritCpuset(t, h, m.root, rel)
		}
		if err := os.WriteFile(filepath.Join(dir, "cgroup.procs"), fmt.Append(nil, cmd.Process.Pid), 0); err != nil {
			t.Fatal(err)
		}
	}
	return cmd
}

// inheritCpuset fills the cpuset files on the way to rel, without which a v1
// cpuset cgroup takes no process.
func inheritCpuset(t *testing.T, h Hierarchy, root, rel string) {
	t.Helper()
	for _, file := range []string{"cpuset.cpus", "cpuset.mems"} {
		value, err := os.ReadFile(filepath.Join(h.Mountpoint, file))
		if err != nil {
			return
		}
		for dir := rel; ; dir = filepath.Dir(dir) {
			defer os.WriteFile(filepath.Join(h.Mountpoint, dir, file), value, 0)
			if dir == root || dir == "/" {
				break
			}
		}
	}
}

func TestRemoveSandbox(t *testing.T) {
	m := realManager(t)
	m.mkdirEverywhere(t, m.root+"/pod1/stele-c1/made/by/container")
	m.mkdirEverywhere(t, m.root+"/pod2")

	if err := m.RemoveSandbox(t.Context(), "/kubepods/pod1", "pod1"); err != nil || m.countDirs(m.root+"/pod1") == 0 {
		t.Fatalf("a pod with a parent: %v; its own cgroup must not be touched", err)
	}
	for range 2 {
		if err := m.RemoveSandbox(t.Context(), "", "pod1"); err != nil {
			t.Fatal(err)
		}
	}
	if n := m.countDirs(m.root + "/pod1"); n != 0 {
		t.Errorf("pod1 is still in %d hierarchies", n)
	}
	if n := m.countDirs(m.root + "/pod2"); n != len(m.node.Hierarchies) {
		t.Errorf("pod2 is left in %d of %d hierarchies", n, len(m.node.Hierarchies))
	}
}

func TestRemoveSandboxWithProcesses(t *testing.T) {
	m := realManager(t)
	m.mkdirEverywhere(t, m.root+"/pod1/stele-c1")
	m.join(t, m.root+"/pod1/stele-c1")
	if err := m.RemoveSandbox(t.Context(), "", "pod1"); err == nil {
		t.Error("the cgroup of a live process was removed")
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := m.RemoveSandbox(ctx, "", "pod1"); err == nil {
		t.Error("no error although the context has ended and the cgroup is there")
	}
}

func TestRemoveContainerKills(t *testing.T) {
	m := realManager(t)
	path, err := m.ContainerPath("", "pod1", "c1")
	if err != nil {
		t.Fatal(err)
	}
	other, err := m.ContainerPath("", "pod1", "c2")
	if err != nil {
		t.Fatal(err)
	}
	m.mkdirEverywhere(t, path+"/nested")
	m.mkdirEverywhere(t, other)
	inside, nested, neighbour := m.join(t, path), m.join(t, path+"/nested"), m.join(t, other)
	m.freeze(t, path)

	// The parent reaps meanwhile, as the monitor does.
	ended := make(chan error, 2)
	go func() { ended <- inside.Wait() }()
	go func() { ended <- nested.Wait() }()
	for range 2 {
		if err := m.RemoveContainer(t.Context(), path, "c1"); err != nil {
			t.Fatal(err)
		}
	}
	for range 2 {
		<-ended
	}
	for _, cmd := range []*exec.Cmd{inside, nested} {
		if ws := cmd.ProcessState.Sys().(interface{ Signal() unix.Signal }); ws.Signal() != unix.SIGKILL {
			t.Errorf("ended with %v, want SIGKILL", cmd.ProcessState)
		}
	}
	if n := m.countDirs(path); n != 0 {
		t.Errorf("the cgroup is still in %d hierarchies", n)
	}
	if err := unix.Kill(neighbour.Process.Pid, 0); err != nil || m.countDirs(other) == 0 {
		t.Errorf("the neighbour was touched: %v", err)
	}
}

// freeze leaves a container frozen, as a runtime that is killed while it changes
// the device rules does.
func (m *Manager) freeze(t *testing.T, rel string) {
	t.Helper()
	h, ok := m.node.Find("freezer")
	if !ok {
		return
	}
	if err := os.WriteFile(filepath.Join(h.Mountpoint, rel, "freezer.state"), []byte("FROZEN"), 0); err != nil {
		t.Fatal(err)
	}
}

func TestSignal(t *testing.T) {
	m := realManager(t)
	path, err := m.ContainerPath("", "pod1", "c1")
	if err != nil {
		t.Fatal(err)
	}
	if err := m.Signal(path, "c1", unix.SIGTERM); err != nil {
		t.Errorf("a cgroup that isn't there: %v", err)
	}
	m.mkdirEverywhere(t, path)
	cmd := m.join(t, path)
	if err := m.Signal(path, "c1", unix.SIGTERM); err != nil {
		t.Fatal(err)
	}
	cmd.Wait()
	if got := cmd.ProcessState.String(); got != "signal: terminated" {
		t.Errorf("ended with %q", got)
	}
}

func TestRemoveRoot(t *testing.T) {
	m := realManager(t)
	m.mkdirEverywhere(t, m.root+"/pod1")
	if err := m.RemoveRoot(); err != nil {
		t.Fatalf("a root in use: %v", err)
	}
	if m.countDirs(m.root+"/pod1") == 0 {
		t.Fatal("a root in use was removed")
	}
	if err := m.RemoveSandbox(t.Context(), "", "pod1"); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := m.RemoveRoot(); err != nil {
			t.Fatal(err)
		}
	}
	if n := m.countDirs(m.root); n != 0 {
		t.Errorf("the root is still in %d hierarchies", n)
	}
}

// A directory that isn't a cgroup keeps its files.
func TestRemoveLeavesFiles(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "stele-c1", "precious")
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	m := &Manager{node: &Node{Hierarchies: []Hierarchy{{Mountpoint: dir}}}, driver: Cgroupfs, root: "/stele"}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if err := m.RemoveContainer(ctx, "/stele-c1", "c1"); err == nil {
		t.Error("no error")
	}
	if _, err := os.Stat(file); err != nil {
		t.Error(err)
	}
}

// On v2, a frozen process ends by SIGKILL as it is. A node with v1 has a v2 hierarchy
// that shows it.
func TestSignalKillsTheFrozenOnV2(t *testing.T) {
	m := realManager(t)
	at := slices.IndexFunc(m.node.Hierarchies, func(h Hierarchy) bool { return h.Unified })
	if at < 0 {
		t.Skip("no v2 hierarchy is mounted")
	}
	h := m.node.Hierarchies[at]
	m.node = &Node{Layout: V2, Hierarchies: []Hierarchy{h}}
	path, err := m.ContainerPath("", "pod1", "c1")
	if err != nil {
		t.Fatal(err)
	}
	m.mkdirEverywhere(t, path+"/nested")
	inside, nested := m.join(t, path), m.join(t, path+"/nested")
	for _, frozen := range []string{path, m.root} {
		if err := os.WriteFile(filepath.Join(h.Mountpoint, frozen, "cgroup.freeze"), []byte("1"), 0); err != nil {
			t.Fatal(err)
		}
	}
	if err := m.Signal(path, "c1", unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	for _, cmd := range []*exec.Cmd{inside, nested} {
		cmd.Wait()
		if got := cmd.ProcessState.String(); got != "signal: killed" {
			t.Errorf("ended with %q", got)
		}
	}
}
