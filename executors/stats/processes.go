package stats

import (
	"bytes"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

const (
	// maxBelow bounds how many cgroups are visited below one: a container can make its own.
	maxBelow = 256
	// maxDescriptors bounds how many descriptors of a container are looked at to tell
	// sockets from others.
	maxDescriptors = 16 << 10
)

// processes returns the ids of the processes in a cgroup and those below it, as they are
// seen here; not all, if there are more cgroups or processes than the bounds. below are the
// names of cgroups directly below it that are known.
func processes(cgroup directory, below []string) (pids []int, there bool) {
	visited := 0
	var visit func(dir directory, below []string)
	visit = func(dir directory, below []string) {
		visited++
		count, is := dir.children()
		if !is || visited > maxBelow {
			return
		}
		there = true
		pids = append(pids, members(dir)...)
		switch count {
		case 0:
			return
		case uint64(len(below)): // those that are known, which saves reading the directory
		default:
			below = dir.list()
		}
		for _, name := range below {
			visit(dir.in(name), nil)
		}
	}
	visit(cgroup, below)
	return pids, there
}

// children counts the directories directly below a cgroup's, and reports whether it is there.
func (d directory) children() (count uint64, there bool) {
	var stat unix.Stat_t
	if d.fd == missing || unix.Fstatat(d.fd, strings.Join(d.way[:], ""), &stat, unix.AT_EMPTY_PATH) != nil {
		return 0, false
	}
	return uint64(stat.Nlink) - 2, true
}

// list returns the names of the directories directly below. One that vanished has none.
func (d directory) list() (names []string) {
	fd, err := d.buffer.openat(d.fd, unix.O_RDONLY|unix.O_DIRECTORY, append(d.way[:], "."))
	if err != nil {
		return nil
	}
	opened := os.NewFile(uintptr(fd), "a cgroup")
	defer func() { _ = opened.Close() }()
	entries, _ := opened.ReadDir(0)
	for _, e := range entries {
		if e.IsDir() {
			names = append(names, e.Name())
		}
	}
	return names
}

// members reads a cgroup.procs; a threaded cgroup has none that can be read.
func members(cgroup directory) (pids []int) {
	take := func(content []byte) {
		for line := range bytes.Lines(content) {
			if pid := parse(line); pid.known && pid.value > 0 && pid.value <= 1<<31 {
				pids = append(pids, int(pid.value))
			}
		}
	}
	const file = "cgroup.procs"
	n, err := cgroup.readInto(file, cgroup.buffer.content[:], parted)
	if err != nil {
		return nil
	}
	if n < maxFile {
		take(cgroup.buffer.content[:n])
		return pids
	}
	content := make([]byte, maxProcs)
	if n, err := cgroup.readInto(file, content, parted); err == nil {
		take(content[:bytes.LastIndexByte(content[:n], '\n')+1])
	}
	return pids
}

// descriptors counts the open files of processes, and those that are sockets. They are not
// known if there are more than the bound.
func descriptors(pids []int) (files, sockets number) {
	files, sockets = known(0), known(0)
	for _, pid := range pids {
		dir := filepath.Join("/proc", strconv.Itoa(pid), "fd")
		f, err := os.Open(dir)
		if err != nil {
			continue // it ended
		}
		names, _ := f.Readdirnames(maxDescriptors + 1)
		_ = f.Close()
		if files.value += uint64(len(names)); files.value > maxDescriptors {
			return number{}, number{}
		}
		for _, name := range names {
			if target, err := os.Readlink(filepath.Join(dir, name)); err == nil && strings.HasPrefix(target, "socket:") {
				sockets.value++
			}
		}
	}
	return files, sockets
}

// openFilesLimit is a process's soft limit of open files; without one it is not known.
func openFilesLimit(pid int) (limit number) {
	inFile(unix.AT_FDCWD, filepath.Join("/proc", strconv.Itoa(pid), "limits"), func(content []byte) {
		for line := range bytes.Lines(content) {
			if rest, is := bytes.CutPrefix(line, []byte("Max open files")); is {
				if fields := bytes.Fields(rest); len(fields) > 0 {
					limit = parse(fields[0])
				}
			}
		}
	})
	return limit
}
