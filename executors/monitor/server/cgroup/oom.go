package cgroup

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
)

// OOMMark is a count of OOM kills at some time. The kernel counts a kill before it
// sends the signal, so the count is never older than a process's end. On v1 it covers
// the cgroup's own processes only, on v2 also those below it.
type OOMMark struct {
	// File counts the kills; empty if there is none.
	File  string
	Kills uint64
}

// eventsV2 is the file of v2 that counts a cgroup's memory events and those below it.
const eventsV2 = "memory.events"

// MarkOOM returns the count of a process's own memory cgroup.
func MarkOOM(pid int) OOMMark {
	file := oomCounter(pid)
	return OOMMark{File: file, Kills: oomKills(file)}
}

// oomCounter returns the file that counts the OOM kills of a process's own
// memory cgroup: memory.oom_control where the v1 controller is mounted,
// memory.events on v2. It is empty when there is none, as for the root cgroup.
func oomCounter(pid int) string {
	cgroups, err := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", pid))
	if err != nil {
		return ""
	}
	if known := hierarchies.Load(); known != nil {
		if file := oomFile(string(cgroups), *known); file != "" {
			return file
		}
	}
	mounts, err := cgroupMounts()
	if err != nil {
		return ""
	}
	hierarchies.Store(&mounts)
	return oomFile(string(cgroups), mounts)
}

// hierarchies are the lines of mountinfo about cgroups, as last read. They hardly ever change, and
// each container adds lines about others: to read all of them for each one takes more and more.
var hierarchies atomic.Pointer[string]

// cgroupMounts reads the lines of /proc/self/mountinfo about cgroups.
func cgroupMounts() (string, error) {
	file, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		return "", err
	}
	defer file.Close()
	return cgroupLines(file)
}

func cgroupLines(mountinfo io.Reader) (string, error) {
	var about strings.Builder
	lines := bufio.NewScanner(mountinfo)
	lines.Buffer(nil, longestMount)
	for lines.Scan() {
		if bytes.Contains(lines.Bytes(), []byte(" - cgroup")) {
			about.Write(lines.Bytes())
			about.WriteByte('\n')
		}
	}
	return about.String(), lines.Err()
}

// longestMount is longer than any line of mountinfo, in bytes: paths and options have a page each
// at most, of which each byte may be written as four.
const longestMount = 1 << 20

// oomFile returns the counter that is there; empty if none is.
func oomFile(cgroups, mounts string) string {
	for _, file := range oomFiles(cgroups, mounts) {
		if _, err := os.Stat(file); err == nil {
			return file
		}
	}
	return ""
}

// oomFiles returns where the counter may be, given /proc/PID/cgroup and
// mountinfo: v1 first, since in a hybrid v2 has no memory controller.
func oomFiles(cgroups, mounts string) []string {
	v1, v2 := memoryCgroups(cgroups)
	var files []string
	for _, c := range []struct{ cgroup, fsType, option, file string }{
		{v1, "cgroup", "memory", "memory.oom_control"},
		{v2, "cgroup2", "", eventsV2},
	} {
		mount, root := mountOf(mounts, c.fsType, c.option)
		below, ok := strings.CutPrefix(c.cgroup, strings.TrimSuffix(root, "/"))
		if c.cgroup != "" && mount != "" && ok {
			files = append(files, filepath.Join(mount, below, c.file))
		}
	}
	return files
}

// memoryCgroups returns the paths in the v1 memory hierarchy and in v2.
func memoryCgroups(cgroups string) (v1, v2 string) {
	for line := range strings.Lines(cgroups) {
		fields := strings.SplitN(strings.TrimSuffix(line, "\n"), ":", 3)
		if len(fields) < 3 {
			continue
		}
		if fields[0] == "0" && fields[1] == "" {
			v2 = fields[2]
		}
		if slices.Contains(strings.Split(fields[1], ","), "memory") {
			v1 = fields[2]
		}
	}
	return v1, v2
}

// mountOf returns where a cgroup file system of the type, and with the option, is
// mounted, and which of its directories is mounted there.
func mountOf(mounts, fsType, option string) (mount, root string) {
	for line := range strings.Lines(mounts) {
		before, after, ok := strings.Cut(line, " - ")
		left, right := strings.Fields(before), strings.Fields(after)
		if !ok || len(left) < 5 || len(right) < 3 || right[0] != fsType {
			continue
		}
		if option == "" || slices.Contains(strings.Split(right[2], ","), option) {
			return left[4], left[3]
		}
	}
	return "", ""
}

// oomKills reads a counter; 0 if there is none any more.
func oomKills(file string) uint64 {
	kills, _ := readKills(file)
	return kills
}

// readKills reads a counter; there is false if it is gone.
func readKills(file string) (kills uint64, there bool) {
	if file == "" {
		return 0, false
	}
	data, err := os.ReadFile(file)
	if err != nil {
		return 0, false
	}
	for line := range bytes.Lines(data) {
		if count, ok := bytes.CutPrefix(line, []byte("oom_kill ")); ok {
			n, _ := strconv.ParseUint(string(bytes.TrimSpace(count)), 10, 64)
			return n, true
		}
	}
	return 0, true
}
