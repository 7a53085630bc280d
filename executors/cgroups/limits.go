package cgroups

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"

	"golang.org/x/sys/unix"
)

// maxNumber bounds a file with one number, in bytes.
const maxNumber = 64

// noLimit is more memory than any node has: v1 says "no limit" by the largest multiple of a page.
const noLimit = 1 << 60

// MemoryUsed returns how many bytes of memory a container uses, its part of the page
// cache included: what its memory limit limits. Without the controller it is 0.
func (m *Manager) MemoryUsed(cgroupsPath, id string) (int64, error) {
	dir, h, err := m.own("memory", cgroupsPath, id)
	if err != nil || dir == "" {
		return 0, err
	}
	file := "memory.usage_in_bytes"
	if h.Unified {
		file = "memory.current"
	}
	used, err := readNumber(filepath.Join(dir, file))
	if err != nil {
		return 0, fmt.Errorf("read the memory that a container uses: %w", err)
	}
	return used, nil
}

// PodMemoryLimit returns the memory limit of the cgroup that the kubelet made for a pod, in bytes;
// 0 if it has none, is not there yet, or nobody counts memory.
func (m *Manager) PodMemoryLimit(parent string) (int64, error) {
	h, is := m.node.Find("memory")
	if parent == "" || !is {
		return 0, nil
	}
	rel, err := m.SandboxCgroup(parent, "")
	if err != nil {
		return 0, err
	}
	file := "memory.limit_in_bytes"
	if h.Unified {
		file = "memory.max"
	}
	text, err := readSmall(filepath.Join(h.Mountpoint, rel, file))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return 0, nil
	case err != nil:
		return 0, fmt.Errorf("read the memory limit of a pod: %w", err)
	}
	limit, err := strconv.ParseInt(string(bytes.TrimSpace(text)), 10, 64)
	if err != nil || limit > noLimit {
		return 0, nil // "max", or what v1 has in its place
	}
	return limit, nil
}

// SetHugepages limits the huge pages of one size ("2MB"), in bytes, that a container
// uses and reserves, and returns how to set what was there before.
func (m *Manager) SetHugepages(cgroupsPath, id, pageSize string, limit uint64) (undo func() error, err error) {
	dir, h, err := m.own("hugetlb", cgroupsPath, id)
	if err == nil && dir == "" {
		err = errors.New("there is no controller for huge pages")
	}
	if err != nil {
		return nil, fmt.Errorf("limit huge pages: %w", err)
	}
	files := []string{"limit_in_bytes", "rsvd.limit_in_bytes"}
	if h.Unified {
		files = []string{"max", "rsvd.max"}
	}
	var undoing []func() error
	undo = func() error {
		var errs []error
		for _, step := range undoing {
			errs = append(errs, step())
		}
		return errors.Join(errs...)
	}
	for i, file := range files {
		path := filepath.Join(dir, "hugetlb."+pageSize+"."+file)
		before, err := readSmall(path)
		if i > 0 && errors.Is(err, fs.ErrNotExist) {
			continue // before Linux 5.7
		}
		if err == nil {
			err = writeFile(path, strconv.FormatUint(limit, 10))
		}
		if err != nil {
			return nil, errors.Join(fmt.Errorf("limit huge pages: %w", err), undo())
		}
		undoing = append(undoing, func() error { return writeFile(path, string(bytes.TrimSpace(before))) })
	}
	return undo, nil
}

// own returns the directory that has a container's limits of a controller; empty if no
// hierarchy has the controller. With systemd, crun sets limits in a cgroup of its own
// below the scope.
func (m *Manager) own(controller, cgroupsPath, id string) (string, Hierarchy, error) {
	rel, err := m.containerRelative(cgroupsPath, id)
	if err != nil {
		return "", Hierarchy{}, err
	}
	h, is := m.node.Find(controller)
	if !is {
		return "", Hierarchy{}, nil
	}
	dir := filepath.Join(h.Mountpoint, rel)
	if m.driver == Systemd {
		if below := filepath.Join(dir, "container"); isDir(below) {
			return below, h, nil
		}
	}
	if !isDir(dir) {
		return "", h, fmt.Errorf("cgroup %s is not there", dir)
	}
	return dir, h, nil
}

