package cgroups

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// Warm makes the next migration into a cgroup a fast one, without waiting for it. The first after
// a quiet while waits for a grace period of the kernel's RCU, some ten milliseconds, before
// anything is migrated; one shortly after it does not. So who is about to have a runtime executed,
// which joins the container's cgroups only when it has loaded and read its bundle, lets the wait
// begin now: this process is written to the cgroup in which it is.
//
// One call at a time does that, in a goroutine that ends with it. Where it cannot be done,
// nothing happens.
func (m *Manager) Warm() {
	if !m.warming.CompareAndSwap(false, true) {
		return
	}
	go func() {
		defer m.warming.Store(false)
		if own, err := os.ReadFile("/proc/self/cgroup"); err == nil {
			if procs := m.node.procsOf(string(own)); procs != "" {
				_ = os.WriteFile(procs, []byte("0"), 0)
			}
		}
	}()
}

// procsOf returns the cgroup.procs of a process whose /proc/PID/cgroup is given, in the first
// hierarchy that has controllers; empty if there is none.
func (n *Node) procsOf(membership string) string {
	for _, h := range n.Hierarchies {
		if len(h.Controllers) == 0 {
			continue
		}
		for line := range strings.Lines(membership) {
			// Number, controllers, path; cgroup v2 has no controllers (cgroups(7)).
			fields := strings.SplitN(strings.TrimSuffix(line, "\n"), ":", 3)
			if len(fields) != 3 {
				continue
			}
			if h.Unified && fields[1] == "" || !h.Unified && slices.Contains(strings.Split(fields[1], ","), h.Controllers[0]) {
				return filepath.Join(h.Mountpoint, fields[2], "cgroup.procs")
			}
		}
	}
	return ""
}
