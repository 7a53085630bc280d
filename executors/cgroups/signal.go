package cgroups

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// maxProcs bounds what is read of one cgroup.procs file, in bytes; with pids of
// up to seven digits that is half a million processes.
const maxProcs = 4 << 20

// maxPasses bounds how often a cgroup is killed whose processes fork meanwhile.
const maxPasses = 16

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
	// SIGKILL is repeated while it finds processes that the pass before did not: they
	// were forked meanwhile.
	seen := map[int]bool{}
	for pass := 1; ; pass++ {
		before := len(seen)
		if err := signalBelow(dir, sig, 0, seen); err != nil {
			return err
		}
		if sig != unix.SIGKILL || len(seen) == before || pass == maxPasses {
			return nil
		}
	}
}

func signalBelow(dir string, sig unix.Signal, depth int, seen map[int]bool) error {
	pids, err := readProcs(dir)
	if err != nil {
		return err
	}
	for _, pid := range pids {
		seen[pid] = true
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
		if err := signalBelow(filepath.Join(dir, child), sig, depth+1, seen); err != nil {
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