// SetOOMScoreAdj sets the oom_score_adj of a container's first process, and of all its
// processes that have the same one: those that made another choice keep it. It returns
// what the first process had before.
func (m *Manager) SetOOMScoreAdj(cgroupsPath, id string, init, adj int) (before int, err error) {
	rel, err := m.containerRelative(cgroupsPath, id)
	if err != nil {
		return 0, fmt.Errorf("set oom_score_adj: %w", err)
	}
	was, err := readNumber(fmt.Sprintf("/proc/%d/oom_score_adj", init))
	if err != nil {
		return 0, fmt.Errorf("set oom_score_adj: %w", err)
	}
	if int(was) == adj {
		return adj, nil
	}
	for _, h := range m.node.Hierarchies {
		dir := filepath.Join(h.Mountpoint, rel)
		if m.node.Layout != V2 && h.Unified || !isDir(dir) {
			continue
		}
		change := &oomChange{from: int(was), to: adj, init: init}
		// The first process comes last: if this is interrupted, it still tells the next
		// try what the others had.
		err := change.untilNoneIsLeft(dir)
		if err == nil && change.initIn == "" {
			err = fmt.Errorf("process %d has ended", init)
		}
		if err == nil {
			err = change.of(change.initIn, init)
		}
		if err != nil {
			return 0, fmt.Errorf("set oom_score_adj: %w", err)
		}
		return int(was), nil
	}
	return 0, fmt.Errorf("set oom_score_adj: the cgroup %s is not there", rel)
}

// oomChange changes the oom_score_adj of processes.
type oomChange struct {
	from, to int
	// init is the container's first process, initIn the cgroup in which it was seen.
	init   int
	initIn string
	// changed counts processes.
	changed int
}

// untilNoneIsLeft changes processes until a pass finds none: some are forked meanwhile,
// from those that were not changed yet.
func (c *oomChange) untilNoneIsLeft(dir string) error {
	for range maxPasses {
		before := c.changed
		if err := c.below(dir, 0); err != nil {
			return err
		}
		if c.changed == before {
			return nil
		}
	}
	return nil
}

func (c *oomChange) below(dir string, depth int) error {
	pids, err := readProcs(dir)
	if err != nil {
		return err
	}
	for _, pid := range pids {
		if pid == c.init {
			c.initIn = dir
			continue
		}
		if err := c.of(dir, pid); err != nil {
			return err
		}
	}
	if depth == maxDepth {
		return fmt.Errorf("cgroup %s: more than %d levels deep", dir, maxDepth)
	}
	children, err := subdirectories(dir)
	if err != nil {
		return err
	}
	for _, child := range children {
		if err := c.below(filepath.Join(dir, child), depth+1); err != nil {
			return err
		}
	}
	return nil
}

// of changes one process, if it has not ended. Its directory in /proc is opened before
// the cgroup is asked whether it is a member: a pid may be reused, the directory stays
// that of the one process.
func (c *oomChange) of(dir string, pid int) error {
	proc, err := unix.Open(fmt.Sprintf("/proc/%d", pid), unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if errors.Is(err, unix.ENOENT) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("open process %d: %w", pid, err)
	}
	defer unix.Close(proc)
	if member, err := isMember(dir, pid); err != nil || !member {
		return err
	}
	fd, err := unix.Openat(proc, "oom_score_adj", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return ifNotEnded(pid, err)
	}
	f := os.NewFile(uintptr(fd), "oom_score_adj")
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxNumber))
	if err != nil {
		return ifNotEnded(pid, err)
	}
	if has, err := strconv.Atoi(string(bytes.TrimSpace(text))); err != nil || has != c.from {
		return err
	}
	if _, err := f.WriteAt([]byte(strconv.Itoa(c.to)), 0); err != nil {
		return ifNotEnded(pid, err)
	}
	c.changed++
	return nil
}

func isMember(dir string, pid int) (bool, error) {
	pids, err := readProcs(dir)
	if err != nil {
		return false, err
	}
	for _, p := range pids {
		if p == pid {
			return true, nil
		}
	}
	return false, nil
}

// ifNotEnded is the error of a process that has not ended.
func ifNotEnded(pid int, err error) error {
	if errors.Is(err, unix.ESRCH) || errors.Is(err, unix.ENOENT) {
		return nil
	}
	return fmt.Errorf("oom_score_adj of process %d: %w", pid, err)
}

func readNumber(path string) (int64, error) {
	text, err := readSmall(path)
	if err != nil {
		return 0, err
	}
	n, err := strconv.ParseInt(string(bytes.TrimSpace(text)), 10, 64)
	if err != nil {
		return 0, fmt.Errorf("%s: %w", path, err)
	}
	return n, nil
}

func readSmall(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, maxNumber))
}

// writeFile writes into a file that must be there.
func writeFile(path, value string) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_TRUNC, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteString(value)
	return errors.Join(err, f.Close())
}

func isDir(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.IsDir()
}
