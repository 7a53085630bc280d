package monitor_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/stele-runtime/stele/executors/monitor"
)

// cgroups returns /proc/PID/cgroup.
func cgroups(t *testing.T, pid int) string {
	t.Helper()
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", pid))
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// A container that runs out of memory kills nothing else, and its OOM kill is counted
// although the container is gone at the same moment.
func TestOutOfMemoryStaysInside(t *testing.T) {
	n := newNode(t)
	const limit = 4 << 20
	pid := n.started[0]
	if own := cgroups(t, pid); own != cgroups(t, os.Getpid()) {
		t.Errorf("the monitor is in other cgroups than the daemon:\n%s", own)
	}
	ids := []string{}
	for i := range 10 {
		id := fmt.Sprint("c", i)
		ids = append(ids, id)
		// The first process itself is killed: its end is the kill.
		n.run(container{id: id, memory: limit, script: "x=x; while true; do x=$x$x$x$x; done"})
	}
	for id, e := range n.exits(0, ids...) {
		if !e.OOMKilled || e.Signal != 9 {
			t.Errorf("%s ended with %+v", id, e)
		}
	}
	if own := cgroups(t, pid); strings.Contains(own, n.cgroup()) {
		t.Errorf("the monitor is in a container's cgroup:\n%s", own)
	}
	if len(n.lost) != 0 {
		t.Errorf("the monitor was killed: %v", n.lost)
	}
}

func TestOwnCgroup(t *testing.T) {
	var n *node
	// After the monitor's end.
	t.Cleanup(func() {
		for _, pattern := range []string{"/sys/fs/cgroup/*" + n.config.Cgroup, "/sys/fs/cgroup" + n.config.Cgroup} {
			dirs, _ := filepath.Glob(pattern)
			for _, dir := range dirs {
				// The monitor has answered Shutdown and may still run.
				n.eventually("the cgroup is empty", func() bool { return os.Remove(dir) == nil })
			}
		}
	})
	n = newNode(t)
	if err := n.client.Shutdown(context.Background()); err != nil {
		t.Fatal(err)
	}
	n.client.Close()
	n.config.Cgroup = n.cgroup() + "-monitor"
	n.connect()
	pid := n.started[len(n.started)-1]
	if own := cgroups(t, pid); !strings.Contains(own, "memory:"+n.config.Cgroup+"\n") && !strings.Contains(own, "0::"+n.config.Cgroup+"\n") {
		t.Errorf("the monitor is in %s", own)
	}
	p := n.run(container{id: "a", script: "sleep 1000"})
	if own := cgroups(t, p.PID); strings.Contains(own, n.config.Cgroup) {
		t.Errorf("the container is in the monitor's cgroup: %s", own)
	}
	if err := n.client.Upgrade(context.Background()); err != nil {
		t.Error(err)
	}
	// A cgroup that can't be joined is reported at once.
	elsewhere := n.config
	elsewhere.StateDir, elsewhere.Cgroup = filepath.Join(n.dir, "other"), "not/absolute"
	if c, err := monitor.Start(context.Background(), elsewhere); err == nil || !strings.Contains(err.Error(), "not/absolute") {
		t.Errorf("Start gave %v", err)
		if c != nil {
			_ = c.Shutdown(context.Background())
			c.Close()
		}
	}
}

// zombies returns a process's children that were not reaped.
func zombies(t *testing.T, parent int) []int {
	t.Helper()
	dirs, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		t.Fatal(err)
	}
	var all []int
	for _, dir := range dirs {
		data, err := os.ReadFile(filepath.Join(dir, "stat"))
		if err != nil {
			continue
		}
		fields := strings.Fields(string(data[strings.LastIndexByte(string(data), ')')+1:]))
		pid, _ := strconv.Atoi(filepath.Base(dir))
		if fields[0] == "Z" && fields[1] == strconv.Itoa(parent) {
			all = append(all, pid)
		}
	}
	return all
}

// Containers that fork and exit at once, with and without a PID namespace, leave no
// zombies, even if the monitor is upgraded.
func TestNoZombies(t *testing.T) {
	n := newNode(t)
	var ids []string
	for i := range 10 {
		id := fmt.Sprint("c", i)
		ids = append(ids, id)
		r := n.request(container{id: id, script: "for i in 1 2 3 4 5; do (setsid sh -c 'sleep 0.2 & exit 3' &) ; done; exit 1"})
		if i%2 == 0 {
			config := filepath.Join(r.Bundle, "config.json")
			data, err := os.ReadFile(config)
			if err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(config, []byte(strings.Replace(string(data), `{"type":"pid"},`, "", 1)), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := n.client.Create(context.Background(), r); err != nil {
			t.Fatal(err)
		}
		n.start(id)
		if i == 5 {
			if err := n.client.Upgrade(context.Background()); err != nil {
				t.Error(err)
			}
		}
	}
	for id, e := range n.exits(0, ids...) {
		if e.Code != 1 {
			t.Errorf("%s ended with %+v", id, e)
		}
	}
	n.eventually("the monitor has no zombies", func() bool { return len(zombies(t, n.started[0])) == 0 })
}
