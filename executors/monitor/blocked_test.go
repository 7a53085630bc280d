package monitor_test

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/stele-runtime/stele/executors/monitor"
)

// blocking runs a container that may not make directories.
func blocking(n *node, id, script string, stopAfter, stopAtMost time.Duration) {
	n.t.Helper()
	n.run(container{id: id, script: script, change: func(r *monitor.CreateRequest) {
		r.Notifier = &monitor.Notifier{
			Path: filepath.Join(n.dir, id+".sock"), Error: uint32(unix.EACCES), StopAfter: stopAfter, StopAtMost: stopAtMost,
		}
		path := filepath.Join(n.bundle(id), "config.json")
		data, err := os.ReadFile(path)
		if err != nil {
			n.t.Fatal(err)
		}
		var spec specs.Spec
		if err := json.Unmarshal(data, &spec); err != nil {
			n.t.Fatal(err)
		}
		spec.Linux.Seccomp = &specs.LinuxSeccomp{
			DefaultAction: specs.ActAllow, ListenerPath: r.Notifier.Path,
			Syscalls: []specs.LinuxSyscall{{Names: []string{"mkdir", "mkdirat"}, Action: specs.ActNotify}},
		}
		n.writeJSON(path, spec)
	}})
}

// blocked waits until what a container was forbidden is as wanted.
func blocked(n *node, id string, wanted func(monitor.Blocked) bool) monitor.Blocked {
	n.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	var last monitor.Blocked
	for b := range n.client.Blocked(ctx) {
		if b.ContainerID == id {
			if last = b; wanted(b) {
				return b
			}
		}
	}
	n.t.Fatalf("the forbidden calls of %s are %+v", id, last)
	return last
}

// made adds up calls.
func made(b monitor.Blocked) (count uint64) {
	for _, call := range b.Calls {
		count += call.Count
	}
	return count
}

func atLeast(count uint64) func(monitor.Blocked) bool {
	return func(b monitor.Blocked) bool { return made(b) >= count }
}

// says counts the lines of a container's log with a word.
func says(n *node, id, word string) (count int) {
	for _, r := range n.records(n.log(id)) {
		if strings.Contains(r.content, word) {
			count++
		}
	}
	return count
}

// Forbidden calls are answered and counted, whoever lives: of the container's own process and of
// commands in it.
func TestBlocked(t *testing.T) {
	n := newNode(t)
	ctx := context.Background()
	blocking(n, "a", "while [ ! -e /go ]; do busybox mkdir /tmp/x; sleep 0.05; done; exit 7", 0, 0)
	const denied, unimplemented = "Permission denied", "not implemented"
	mkdir := func(execID string) string {
		t.Helper()
		_, out, err := n.exec(ctx, n.execRequest("a", execID, "busybox mkdir /tmp/y 2>&1"))
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	b := blocked(n, "a", atLeast(2))
	if len(b.Calls) != 1 || b.Calls[0].Arch == 0 || !slices.Contains([]int32{unix.SYS_MKDIRAT, 83}, b.Calls[0].Number) || b.Others != 0 || b.Stop {
		t.Errorf("the calls are %+v", b)
	}
	if out := mkdir("x1"); !strings.Contains(out, denied) {
		t.Errorf("a command was told %q", out)
	}
	n.client.Close()
	before := says(n, "a", denied)
	n.eventually("calls are answered without a daemon", func() bool { return says(n, "a", denied) > before })
	n.connect()
	b = blocked(n, "a", atLeast(made(b)+2))
	if err := n.client.Upgrade(ctx); err != nil {
		t.Fatal(err)
	}
	b = blocked(n, "a", atLeast(made(b)+2))
	if out := mkdir("x2"); !strings.Contains(out, denied) {
		t.Errorf("after an upgrade, a command was told %q", out)
	}
	if says(n, "a", unimplemented) > 0 {
		t.Error("the kernel answered during an upgrade")
	}
	n.killMonitor()
	n.eventually("the kernel answers", func() bool { return says(n, "a", unimplemented) > 1 })
	after := blocked(n, "a", atLeast(made(b)))
	if out := mkdir("x3"); !strings.Contains(out, denied) {
		t.Errorf("with another monitor, a command was told %q", out)
	}
	blocked(n, "a", atLeast(made(after)+1))
	n.release()
	if e := n.exits(0, "a")["a"]; e.Code != 7 || !strings.Contains(e.Note, "not counted") {
		t.Errorf("a ended with %+v", e)
	}
	n.delete("a")
	if _, err := os.Lstat(filepath.Join(n.dir, "a.sock")); !os.IsNotExist(err) {
		t.Errorf("the socket is left: %v", err)
	}
}

// A container is due to be stopped when it has made no more forbidden calls for a time, or has made
// them for long enough; and that is remembered.
func TestBlockedStop(t *testing.T) {
	n := newNode(t)
	const hour = time.Hour
	blocking(n, "once", "busybox mkdir /tmp/x; "+waitForGo, 10*time.Millisecond, hour)
	blocking(n, "again", "while [ ! -e /go ]; do busybox mkdir /tmp/x; sleep 0.05; done", hour, time.Millisecond)
	blocking(n, "patient", "busybox mkdir /tmp/x; "+waitForGo, hour, hour)
	blocking(n, "good", waitForGo, time.Millisecond, time.Millisecond)
	stop := func(b monitor.Blocked) bool { return b.Stop }
	blocked(n, "once", stop)
	blocked(n, "again", stop)
	n.killMonitor()
	blocked(n, "once", stop)
	blocked(n, "again", stop)
	if b := blocked(n, "patient", atLeast(1)); b.Stop {
		t.Errorf("a container is due before its time: %+v", b)
	}
	n.release()
	for id, e := range n.exits(0, "once", "again", "patient", "good") {
		if e.Unknown != "" || e.Code != 0 {
			t.Errorf("%s ended with %+v", id, e)
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	seen := map[string]bool{}
	for b := range n.client.Blocked(ctx) {
		if seen[b.ContainerID] = true; len(seen) == 3 {
			break
		}
	}
	if seen["good"] {
		t.Error("a container without forbidden calls is reported")
	}
}

// A path serves one container, and a creation that fails leaves none.
func TestBlockedPath(t *testing.T) {
	n := newNode(t)
	blocking(n, "a", waitForGo, 0, 0)
	path := filepath.Join(n.dir, "a.sock")
	for name, notifier := range map[string]*monitor.Notifier{"taken": {Path: path}, "relative": {Path: "b.sock"}} {
		r := n.request(container{id: "b", script: "exit 0"})
		r.Notifier = notifier
		if _, err := n.client.Create(context.Background(), r); err == nil || !strings.Contains(err.Error(), notifier.Path) {
			t.Errorf("%s: %v", name, err)
		}
	}
	r := n.request(container{id: "b", script: "exit 0"})
	r.Notifier, r.Runtime = &monitor.Notifier{Path: filepath.Join(n.dir, "b.sock")}, "/bin/false"
	if _, err := n.client.Create(context.Background(), r); err == nil {
		t.Error("a runtime that fails has created a container")
	}
	if _, err := os.Lstat(r.Notifier.Path); !os.IsNotExist(err) {
		t.Errorf("the socket of a failed creation is left: %v", err)
	}
	if out, _, err := n.exec(context.Background(), n.execRequest("a", "x", "busybox mkdir /tmp/y")); err != nil || out.Code == 0 {
		t.Errorf("a command in the container made a directory: %v, %v", out, err)
	}
	blocked(n, "a", atLeast(1))
	n.release()
}
