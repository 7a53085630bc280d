package monitor_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"testing"
)

// smallDisk mounts a tmpfs below the node's directory.
func (n *node) smallDisk(name, size string) string {
	n.t.Helper()
	dir := filepath.Join(n.dir, name)
	if err := os.Mkdir(dir, 0o755); err != nil {
		n.t.Fatal(err)
	}
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, size); err != nil {
		n.t.Fatal(err)
	}
	n.disks = append(n.disks, dir)
	return dir
}

// A container can be killed while there is no monitor.
func TestSignalInTheGap(t *testing.T) {
	n := newNode(t)
	p := n.run(container{id: "a", script: "sleep 1000"})
	n.withoutMonitor(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if err := n.client.Signal(ctx, "a", int(syscall.SIGKILL)); err != nil {
			t.Fatal(err)
		}
		n.eventually("the container has ended", func() bool { return gone(p.PID) })
	})
	if e := n.exits(0, "a")["a"]; e.Signal != int(syscall.SIGKILL) || e.Unknown != "" {
		t.Errorf("the exit is %+v", e)
	}
	if err := n.client.Signal(context.Background(), "a", int(syscall.SIGKILL)); err != nil {
		t.Errorf("signal what has ended: %v", err)
	}
}

// fillUp leaves no room on dir's disk until the returned function is called.
func (n *node) fillUp(dir string) (free func()) {
	n.t.Helper()
	path := filepath.Join(dir, "ballast")
	file, err := os.Create(path)
	if err != nil {
		n.t.Fatal(err)
	}
	defer file.Close()
	for block := make([]byte, 4096); err == nil; {
		_, err = file.Write(block)
	}
	return func() {
		if err := os.Remove(path); err != nil {
			n.t.Error(err)
		}
	}
}

// Monitors are killed while the state directory is full: the next one starts, and the
// container's output and exit are not lost.
func TestMonitorDiesOnFullDisk(t *testing.T) {
	n := newNode(t, func(n *node) { n.smallDisk("state", "size=2m") })
	n.run(container{id: "a", script: "i=0; while [ ! -e /go ]; do echo $i; i=$((i+1)); done; exit 7"})
	size := func() int64 {
		info, err := os.Stat(n.log("a"))
		if err != nil {
			return 0
		}
		return info.Size()
	}
	defer n.fillUp(n.config.StateDir)()
	for range 10 {
		before := size()
		n.eventually("there is more output", func() bool { return size() > before })
		n.killMonitor()
	}
	n.touch("go")
	if e := n.exits(0, "a")["a"]; e.Code != 7 || e.Unknown != "" {
		t.Errorf("the exit is %+v", e)
	}
	for i, line := range lines(n.records(n.log("a")), "stdout") {
		if line != fmt.Sprint(i) {
			t.Fatalf("line %d of the log is %q", i, line)
		}
	}
}
