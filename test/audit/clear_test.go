package audit

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// TestClear plants everything at once and clears it away.
func TestClear(t *testing.T) {
	scope := newScope(t)
	name := fmt.Sprintf("clr%d", os.Getpid())
	scope.Bridges, scope.Networks, scope.Cgroups = []string{name}, []string{name}, []string{"/" + name}
	t.Cleanup(func() {
		if t.Failed() {
			Clear(scope)
		}
	})

	point := mkdir(t, scope.State, "shm")
	run(t, "mount", "-t", "tmpfs", "none", point)
	run(t, "mount", "-t", "tmpfs", "none", mkdir(t, point, "within"))
	run(t, "ip", "link", "add", name, "type", "bridge")
	run(t, "ip", "link", "add", name+"a", "master", name, "type", "veth")
	chain := fmt.Sprintf("CNI-%024x", os.Getpid())
	run(t, "iptables", "-t", "nat", "-N", chain)
	run(t, "iptables", "-t", "nat", "-A", chain, "-d", "192.0.2.1", "-j", "ACCEPT")
	run(t, "iptables", "-t", "nat", "-A", "POSTROUTING", "-s", "192.0.2.1", "-m", "comment", "--comment", `name: "`+name+`" id: "x"`, "-j", chain)
	cgroup := plantCgroup(t, &scope, "pids")
	// It has a child of its own, whose end it does not notice: nobody writes into the FIFO.
	never := filepath.Join(t.TempDir(), "never")
	if err := unix.Mkfifo(never, 0o600); err != nil {
		t.Fatal(err)
	}
	process := exec.Command("sh", "-c", "echo $$ >"+filepath.Join(cgroup, "cgroup.procs")+"; sleep 1000 & read x <"+never, scope.Root)
	if err := process.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- process.Wait() }()
	eventually(t, scope, Process)

	if err := Clear(scope); err != nil {
		t.Error(err)
	}
	expect(t, scope)
	if err := <-ended; err == nil || !strings.Contains(err.Error(), "killed") {
		t.Errorf("the process ended with %v, want a kill", err)
	}
	for _, path := range []string{"/sys/class/net/" + name, filepath.Dir(cgroup)} {
		if _, err := os.Stat(path); err == nil {
			t.Errorf("%s is there", path)
		}
	}
	// Once more: nothing is there, nothing fails.
	if err := Clear(scope); err != nil {
		t.Error(err)
	}
}
