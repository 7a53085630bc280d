package cgroups

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// maxProcs bounds what is read of one cgroup.procs file, in bytes; with pids of
// up to seven digits that is half a million processes.
const maxProcs = 4 << 20

// signalTree sends sig to all processes in dir and below it. A hierarchy in
// which dir doesn't exist has none.
func signalTree(h Hierarchy, dir string, sig unix.Signal) error {
	if sig == unix.SIGKILL && h.Unified {
		// cgroup.kill (Linux 5.14) also kills frozen processes and those that fork
		// meanwhile.
		err := os.WriteFile(filepath.Join(dir, "cgroup.kill"), []byte("1"), 0)
		if err == nil {
			return nil
		}
		if errors.Is(err, unix.ENODEV) {
			return nil
		}
		if !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, fs.ErrPermission) {
			return fmt.Errorf("kill cgroup: %w", err)
		}
	}
	if err := signalBelow(dir, sig, 0); err != nil {
		return err
	}
	if sig == unix.SIGKILL && slices.Contains(h.Controllers, "freezer") {
		// On v1 the frozen die when they thaw. A runtime that was killed while it
		// changed device rules leaves a container frozen.
		err := os.WriteFile(filepath.Join(dir, "freezer.state"), []byte("THAWED"), 0)
		if err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, unix.ENODEV) {
			return fmt.Errorf("thaw cgroup: %w", err)
		}
	}
	return nil
}

func signalBelow(dir string, sig unix.Signal, depth int) error {
	pids, err := readProcs(dir)
	if err != nil {
		return err
	}
	for _, pid := range pids {
		if err := signalMember(dir, pid, sig); err != nil {
			return err
		}
	}
	if depth == maxDepth {
		return fmt.Errorf("signal cgroup %s: more than %d levels deep", dir, maxDepth)
	}
	children, err := subdirectories(dir)
	if err != nil {
		return err
	}
	for _, child := range children {
		if err := signalBelow(filepath.Join(dir, child), sig, depth+1); err != nil {
			return err
		}
	}
	return nil
}

// signalMember signals pid if it is in the cgroup dir. The pid may have been reused
// since the list was read, so a pidfd is opened first and the list is read again:
// then the pidfd's process was a member.
func signalMember(dir string, pid int, sig unix.Signal) error {
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		if errors.Is(err, unix.ESRCH) || errors.Is(err, unix.EINVAL) {
			return nil
		}
		return fmt.Errorf("signal cgroup %s: open pid %d: %w", dir, pid, err)
	}
	defer unix.Close(fd)
	pids, err := readProcs(dir)
	if err != nil {
		return err
	}
	for _, p := range pids {
		if p != pid {
			continue
		}
		if err := unix.PidfdSendSignal(fd, sig, nil, 0); err != nil && err != unix.ESRCH {
			return fmt.Errorf("signal cgroup %s: send %v to pid %d: %w", dir, sig, pid, err)
		}
	}
	return nil
}

// readProcs lists the processes of one cgroup, none if it is gone. Processes of
// foreign pid namespaces show as 0 and are left out.
func readProcs(dir string) ([]int, error) {
	f, err := os.Open(filepath.Join(dir, "cgroup.procs"))
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return nil, nil
		}
		return nil, fmt.Errorf("list cgroup: %w", err)
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxProcs))
	if err != nil {
		// ENODEV: the cgroup was removed meanwhile. EOPNOTSUPP: a threaded cgroup,
		// whose processes are listed in the domain above it.
		if errors.Is(err, unix.ENODEV) || errors.Is(err, unix.EOPNOTSUPP) {
			return nil, nil
		}
		return nil, fmt.Errorf("list cgroup: %w", err)
	}
	var pids []int
	for field := range strings.FieldsSeq(string(b)) {
		if pid, err := strconv.Atoi(field); err == nil && pid > 0 && pid != os.Getpid() {
			pids = append(pids, pid)
		}
	}
	return pids, nil
}
