package monitor_test

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/stele-runtime/stele/executors/monitor"
	"github.com/stele-runtime/stele/executors/monitor/wire"
)

// The monitor's death is noticed by its pidfd: here the connection stays open, as if
// another process had inherited it. A silent listener does not block Close.
func TestDeathIsNoticedByPidfd(t *testing.T) {
	dir, err := os.MkdirTemp("", "mon")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	if err := os.Mkdir(filepath.Join(dir, "monitor"), 0o700); err != nil {
		t.Fatal(err)
	}
	listener, err := wire.Listen(filepath.Join(dir, "monitor", "monitor.sock"))
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	process := exec.Command("sleep", "1000")
	if err := process.Start(); err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	defer wg.Wait()
	wg.Go(func() {
		conn, err := listener.Accept()
		if err != nil {
			t.Error(err)
			return
		}
		defer conn.Close()
		(&oldMonitor{t: t, conn: conn, pid: process.Process.Pid}).serve()
	})
	lost := make(chan error, 1)
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	client, err := monitor.Start(ctx, monitor.Config{Binary: tools.monitor, StateDir: dir, OnLost: func(reason error) { lost <- reason }})
	if err != nil {
		t.Fatal(err)
	}
	_ = process.Process.Kill()
	_ = process.Wait()
	select {
	case <-lost:
	case <-ctx.Done():
		t.Error("nobody noticed")
	}
	client.Close()
}

// The exit of a container whose monitor is gone is known although its new parent does
// not reap it.
func TestParentDoesNotWait(t *testing.T) {
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0) }()
	n := newNode(t)
	p := n.run(container{id: "a", script: waitForGo + "echo end; exit 9"})
	defer func() { _, _ = unix.Wait4(p.PID, nil, 0, nil) }()
	n.killMonitor()
	n.release()
	if e := n.exits(0, "a")["a"]; e.Code != 9 || e.Unknown != "" {
		t.Errorf("the exit is %+v", e)
	}
	if !ended(p.PID) || gone(p.PID) {
		t.Error("it was reaped")
	}
}
