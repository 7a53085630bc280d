package monitor_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"testing"
)

func TestPause(t *testing.T) {
	n := newNode(t)
	binary, err := os.ReadFile(tools.static)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(n.rootfs, "stele-monitor"), binary, 0o755); err != nil {
		t.Fatal(err)
	}
	p := n.run(container{id: "a", script: "exec /stele-monitor pause"})
	// The orphan of an exec becomes the child of pause.
	if _, out, err := n.exec(context.Background(), n.execRequest("a", "x", "(sleep 0.1 &)")); err != nil {
		t.Fatal(out, err)
	}
	children := fmt.Sprintf("/proc/%d/task/%d/children", p.PID, p.PID)
	n.eventually("pause has no children", func() bool {
		data, err := os.ReadFile(children)
		return err == nil && len(data) == 0
	})
	if err := n.client.Signal(context.Background(), "a", int(syscall.SIGTERM)); err != nil {
		t.Fatal(err)
	}
	if e := n.exits(0, "a")["a"]; e.Code != 0 || e.Signal != 0 {
		t.Errorf("pause ended with %+v", e)
	}
}
