package monitor_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"syscall"
	"testing"
	"time"

	"github.com/stele-runtime/stele/executors/monitor"
)

// The next daemon learns what ended while there was none.
func TestDaemonDies(t *testing.T) {
	n := newNode(t)
	n.run(container{id: "a", script: waitForGo + "echo late; exit 5"})
	n.run(container{id: "b", script: "sleep 1000"})
	journal := func() int64 {
		info, err := os.Stat(filepath.Join(n.config.StateDir, "monitor", "journal"))
		if err != nil {
			t.Fatal(err)
		}
		return info.Size()
	}
	before := journal()
	n.client.Close()
	n.release()
	n.eventually("the monitor has noted the exit", func() bool { return journal() > before })
	noted := time.Now()
	n.connect()
	if len(n.started) != 1 {
		t.Errorf("monitors were started: %v", n.started)
	}
	e := n.exits(0, "a")["a"]
	if e.Code != 5 || e.Time.After(noted) {
		t.Errorf("the exit is %+v, and was noted by %v", e, noted)
	}
	if got := lines(n.records(n.log("a")), "stdout"); len(got) != 1 || got[0] != "late" {
		t.Errorf("the log has %q", got)
	}
	// An acknowledged exit is not repeated; the next one has the next number.
	if err := n.client.Ack(context.Background(), e.Seq); err != nil {
		t.Fatal(err)
	}
	n.client.Close()
	n.connect()
	if err := n.client.Signal(context.Background(), "b", int(syscall.SIGTERM)); err != nil {
		t.Fatal(err)
	}
	if err := n.client.Signal(context.Background(), "b", int(syscall.SIGKILL)); err != nil {
		t.Fatal(err)
	}
	exits := n.exits(0, "b")
	if len(exits) != 1 || exits["b"].Seq != e.Seq+1 || exits["b"].Signal != int(syscall.SIGKILL) {
		t.Errorf("the exits are %+v after number %d", exits, e.Seq)
	}
}

// Numbers continue above the daemon's, even if the monitor has lost its journal.
func TestNumbersAreNotGivenTwice(t *testing.T) {
	n := newNode(t)
	n.client.Close()
	n.config.LastExit = 1000
	n.connect()
	n.run(container{id: "a", script: "exit 1"})
	if e := n.exits(1000, "a")["a"]; e.Seq != 1001 {
		t.Errorf("the exit has number %d", e.Seq)
	}
}

func TestOneMonitor(t *testing.T) {
	n := newNode(t)
	err := exec.Command(tools.monitor, "-dir", filepath.Join(n.config.StateDir, "monitor")).Run()
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.ExitCode() != 3 {
		t.Errorf("a second monitor gave %v", err)
	}
	// A second daemon meets the same one.
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	second, err := monitor.Start(ctx, n.config)
	if err != nil {
		t.Fatal(err)
	}
	second.Close()
	if len(n.started) != 1 {
		t.Errorf("monitors were started: %v", n.started)
	}
}

// kill kills the monitor and waits until the client has another.
func (n *node) killMonitor() {
	n.t.Helper()
	n.mu.Lock()
	count, pid := len(n.started), n.started[len(n.started)-1]
	n.mu.Unlock()
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		n.t.Fatal(err)
	}
	n.eventually("another monitor was started", func() bool {
		n.mu.Lock()
		defer n.mu.Unlock()
		return len(n.started) == count+1
	})
}

