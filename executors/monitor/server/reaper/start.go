package reaper

import (
	"fmt"
	"os"
	"path/filepath"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/stele-runtime/stele/executors/monitor/proc"
)

// Command is what Start executes.
type Command struct {
	// Path is the absolute path of the executable.
	Path string
	// Args are the arguments after argv[0].
	Args []string
	Env  []string
	// Dir is the working directory; empty for /.
	Dir string
	// Files are the descriptors that become 0, 1, 2 in the child; -1 stands for
	// /dev/null.
	Files [3]int
}

// Child is a process that Start started, in its own process group.
type Child struct {
	PID int
	// Done receives the status, once.
	Done   <-chan Status
	reaper *Reaper
}

// Start executes a command.
func (r *Reaper) Start(c Command) (*Child, error) {
	null, err := unix.Open(os.DevNull, unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("start %s: open %s: %w", c.Path, os.DevNull, err)
	}
	defer func() { _ = unix.Close(null) }()
	files := make([]uintptr, len(c.Files))
	for i, fd := range c.Files {
		if fd < 0 {
			fd = null
		}
		files[i] = uintptr(fd)
	}
	dir := c.Dir
	if dir == "" {
		dir = "/"
	}
	attr := &syscall.ProcAttr{
		Dir:   dir,
		Env:   c.Env,
		Files: files,
		Sys:   &syscall.SysProcAttr{Setpgid: true},
	}
	done := make(chan Status, 1)
	argv := append([]string{filepath.Base(c.Path)}, c.Args...)

	r.mu.Lock()
	defer r.mu.Unlock()
	pid, err := syscall.ForkExec(c.Path, argv, attr)
	if err != nil {
		return nil, fmt.Errorf("execute %s: %w", c.Path, err)
	}
	r.followed[pid] = func(s Status) { done <- s }
	return &Child{PID: pid, Done: done, reaper: r}, nil
}

// Kill kills the child, its process group and its descendants, unless it has ended:
// then its pid may belong to another process.
func (c *Child) Kill() {
	id, ok := c.Identity()
	if !ok {
		return
	}
	proc.KillTree(id)
}

// Identity returns the child's identity until it is reaped.
func (c *Child) Identity() (proc.Identity, bool) {
	c.reaper.mu.Lock()
	defer c.reaper.mu.Unlock()
	if _, ok := c.reaper.followed[c.PID]; !ok {
		return proc.Identity{}, false
	}
	return proc.Identity{PID: c.PID, StartTime: proc.StartTime(c.PID)}, true
}
