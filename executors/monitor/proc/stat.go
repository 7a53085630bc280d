package proc

import (
	"bytes"
	"fmt"
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// stat has the fields of /proc/PID/stat that are used.
type stat struct {
	state                  byte
	parent, group, session int
	// started is in clock ticks after boot.
	started uint64
	// exit is the wait(2) status, if the process has ended and we may see it.
	exit unix.WaitStatus
}

// ended reports whether the process is a zombie or about to vanish.
func (s stat) ended() bool { return s.state == 'Z' || s.state == 'X' }

// readStat reads /proc/PID/stat.
func readStat(pid int) (stat, error) { return readStatOf(fmt.Sprintf("/proc/%d", pid)) }

// readStatOf reads the stat of a process or a thread by its directory.
func readStatOf(dir string) (stat, error) {
	data, err := os.ReadFile(dir + "/stat")
	if err != nil {
		return stat{}, err
	}
	// The second field is the name in brackets, and may contain anything.
	end := bytes.LastIndexByte(data, ')')
	fields := bytes.Fields(data[end+1:])
	const first = 3 // the number, as proc_pid_stat(5) counts, of fields[0]
	if end < 0 || len(fields) <= 22-first {
		return stat{}, fmt.Errorf("%s/stat has %d fields after the name", dir, len(fields))
	}
	var s stat
	s.state = fields[3-first][0]
	s.parent, _ = strconv.Atoi(string(fields[4-first]))
	s.group, _ = strconv.Atoi(string(fields[5-first]))
	s.session, _ = strconv.Atoi(string(fields[6-first]))
	s.started, _ = strconv.ParseUint(string(fields[22-first]), 10, 64)
	if len(fields) > 52-first {
		exit, _ := strconv.ParseUint(string(fields[52-first]), 10, 32)
		s.exit = unix.WaitStatus(exit)
	}
	return s, nil
}

// list returns all processes.
func list() (map[int]stat, error) {
	dir, err := os.Open("/proc")
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	names, err := dir.Readdirnames(-1)
	if err != nil {
		return nil, err
	}
	all := make(map[int]stat, len(names))
	for _, name := range names {
		pid, err := strconv.Atoi(name)
		if err != nil {
			continue
		}
		if s, err := readStat(pid); err == nil {
			all[pid] = s
		}
	}
	return all, nil
}
