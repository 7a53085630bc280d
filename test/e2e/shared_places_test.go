package e2e

import (
	"bytes"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// What pods share with the node and with each other is closed to others.
func TestSharedPlaces(t *testing.T) {
	t.Parallel()
	h := New(t, programs, Options{})
	config := h.PodConfig("shared")
	config.Linux.SecurityContext.NamespaceOptions.Pid = runtimeapi.NamespaceMode_POD
	pod := h.RunPod(config)
	id := pod.Run(h.ContainerConfig("c"))
	t.Run("CVE-2024-25621, CVE-2021-41103", func(t *testing.T) { sharedClosedToOthers(t, h.In(t)) })
	t.Run("CVE-2020-15257", func(t *testing.T) { sharedNoAbstractSockets(t, h.In(t)) })
	t.Run("CVE-2019-14891", func(t *testing.T) { sharedMonitorOutside(t, h.In(t)) })
	t.Run("files of etc", func(t *testing.T) { sharedFilesAreBounded(t, h.In(t), id) })
}

// asNobody runs a program as a user who owns nothing.
func asNobody(program string, args ...string) (string, error) {
	cmd := exec.Command(program, args...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	out, err := cmd.Output()
	return string(out), err
}

// CVE-2024-25621, CVE-2021-41103: another user walks the daemon's directories, and tries
// what the node's mounts tell of them.
func sharedClosedToOthers(t *testing.T, h *Harness) {
	for _, dir := range []string{h.State, h.Root} {
		if out, err := asNobody("find", dir, "-mindepth", "1"); out != "" || err == nil {
			t.Errorf("nobody finds in %s (%v):\n%s", dir, err, out)
		}
	}
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	tried := 0
	for line := range strings.Lines(string(mounts)) {
		point := strings.Fields(line)[4]
		if !strings.HasPrefix(point, h.State+"/") && !strings.HasPrefix(point, h.Root+"/") {
			continue
		}
		tried++
		if out, err := asNobody("ls", "-ld", point); err == nil {
			t.Errorf("nobody reaches %s", out)
		}
	}
	if tried < 3 {
		t.Errorf("only %d mounts were tried", tried)
	}
}

// CVE-2020-15257: an abstract socket has no permissions, and a container in the node's
// network reaches it. Sockets in the file system are root's.
func sharedNoAbstractSockets(t *testing.T, h *Harness) {
	for _, pid := range append(h.MonitorPIDs(), h.Daemon.PID()) {
		table, err := os.ReadFile(fmt.Sprintf("/proc/%d/net/unix", pid))
		if err != nil {
			t.Fatal(err)
		}
		own := openSockets(t, pid)
		if len(own) == 0 {
			t.Errorf("process %d has no socket", pid)
		}
		for line := range strings.Lines(string(table)) {
			if f := strings.Fields(line); len(f) > 7 && slices.Contains(own, f[6]) && strings.HasPrefix(f[7], "@") {
				t.Errorf("process %d has the abstract socket %s", pid, f[7])
			}
		}
	}
	err := filepath.WalkDir(h.State, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.Type() != fs.ModeSocket {
			return err
		}
		if info, err := entry.Info(); err != nil || info.Mode().Perm()&0o077 != 0 {
			t.Errorf("socket %s: mode %v, %v", path, info.Mode(), err)
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}

// openSockets returns the inodes of a process's sockets.
func openSockets(t *testing.T, pid int) []string {
	t.Helper()
	dir := fmt.Sprintf("/proc/%d/fd", pid)
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var inodes []string
	for _, entry := range entries {
		link, _ := os.Readlink(filepath.Join(dir, entry.Name())) // it may be closed by now
		if inode, ok := strings.CutPrefix(link, "socket:["); ok {
			inodes = append(inodes, strings.TrimSuffix(inode, "]"))
		}
	}
	return inodes
}

// CVE-2019-14891: a pod that is out of memory does not take its monitor with it.
func sharedMonitorOutside(t *testing.T, h *Harness) {
	for _, pid := range append(h.MonitorPIDs(), h.Daemon.PID()) {
		cgroups, err := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", pid))
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(string(cgroups), h.CgroupParent+"/") {
			t.Errorf("process %d is in a pod's cgroup:\n%s", pid, cgroups)
		}
	}
}

// A container that writes to the files that it was given of /etc, until it cannot, takes
// little of the node's memory, and can neither run nor mark anything there.
func sharedFilesAreBounded(t *testing.T, h *Harness, id string) {
	for _, file := range []string{"/etc/hostname", "/etc/hosts", "/etc/resolv.conf"} {
		if answer := h.ExecSync(id, "sh", "-c", "cat /dev/zero > "+file); answer.ExitCode == 0 || !bytes.Contains(answer.Stderr, []byte("No space left")) {
			t.Errorf("%s: exit code %d, %q", file, answer.ExitCode, answer.Stderr)
		}
		var stat unix.Statfs_t
		err := unix.Statfs(fmt.Sprintf("/proc/%d/root%s", h.ContainerPID(id), file), &stat)
		const flags = unix.ST_NOSUID | unix.ST_NODEV | unix.ST_NOEXEC
		if size := stat.Blocks * uint64(stat.Bsize); err != nil || stat.Flags&flags != flags || size > 8<<20 {
			t.Errorf("%s: flags %#x, %d bytes, %v", file, stat.Flags, size, err)
		}
		h.Exec(id, "sh", "-c", ": > "+file)
	}
}
