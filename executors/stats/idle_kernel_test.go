package stats

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/stele-runtime/stele/executors/cgroups"
)

// memberShell is a shell in a cgroup: it runs what it is told, and nothing otherwise.
type memberShell struct {
	t       *testing.T
	input   io.Writer
	answers *bufio.Reader
}

// run waits until a command is done.
func (s *memberShell) run(command string) {
	s.t.Helper()
	if _, err := fmt.Fprintln(s.input, command+"; echo"); err != nil {
		s.t.Fatal(err)
	}
	if _, err := s.answers.ReadString('\n'); err != nil {
		s.t.Fatalf("%s: %v", command, err)
	}
}

// kernelPod makes cgroups of a pod and its containers, a shell in each.
func kernelPod(t *testing.T, node *cgroups.Node, names ...string) (pod Pod, shells []*memberShell) {
	t.Helper()
	if os.Getuid() != 0 {
		t.Fatal("needs root: it makes cgroups")
	}
	root := fmt.Sprintf("/stele-test-stats-%d", os.Getpid())
	manager, err := cgroups.NewManager(node, cgroups.Cgroupfs, root)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := manager.RemoveSandbox(context.Background(), "", pod.ID); err != nil {
			t.Error(err)
		}
		if err := manager.RemoveRoot(); err != nil {
			t.Error(err)
		}
	})
	pod.ID = "pod"
	if pod.Cgroup, err = manager.SandboxCgroup("", pod.ID); err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		c := Container{ID: name}
		if c.Cgroup, err = manager.ContainerCgroup("", pod.ID, name); err != nil {
			t.Fatal(err)
		}
		pod.Containers = append(pod.Containers, c)
		shells = append(shells, kernelShell(t, node, c.Cgroup))
	}
	return pod, shells
}

func kernelShell(t *testing.T, node *cgroups.Node, cgroup string) *memberShell {
	t.Helper()
	process := exec.Command("sh")
	input, err := process.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	output, err := process.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := process.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = process.Process.Kill()
		_ = process.Wait()
	})
	for _, h := range node.Hierarchies {
		if slices.Contains(h.Controllers, "cpuset") && !h.Unified {
			continue // takes no process before its files are filled in
		}
		dir := filepath.Join(h.Mountpoint, cgroup)
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		if h.Unified && node.Layout == cgroups.V2 {
			for _, above := range []string{"../../..", "../..", ".."} {
				if err := os.WriteFile(filepath.Join(dir, above, "cgroup.subtree_control"), []byte("+cpu +memory"), 0); err != nil {
					t.Fatal(err)
				}
			}
		}
		if err := os.WriteFile(filepath.Join(dir, "cgroup.procs"), fmt.Append(nil, process.Process.Pid), 0); err != nil {
			t.Fatal(err)
		}
	}
	return &memberShell{t, input, bufio.NewReader(output)}
}

// What is used again of an idle pod is what the kernel says then.
func TestIdlePodsOfTheKernel(t *testing.T) {
	node, err := cgroups.Detect()
	if err != nil {
		t.Fatal(err)
	}
	config := Config{Node: node, Layer: func(string) (Layer, bool) { return Layer{}, false }}
	remembering := New(config)
	pod, shells := kernelPod(t, node, "a", "b")
	for _, command := range []string{
		":", "i=0; while [ $i -lt 50000 ]; do i=$((i+1)); done", "x=$(head -c 3000000 /dev/zero | tr '\\0' x)", "x=",
		"head -c 2000000 /dev/zero > " + filepath.Join(t.TempDir(), "file"), "sleep 1000 & p=$!", "kill $p; wait",
	} {
		for i, shell := range shells {
			shell.run(command)
			if !followed(t, config, remembering, pod) {
				t.Errorf("after %q in container %d the pod's figures were not those of a new reader", command, i)
			}
		}
	}
}

// followed reports whether the figures that a reader uses again become those that a new
// reader gets. They are asked for a number of times: the kernel adds up memory.stat late.
func followed(t *testing.T, config Config, remembering *Reader, pod Pod) bool {
	t.Helper()
	for range 50 {
		time.Sleep(100 * time.Millisecond)
		again, err := remembering.Pods(t.Context(), []Pod{pod})
		if err != nil {
			t.Fatal(err)
		}
		last := remembering.idle.last[pod.Cgroup]
		if last.since.UnixNano() == again[0].GetCpu().GetTimestamp() {
			continue // all was read
		}
		anew, err := New(config).Pods(t.Context(), []Pod{pod})
		if err != nil {
			t.Fatal(err)
		}
		for i, c := range again[0].GetContainers() { // two readers have different averages
			c.Cpu.UsageNanoCores, anew[0].GetContainers()[i].Cpu.UsageNanoCores = nil, nil
		}
		again[0].Cpu.UsageNanoCores, anew[0].Cpu.UsageNanoCores = nil, nil
		if equalFigures(again[0], anew[0]) {
			return true
		}
	}
	return false
}
