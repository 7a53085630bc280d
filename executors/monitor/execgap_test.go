package monitor_test

import (
	"bufio"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/stele-runtime/stele/executors/monitor"
	"github.com/stele-runtime/stele/executors/monitor/wire"
	pb "github.com/stele-runtime/stele/proto/monitor/v1"
)

// release releases the scripts that wait for the file /go.
func (n *node) release() {
	n.t.Helper()
	if err := os.WriteFile(filepath.Join(n.rootfs, "go"), nil, 0o644); err != nil {
		n.t.Fatal(err)
	}
}

// waitForGo is what a script says to wait for release.
const waitForGo = "while [ ! -e /go ]; do sleep 0.02; done; "

// The monitor dies; an exec continues, and its caller gets the result.
func TestExecOutlivesTheMonitor(t *testing.T) {
	n := newNode(t)
	n.run(container{id: "a", script: "sleep 1000"})
	e, err := n.client.StartExec(context.Background(), n.execRequest("a", "x", waitForGo+"exit 17"))
	if err != nil {
		t.Fatal(err)
	}
	n.killMonitor()
	if ended(e.Process().PID) {
		t.Error("the exec died with the monitor")
	}
	n.killMonitor()
	n.release()
	if result, err := e.Wait(); err != nil || result != (monitor.ExecResult{Code: 17}) {
		t.Errorf("exec gave %+v, %v", result, err)
	}
	// While there is no monitor at all.
	if err := os.Remove(filepath.Join(n.rootfs, "go")); err != nil {
		t.Fatal(err)
	}
	// Of another id: the monitor that adopted the first one may not know of its end yet.
	e, err = n.client.StartExec(context.Background(), n.execRequest("a", "y", waitForGo+"kill -9 $$"))
	if err != nil {
		t.Fatal(err)
	}
	n.withoutMonitor(func() {
		n.release()
		if result, err := e.Wait(); err != nil || result != (monitor.ExecResult{Code: 137, Signal: 9}) {
			t.Errorf("exec gave %+v, %v", result, err)
		}
	})
}

// Timeout and cancellation also work without a monitor, for all of the exec's
// descendants.
func TestExecIsKilledWithoutMonitor(t *testing.T) {
	n := newNode(t)
	n.run(container{id: "a", script: "sleep 1000"})
	const mark = "14142.1356"
	script := "setsid sleep " + mark + " & sleep " + mark + "; true"
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	canceled, err := n.client.StartExec(ctx, n.execRequest("a", "x", script))
	if err != nil {
		t.Fatal(err)
	}
	r := n.execRequest("a", "y", script)
	r.Timeout = 2 * time.Second
	late, err := n.client.StartExec(context.Background(), r)
	if err != nil {
		t.Fatal(err)
	}
	n.eventually("they run", func() bool { return len(hostPIDs(t, "\x00"+mark)) == 4 })
	n.withoutMonitor(func() {
		cancel()
		if _, err := canceled.Wait(); !errors.Is(err, context.Canceled) {
			t.Errorf("the canceled exec gave %v", err)
		}
		if result, err := late.Wait(); err != nil || !result.TimedOut {
			t.Errorf("the late exec gave %+v, %v", result, err)
		}
		if pids := hostPIDs(t, mark); len(pids) != 0 {
			t.Errorf("processes %v are left", pids)
		}
	})
}

