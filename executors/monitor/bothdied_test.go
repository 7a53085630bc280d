package monitor_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"sync"
	"syscall"
	"testing"

	"github.com/stele-runtime/stele/executors/monitor"
)

// killBoth kills the monitor and ends the client in the given order, and waits
// until both are gone.
func (n *node) killBoth(daemonFirst bool) {
	n.t.Helper()
	n.mu.Lock()
	pid := n.started[len(n.started)-1]
	n.mu.Unlock()
	if daemonFirst {
		n.client.Close()
	}
	if err := os.Rename(n.config.Binary, n.config.Binary+".hidden"); err != nil {
		n.t.Fatal(err)
	}
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		n.t.Fatal(err)
	}
	n.eventually("the monitor has ended", func() bool { return ended(pid) })
	n.client.Close()
	if err := os.Rename(n.config.Binary+".hidden", n.config.Binary); err != nil {
		n.t.Fatal(err)
	}
}

// Monitor and daemon die, in either order: containers keep running, their logs
// continue, and their exits are known.
func TestBothDie(t *testing.T) {
	for _, daemonFirst := range []bool{true, false} {
		t.Run(fmt.Sprint("daemonFirst=", daemonFirst), func(t *testing.T) {
			n := newNode(t)
			const count = 3000
			script := fmt.Sprintf("i=0; while [ $i -lt %d ]; do echo $i; i=$((i+1)); done; "+waitForGo+"echo end; exit 6", count)
			p := n.run(container{id: "a", script: script})
			// One that has replaced its output by other files, while a child has
			// the pipes.
			n.run(container{id: "b", script: "sh -c '" + waitForGo + "echo child' & exec >/dev/null 2>&1; wait; exit 7"})
			n.eventually("there is some output", func() bool { return n.logged("a") > 100 })
			n.killBoth(daemonFirst)
			if gone(p.PID) {
				t.Error("the container died as well")
			}
			n.connect()
			n.release()
			exits := n.exits(0, "a", "b")
			for id, code := range map[string]int{"a": 6, "b": 7} {
				if e := exits[id]; e.Code != code || e.Unknown != "" {
					t.Errorf("%s ended with %+v", id, e)
				}
			}
			if exits["a"].Process != p {
				t.Errorf("the exit is that of %+v, not of %+v", exits["a"].Process, p)
			}
			got := lines(n.records(n.log("a")), "stdout")
			if len(got) == 0 || got[len(got)-1] != "end" {
				t.Errorf("the last line is missing")
			}
			n.checkNumbers("a", got[:max(0, len(got)-1)], count)
			if got := lines(n.records(n.log("b")), "stdout"); !reflect.DeepEqual(got, []string{"child"}) {
				t.Errorf("the log of b has %q", got)
			}
		})
	}
}

// A reused id: the two exits differ by their processes, and the first is not lost
// although its container was forgotten before the exit was acknowledged.
func TestExitsOfAnIdThatIsUsedAgain(t *testing.T) {
	n := newNode(t)
	first := n.run(container{id: "a", script: "exit 1"})
	n.exits(0, "a")
	n.delete("a")
	second := n.run(container{id: "a", script: "exit 2"})
	n.killBoth(true)
	n.connect()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	var exits []monitor.Exit
	for e := range n.client.Exits(ctx, 0) {
		if exits = append(exits, e); len(exits) == 2 {
			break
		}
	}
	if len(exits) != 2 || exits[0].Process != first || exits[0].Code != 1 || exits[1].Process != second {
		t.Errorf("the exits are %+v; the processes were %+v and %+v", exits, first, second)
	}
}

// The monitor dies while a runtime runs: the next one kills the runtime, and the
// container can be created.
func TestMonitorDiesInCreate(t *testing.T) {
	n := newNode(t)
	const mark = "24494.8974"
	hang := filepath.Join(n.dir, "hang")
	if err := os.WriteFile(hang, []byte("#!/bin/sh\nsetsid sleep "+mark+" &\nsleep "+mark+"\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		_, err := n.client.Create(context.Background(), n.request(container{id: "a", change: func(r *monitor.CreateRequest) { r.Runtime = hang }}))
		if !errors.Is(err, monitor.ErrLost) {
			t.Errorf("Create gave %v", err)
		}
	})
	n.eventually("the runtime is at work", func() bool { return len(hostPIDs(t, "sleep\x00"+mark)) == 2 })
	n.killMonitor()
	wg.Wait()
	n.eventually("the runtime is gone", func() bool { return len(hostPIDs(t, mark)) == 0 })
	n.run(container{id: "a", script: "exit 4"})
	if e := n.exits(0, "a")["a"]; e.Code != 4 {
		t.Errorf("a ended with %+v", e)
	}
}
