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
// seen here; not all, if there are more cgroups or processes than the bounds. below are
// cgroups directly below it that are known.
func processes(dir string, below []string) (pids []int, there bool) {
	visited := 0
	var visit func(dir string, below []string)
	visit = func(dir string, below []string) {
		visited++
		var stat unix.Stat_t
		if unix.Stat(dir, &stat) != nil || visited > maxBelow {
			return
		}
		there = true
		pids = append(pids, members(dir+"/cgroup.procs")...)
		switch uint64(stat.Nlink) - 2 {
		case 0: // nothing below
		case uint64(len(below)): // those that are known, which saves reading the directory
			for _, child := range below {
				visit(child, nil)
			}
		default:
			entries, err := os.ReadDir(dir)
			if err != nil {
				return // it vanished
			}
			for _, e := range entries {
				if e.IsDir() {
					visit(filepath.Join(dir, e.Name()), nil)
				}
			}
		}
	}
	visit(dir, below)
	return pids, there
}

// members reads a cgroup.procs; a threaded cgroup has none that can be read.
func members(file string) (pids []int) {
	take := func(content []byte) {
		for line := range bytes.Lines(content) {
			if pid := parse(line); pid.known && pid.value > 0 && pid.value <= 1<<31 {
				pids = append(pids, int(pid.value))
			}
		}
	}
	full := false
	inFile(file, func(content []byte) {
		if full = len(content) == maxFile; !full {
			take(content)
		}
	})
	if full {
		content := make([]byte, maxProcs)
		if n, err := readInto(unix.AT_FDCWD, file, content, parted); err == nil {
			take(content[:bytes.LastIndexByte(content[:n], '\n')+1])
		}
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
	inFile(filepath.Join("/proc", strconv.Itoa(pid), "limits"), func(content []byte) {
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
