package audit

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// processes finds the daemon's processes: itself, its monitor, runtimes and plugins by
// their arguments, executable or working directory; those of containers by their cgroup or
// root file system; and zombies that one of these should have reaped.
func processes(scope Scope, snapshot Snapshot) error {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return err
	}
	// Most processes share one mount namespace, whose table is read once.
	namespaces := map[string]bool{}
	owned := map[int]bool{}
	var zombies []process
	for _, entry := range entries {
		pid, err := strconv.Atoi(entry.Name())
		if err != nil || pid == os.Getpid() {
			continue
		}
		p := process{pid: pid}
		if p.parent, p.zombie = p.status(); p.zombie {
			zombies = append(zombies, p)
			continue
		}
		if reason := p.belongsTo(scope, namespaces); reason != "" {
			owned[pid] = true
			snapshot.add(Process, p.command(), fmt.Sprintf("pid %d, %s", pid, reason))
		}
	}
	for _, p := range zombies {
		// A zombie has neither arguments nor files, and on v1 no cgroup any more.
		if owned[p.parent] {
			snapshot.add(Process, p.command(), fmt.Sprintf("pid %d, a zombie of %d", p.pid, p.parent))
		}
	}
	return nil
}

type process struct {
	pid, parent int
	zombie      bool
}

func (p process) path(name string) string { return filepath.Join("/proc", strconv.Itoa(p.pid), name) }

// status reads the parent and whether the process is a zombie from
// /proc/PID/stat: pid (name) state parent …, where the name may hold anything.
func (p process) status() (parent int, zombie bool) {
	stat, err := os.ReadFile(p.path("stat"))
	if err != nil {
		return 0, false
	}
	fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
	if len(fields) < 2 {
		return 0, false
	}
	parent, err = strconv.Atoi(fields[1])
	return parent, err == nil && fields[0] == "Z"
}

// belongsTo returns why the process is the daemon's, or nothing. A process that ends
// meanwhile is nobody's.
func (p process) belongsTo(scope Scope, namespaces map[string]bool) string {
	if cmdline, err := os.ReadFile(p.path("cmdline")); err == nil {
		text := string(cmdline)
		if scope.mentionsDir(text) {
			return "names a directory in its arguments"
		}
		for _, id := range scope.IDs {
			if strings.Contains(text, id) {
				return "names " + id + " in its arguments"
			}
		}
	}
	for _, link := range []string{"exe", "cwd"} {
		if target, err := os.Readlink(p.path(link)); err == nil && scope.mentionsDir(target) {
			return link + " is " + target
		}
	}
	if membership, err := os.ReadFile(p.path("cgroup")); err == nil {
		for line := range strings.Lines(string(membership)) {
			// hierarchy-ID:controllers:path
			if parts := strings.SplitN(strings.TrimSpace(line), ":", 3); len(parts) == 3 && scope.ownsCgroup(parts[2]) {
				return "in cgroup " + parts[2]
			}
		}
	}
	namespace, err := os.Readlink(p.path("ns/mnt"))
	if err != nil || namespace == ownMountNamespace() {
		return ""
	}
	uses, known := namespaces[namespace]
	if !known {
		table, err := os.ReadFile(p.path("mountinfo"))
		if err != nil {
			return ""
		}
		for m := range mountsIn(table) {
			// Its root is an overlay of the daemon's layers, or one of its files is mounted
			// there.
			uses = uses || scope.mentionsDir(m.options) || scope.mentionsDir(m.root)
		}
		namespaces[namespace] = uses
	}
	if uses {
		return "has mounts of the daemon's files"
	}
	return ""
}

func ownMountNamespace() string {
	namespace, err := os.Readlink("/proc/self/ns/mnt")
	if err != nil {
		return ""
	}
	return namespace
}

// command is the command line, or the name in brackets for a zombie.
func (p process) command() string {
	if cmdline, err := os.ReadFile(p.path("cmdline")); err == nil && len(cmdline) > 0 {
		return strings.TrimSpace(string(bytes.ReplaceAll(cmdline, []byte{0}, []byte{' '})))
	}
	if name, err := os.ReadFile(p.path("comm")); err == nil {
		return "[" + strings.TrimSpace(string(name)) + "]"
	}
	return "[ended]"
}
