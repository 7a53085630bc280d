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
// seen here. It is not complete if there are more cgroups or processes than the bounds.
func processes(dir string) (pids []int, there bool) {
	visited := 0
	var visit func(dir string)
	visit = func(dir string) {
		visited++
		var stat unix.Stat_t
		if unix.Stat(dir, &stat) != nil || visited > maxBelow {
			return
		}
		there = true
		pids = append(pids, members(filepath.Join(dir, "cgroup.procs"))...)
		if stat.Nlink <= 2 {
			return // nothing below
		}
		entries, err := os.ReadDir(dir)
		if err != nil {
			return // it vanished
		}
		for _, e := range entries {
			if e.IsDir() {
				visit(filepath.Join(dir, e.Name()))
			}
		}
	}
	visit(dir)
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
		if n, err := readInto(file, content); err == nil {
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
