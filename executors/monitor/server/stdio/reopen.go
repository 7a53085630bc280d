package stdio

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	pb "github.com/stele-runtime/stele/proto/monitor/v1"
)

const (
	// searchProcesses and searchFiles bound how many processes of a container, and
	// descriptors of each, are searched for a pipe.
	searchProcesses = 1024
	searchFiles     = 1024
)

// Reopen reopens a container's pipes through a process that has them open: its first,
// or else any of its cgroup. Inodes tell the monitor's pipes from other files that a
// container may have put there.
func Reopen(record *pb.Container) (stdout, stderr int) {
	pid := int(record.GetProcess().GetPid())
	stdout = reopenPipe(pid, "1", record.StdoutInode)
	stderr = reopenPipe(pid, "2", record.StderrInode)
	if stdout < 0 && record.StdoutInode != 0 {
		stdout = searchPipe(record.OomFile, record.StdoutInode)
	}
	if stderr < 0 && record.StderrInode != 0 {
		stderr = searchPipe(record.OomFile, record.StderrInode)
	}
	return stdout, stderr
}

// reopenPipe opens a process's descriptor if it is the pipe with the inode; -1 if not.
func reopenPipe(pid int, number string, want uint64) int {
	if want == 0 {
		return -1
	}
	// O_PATH looks at a file without the side effects of opening it.
	handle, err := unix.Open(fmt.Sprintf("/proc/%d/fd/%s", pid, number), unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1
	}
	defer func() { _ = unix.Close(handle) }()
	var st unix.Stat_t
	if unix.Fstat(handle, &st) != nil || st.Mode&unix.S_IFMT != unix.S_IFIFO || st.Ino != want {
		return -1
	}
	fd, err := unix.Open(fmt.Sprintf("/proc/self/fd/%d", handle), unix.O_RDONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1
	}
	return fd
}

// searchPipe looks for a pipe in the processes of the cgroup that a file belongs to.
func searchPipe(cgroupFile string, want uint64) int {
	if cgroupFile == "" {
		return -1
	}
	pids, err := os.ReadFile(filepath.Join(filepath.Dir(cgroupFile), "cgroup.procs"))
	if err != nil {
		return -1
	}
	link := fmt.Sprintf("pipe:[%d]", want)
	for i, text := range strings.Fields(string(pids)) {
		pid, err := strconv.Atoi(text)
		if err != nil || i == searchProcesses {
			return -1
		}
		if fd := searchFilesOf(pid, link, want); fd >= 0 {
			return fd
		}
	}
	return -1
}

// searchFilesOf looks for a pipe among the descriptors of a process.
func searchFilesOf(pid int, link string, want uint64) int {
	path := fmt.Sprintf("/proc/%d/fd", pid)
	dir, err := os.Open(path)
	if err != nil {
		return -1
	}
	defer dir.Close()
	numbers, _ := dir.Readdirnames(searchFiles)
	for _, number := range numbers {
		if target, err := os.Readlink(filepath.Join(path, number)); err != nil || target != link {
			continue
		}
		if fd := reopenPipe(pid, number, want); fd >= 0 {
			return fd
		}
	}
	return -1
}