func TestMonitorDies(t *testing.T) {
	n := newNode(t)
	p := n.run(container{id: "a", script: "i=0; while [ $i -lt 300 ]; do echo $i; i=$((i+1)); sleep 0.005; done; exit 6"})
	n.run(container{id: "b", script: "exit 9"})
	if e := n.exits(0, "b")["b"]; e.Code != 9 {
		t.Errorf("b ended with %+v", e)
	}
	n.eventually("there is some output", func() bool { return n.logged("a") > 10 })
	n.killMonitor()
	if len(n.lost) != 1 {
		t.Errorf("losses were reported: %v", n.lost)
	}
	exits := n.exits(0, "a", "b")
	if e := exits["a"]; e.Code != 6 || e.Unknown != "" {
		t.Errorf("a ended with %+v", e)
	}
	if exits["b"].Seq != 1 || exits["b"].Code != 9 {
		t.Errorf("b, unacknowledged, came again as %+v", exits["b"])
	}
	list, err := n.client.List(context.Background())
	if err != nil || len(list) != 2 || list[0].Process != p {
		t.Errorf("List gave %+v, %v", list, err)
	}
	for i, line := range lines(n.records(n.log("a")), "stdout") {
		if line != fmt.Sprint(i) {
			t.Fatalf("line %d of the log is %q", i, line)
		}
	}
}

// withoutMonitor kills the monitor, does something, and lets the client have
// another.
func (n *node) withoutMonitor(do func()) {
	n.t.Helper()
	n.mu.Lock()
	pid := n.started[len(n.started)-1]
	n.mu.Unlock()
	hidden := n.config.Binary + ".hidden"
	if err := os.Rename(n.config.Binary, hidden); err != nil {
		n.t.Fatal(err)
	}
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		n.t.Fatal(err)
	}
	n.eventually("the monitor has ended", func() bool { return ended(pid) })
	do()
	if err := os.Rename(hidden, n.config.Binary); err != nil {
		n.t.Fatal(err)
	}
}

// A container that ends while there is no monitor.
func TestExitInTheGap(t *testing.T) {
	n := newNode(t)
	p := n.run(container{id: "a", script: "sleep 0.5; exit 11"})
	n.withoutMonitor(func() {
		n.eventually("the container has ended", func() bool { return gone(p.PID) })
	})
	if e := n.exits(0, "a")["a"]; e.Code != 11 || e.Unknown != "" {
		t.Errorf("the exit is %+v", e)
	}
}