// The next monitor kills execs whose daemon is dead too, and keeps those that their
// daemon has adopted.
func TestExecWithTheNextMonitor(t *testing.T) {
	n := newNode(t)
	n.run(container{id: "a", script: "sleep 1000"})
	const mark = "17320.5080"
	var wg sync.WaitGroup
	defer wg.Wait()
	start := func(id string) {
		e, err := n.client.StartExec(context.Background(), n.execRequest("a", id, "setsid sleep "+mark+" & sleep "+mark+"; true"))
		if err != nil {
			t.Fatal(err)
		}
		wg.Go(func() {
			if _, err := e.Wait(); err == nil {
				t.Error("the exec succeeded")
			}
		})
		n.eventually("it runs", func() bool { return len(hostPIDs(t, "\x00"+mark)) == 2 })
	}
	start("x")
	n.killMonitor()
	if len(hostPIDs(t, "\x00"+mark)) != 2 {
		t.Error("the exec died with the monitor")
	}
	n.client.Close()
	n.eventually("it died with the daemon", func() bool { return len(hostPIDs(t, mark)) == 0 })
	n.connect()
	start("y")
	// Both at once, before the client can act.
	if err := os.Rename(n.config.Binary, n.config.Binary+".hidden"); err != nil {
		t.Fatal(err)
	}
	stop := n.started[len(n.started)-1]
	if err := syscall.Kill(stop, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	n.eventually("the monitor has ended", func() bool { return ended(stop) })
	if err := os.Rename(n.config.Binary+".hidden", n.config.Binary); err != nil {
		t.Fatal(err)
	}
	n.client.Close()
	n.connect()
	n.eventually("the exec is gone", func() bool { return len(hostPIDs(t, mark)) == 0 })
}

// A daemon and its monitor are killed: their successors kill the exec. Here the test is
// the daemon, since a Client kills its execs when it is closed.
func TestExecOfADaemonThatWasKilled(t *testing.T) {
	n := newNode(t)
	n.run(container{id: "a", script: "sleep 1000"})
	n.client.Close()
	conn, err := wire.Dial(filepath.Join(n.config.StateDir, "monitor", "monitor.sock"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	const mark = "26457.5131"
	r := n.execRequest("a", "x", "setsid sleep "+mark+" & sleep "+mark+"; true")
	for i, req := range []*pb.Request{
		{Call: &pb.Request_Hello{Hello: &pb.Hello{MinVersion: 2, MaxVersion: 2}}},
		{Call: &pb.Request_Exec{Exec: &pb.Exec{ContainerId: "a", ExecId: "x", Runtime: r.Runtime, Args: r.Args, PidFile: r.PidFile, Env: []string{"PATH=" + os.Getenv("PATH")}}}},
	} {
		reply := new(pb.Reply)
		if err := conn.Send(req); err != nil {
			t.Fatal(err)
		}
		fds, err := conn.Receive(reply)
		if err != nil || reply.Failure != nil || i == 1 && reply.GetExecStarted() == nil {
			t.Fatalf("the answer is %v, %v", reply, err)
		}
		for _, fd := range fds {
			syscall.Close(fd)
		}
	}
	n.eventually("the exec runs", func() bool { return len(hostPIDs(t, "\x00"+mark)) == 2 })
	if err := syscall.Kill(n.started[0], syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	n.eventually("the monitor has ended", func() bool { return ended(n.started[0]) })
	if len(hostPIDs(t, "\x00"+mark)) != 2 {
		t.Error("the exec died with the monitor")
	}
	n.connect()
	n.eventually("the exec is gone", func() bool { return len(hostPIDs(t, mark)) == 0 })
}

// The runtime's descendants must not survive it, wherever they went.
func TestExecRuntimeThatIsKilled(t *testing.T) {
	n := newNode(t)
	n.run(container{id: "a", script: "sleep 1000"})
	const mark = "22360.6797"
	hang := filepath.Join(n.dir, "hang")
	script := "#!/bin/sh\nsetsid sh -c 'sleep " + mark + " & sleep " + mark + "' &\nsleep " + mark + "\n"
	if err := os.WriteFile(hang, []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	r := n.execRequest("a", "x", "true")
	r.Runtime, r.Timeout = hang, 300*time.Millisecond
	if result, err := n.client.Exec(context.Background(), r); err != nil || !result.TimedOut {
		t.Errorf("exec gave %+v, %v", result, err)
	}
	n.eventually("the runtime's processes are gone", func() bool { return len(hostPIDs(t, mark)) == 0 })
	// The monitor is killed while the runtime runs: the next one kills the runtime.
	r = n.execRequest("a", "y", "true")
	r.Runtime = hang
	var wg sync.WaitGroup
	wg.Go(func() {
		if _, err := n.client.Exec(context.Background(), r); !errors.Is(err, monitor.ErrLost) {
			t.Errorf("exec gave %v", err)
		}
	})
	n.eventually("the runtime's processes are there", func() bool { return len(hostPIDs(t, "sleep\x00"+mark)) == 3 })
	n.killMonitor()
	wg.Wait()
	n.eventually("the runtime's processes are gone", func() bool { return len(hostPIDs(t, mark)) == 0 })
}

func TestExecWithTerminal(t *testing.T) {
	n := newNode(t)
	n.run(container{id: "a", script: "sleep 1000"})
	r := n.execRequest("a", "x", "read line; echo got $line; stty size; exit 4")
	n.writeJSON(filepath.Join(n.bundle("a"), "x.json"), specs.Process{
		Args:     []string{"sh", "-c", "read ready; read line; echo got $line; stty size; exit 4"},
		Env:      []string{"PATH=/bin"},
		Cwd:      "/",
		Terminal: true,
	})
	r.Terminal = true
	e, err := n.client.StartExec(context.Background(), r)
	if err != nil {
		t.Fatal(err)
	}
	defer e.Terminal.Close()
	if err := e.Resize(123, 45); err != nil {
		t.Error(err)
	}
	if _, err := e.Terminal.WriteString("ready\nthis\n"); err != nil {
		t.Fatal(err)
	}
	result, err := e.Wait()
	if err != nil || result.Code != 4 {
		t.Errorf("exec gave %+v, %v", result, err)
	}
	var said []string
	for lines := bufio.NewScanner(e.Terminal); lines.Scan(); {
		said = append(said, lines.Text())
	}
	if got := strings.Join(said, "|"); !strings.HasSuffix(got, "got this|45 123") {
		t.Errorf("the terminal has %q", got)
	}
}
