package monitor_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/stele-runtime/stele/executors/monitor"
)

// otherBinary builds a monitor of another version in place of the node's.
func (n *node) otherBinary(version string) {
	n.t.Helper()
	path := filepath.Join(n.dir, "stele-monitor-"+version)
	flags := []string{"-ldflags", "-X main.version=" + version}
	env := "CGO_ENABLED=0"
	if raceDetector {
		flags, env = append(flags, "-race"), "CGO_ENABLED=1"
	}
	if err := build(path, env, flags...); err != nil {
		n.t.Fatal(err)
	}
	if err := os.Rename(path, n.config.Binary); err != nil {
		n.t.Fatal(err)
	}
}

// The monitor is replaced while containers write and end and execs run.
func TestUpgrade(t *testing.T) {
	n := newNode(t)
	n.otherBinary("v2")
	const lives, count = 6, 1500
	for i := range lives {
		n.run(container{
			id:     fmt.Sprint("c", i),
			script: fmt.Sprintf("i=0; while [ $i -lt %d ]; do echo $i; echo $i >&2; i=$((i+1)); done; echo -n end; exit %d", count*(i+1), i),
		})
	}
	n.run(container{id: "a", script: "sleep 1000"})
	e, err := n.client.StartExec(context.Background(), n.execRequest("a", "x", waitForGo+"exit 21"))
	if err != nil {
		t.Fatal(err)
	}
	pid := n.started[0]
	before := descriptors(t, pid)
	const upgrades = 5
	for range upgrades {
		if err := n.client.Upgrade(context.Background()); err != nil {
			t.Fatal(err)
		}
	}
	for i, p := range n.started {
		if p != pid || i > upgrades {
			t.Errorf("monitors were started: %v", n.started)
		}
	}
	if len(n.lost) != 0 {
		t.Errorf("monitors were lost: %v", n.lost)
	}
	n.release()
	if result, err := e.Wait(); err != nil || result != (monitor.ExecResult{Code: 21}) {
		t.Errorf("the exec gave %+v, %v", result, err)
	}
	var ids []string
	for i := range lives {
		ids = append(ids, fmt.Sprint("c", i))
	}
	exits := n.exits(0, ids...)
	for i, id := range ids {
		if e := exits[id]; e.Code != i || e.Unknown != "" {
			t.Errorf("%s ended with %+v", id, e)
		}
		for _, stream := range []string{"stdout", "stderr"} {
			got := lines(n.records(n.log(id)), stream)
			if stream == "stdout" {
				if len(got) == 0 || got[len(got)-1] != "end" {
					t.Errorf("the last line of %s is missing", id)
				}
				got = got[:max(0, len(got)-1)]
			}
			n.checkNumbers(id+" "+stream, got, count*(i+1))
		}
	}
	if n.eventually("no descriptor is left over", func() bool { return descriptors(t, pid) <= before }); t.Failed() {
		t.Logf("there were %d descriptors, there are %d", before, descriptors(t, pid))
	}
}

// checkNumbers checks that lines are the numbers below count.
func (n *node) checkNumbers(what string, lines []string, count int) {
	n.t.Helper()
	for i, line := range lines {
		if line != fmt.Sprint(i) {
			n.t.Errorf("line %d of %s is %q", i, what, line)
			return
		}
	}
	if len(lines) != count {
		n.t.Errorf("%s has %d lines, want %d", what, len(lines), count)
	}
}

func descriptors(t testing.TB, pid int) int {
	t.Helper()
	fds, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid))
	if err != nil {
		t.Fatal(err)
	}
	return len(fds)
}

// A failed upgrade changes nothing.
func TestUpgradeFails(t *testing.T) {
	n := newNode(t)
	n.run(container{id: "a", script: waitForGo + "echo on; exit 3"})
	for name, program := range map[string]string{
		"no program": "nonsense",
		"says no":    "#!/bin/sh\nexit 1\n",
		// It accepts, and can't be executed a second time.
		"vanishes": "#!/bin/sh\nrm $0\n",
	} {
		if err := os.Remove(n.config.Binary); err != nil && !os.IsNotExist(err) {
			t.Fatal(err)
		}
		if err := os.WriteFile(n.config.Binary, []byte(program), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := n.client.Upgrade(context.Background()); err == nil {
			t.Errorf("%s: the upgrade succeeded", name)
		} else {
			t.Log(err)
		}
	}
	_ = os.Remove(n.config.Binary)
	if err := os.Symlink(tools.monitor, n.config.Binary); err != nil {
		t.Fatal(err)
	}
	n.run(container{id: "b", script: "exit 4"})
	n.release()
	exits := n.exits(0, "a", "b")
	if exits["a"].Code != 3 || exits["b"].Code != 4 || len(n.started) != 1 {
		t.Errorf("the exits are %+v, monitors %v", exits, n.started)
	}
	if got := lines(n.records(n.log("a")), "stdout"); len(got) != 1 || got[0] != "on" {
		t.Errorf("the log has %q", got)
	}
}

// A daemon of another version upgrades the monitor.
func TestUpgradeAtStart(t *testing.T) {
	n := newNode(t)
	n.run(container{id: "a", script: waitForGo + "exit 3"})
	n.client.Close()
	n.config.Build = "v3"
	n.connect()
	if len(n.started) != 1 {
		t.Errorf("a monitor was replaced by itself: %v", n.started)
	}
	n.client.Close()
	n.otherBinary("v3")
	var builds []string
	n.config.OnStarted = func(pid int, build string) {
		if pid != n.started[0] {
			t.Errorf("process %d was started", pid)
		}
		builds = append(builds, build)
	}
	n.connect()
	n.client.Close()
	n.connect()
	if fmt.Sprint(builds) != "[v3]" {
		t.Errorf("the builds are %v", builds)
	}
	n.release()
	if e := n.exits(0, "a")["a"]; e.Code != 3 {
		t.Errorf("a ended with %+v", e)
	}
}

// No call fails while the program is replaced, again and again.
func TestUpgradeRefusesNobody(t *testing.T) {
	n := newNode(t)
	n.otherBinary("v4")
	done := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		defer close(done)
		for range 5 {
			if err := n.client.Upgrade(context.Background()); err != nil {
				t.Error(err)
			}
		}
	})
	starts := 0
	for i := 0; ; i++ {
		select {
		case <-done:
			wg.Wait()
			if starts == 0 {
				t.Error("nothing was started meanwhile")
			}
			return
		default:
		}
		id := fmt.Sprint("c", i)
		n.run(container{id: id, script: fmt.Sprintf("exit %d", i%100)})
		if e := n.exits(uint64(i), id)[id]; e.Code != i%100 {
			t.Errorf("%s ended with %+v", id, e)
		}
		n.delete(id)
		starts++
	}
}