// The state directory was wiped: the daemon's duplicates are enough.
func TestJournalIsLost(t *testing.T) {
	n := newNode(t)
	ended := n.run(container{id: "a", script: "echo unread; exit 13"})
	n.exits(0, "a")
	p := n.run(container{id: "b", script: "sleep 0.5; echo in the gap; exit 14"})
	n.run(container{id: "c", script: "while [ ! -e /go ]; do sleep 0.05; done; echo after it; exit 15", change: func(r *monitor.CreateRequest) { r.Stdin = true }})
	n.withoutMonitor(func() {
		n.eventually("the containers have ended", func() bool { return gone(ended.PID) && gone(p.PID) })
		if err := os.Remove(filepath.Join(n.config.StateDir, "monitor", "journal")); err != nil {
			t.Fatal(err)
		}
	})
	if err := os.WriteFile(filepath.Join(n.rootfs, "go"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	exits := n.exits(1, "a", "b", "c")
	for id, code := range map[string]int{"a": 13, "b": 14, "c": 15} {
		if e := exits[id]; e.Code != code || e.Unknown != "" {
			t.Errorf("%s ended with %+v", id, e)
		}
	}
	for id, want := range map[string]string{"a": "unread", "b": "in the gap", "c": "after it"} {
		if got := lines(n.records(n.log(id)), "stdout"); len(got) != 1 || got[0] != want {
			t.Errorf("the log of %s has %q", id, got)
		}
	}
}

// Monitor and daemon die, and a container meanwhile: its exit is unknown.
func TestNobodySaw(t *testing.T) {
	n := newNode(t)
	p := n.run(container{id: "a", script: "sleep 0.5; exit 11"})
	n.run(container{id: "b", script: "while [ ! -e /go ]; do sleep 0.05; done; echo still logged; exit 12"})
	n.client.Close()
	if err := syscall.Kill(n.started[0], syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	n.eventually("the monitor and the container have ended", func() bool { return ended(n.started[0]) && gone(p.PID) })
	n.connect()
	if err := os.WriteFile(filepath.Join(n.rootfs, "go"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	exits := n.exits(0, "a", "b")
	if exits["a"].Unknown == "" {
		t.Errorf("the exit that nobody saw is %+v", exits["a"])
	}
	if e := exits["b"]; e.Code != 12 || e.Unknown != "" {
		t.Errorf("the exit that the second monitor saw is %+v", e)
	}
	if got := lines(n.records(n.log("b")), "stdout"); len(got) != 1 || got[0] != "still logged" {
		t.Errorf("the log has %q", got)
	}
}

func TestJournalIsDamaged(t *testing.T) {
	n := newNode(t)
	n.run(container{id: "a", script: "exit 1"})
	n.run(container{id: "b", script: "exit 2"})
	first := n.exits(0, "a", "b")
	n.client.Close()
	if err := syscall.Kill(n.started[0], syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	n.eventually("the monitor has ended", func() bool { return ended(n.started[0]) })
	journal := filepath.Join(n.config.StateDir, "monitor", "journal")
	data, err := os.ReadFile(journal)
	if err != nil {
		t.Fatal(err)
	}
	data[len(data)-1] ^= 1
	if err := os.WriteFile(journal, data, 0o600); err != nil {
		t.Fatal(err)
	}
	n.connect()
	if aside, err := filepath.Glob(journal + ".damaged-*"); err != nil || len(aside) != 1 {
		t.Errorf("put aside: %v, %v", aside, err)
	}
	// The later exit was in the damaged record: the container is known, and its exit
	// is reported as unknown.
	second := n.exits(0, "a", "b")
	lost := "a"
	if first["b"].Seq > first["a"].Seq {
		lost = "b"
	}
	for id, e := range second {
		switch {
		case id != lost && e != first[id]:
			t.Errorf("the exit of %s was %+v and is %+v", id, first[id], e)
		case id == lost && (e.Unknown == "" || e.Seq <= 1<<32):
			t.Errorf("the exit of %s is %+v", id, e)
		}
	}
}

// A monitor that cannot reopen a log continues without it, and counts what is lost
// until ReopenLog.
func TestLogGoneWhenMonitorDies(t *testing.T) {
	n := newNode(t)
	n.run(container{id: "a", script: `echo first
		while [ ! -e /lose ]; do sleep 0.02; done; echo 0123456789
		while [ ! -e /go ]; do sleep 0.02; done; echo last; exit 7`})
	n.eventually("there is some output", func() bool { return len(n.records(n.log("a"))) == 1 })
	dir := filepath.Dir(n.log("a"))
	if err := os.Rename(dir, dir+".old"); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(dir, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	n.killMonitor()
	n.touch("lose")
	n.eventually("the loss is counted", func() bool {
		list, err := n.client.List(context.Background())
		return err == nil && len(list) == 1 && list[0].LogLost == 10 && list[0].LogError != ""
	})
	if err := os.Remove(dir); err != nil {
		t.Fatal(err)
	}
	if err := n.client.ReopenLog(context.Background(), "a"); err != nil {
		t.Fatal(err)
	}
	n.touch("go")
	if e := n.exits(0, "a")["a"]; e.Code != 7 {
		t.Errorf("the exit is %+v", e)
	}
	if got := lines(n.records(n.log("a")), "stdout"); len(got) != 1 || got[0] != "last" {
		t.Errorf("the new log has %q", got)
	}
}

// Output of processes that outlive a container's first is logged by the next monitor
// too.
func TestWritersAreLeftWhenMonitorDies(t *testing.T) {
	for _, both := range []bool{false, true} {
		t.Run(fmt.Sprint("both=", both), func(t *testing.T) {
			n := newNode(t)
			n.run(container{id: "a", hostPID: true, script: `echo first; (` + waitForGo + `echo last) & exit 7`})
			if e := n.exits(0, "a")["a"]; e.Code != 7 {
				t.Errorf("the exit is %+v", e)
			}
			if both {
				n.killBoth(true)
				n.connect()
			} else {
				n.killMonitor()
			}
			n.release()
			n.eventually("the last word is in the log", func() bool {
				return reflect.DeepEqual(lines(n.records(n.log("a")), "stdout"), []string{"first", "last"})
			})
		})
	}
}
