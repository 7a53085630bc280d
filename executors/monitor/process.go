package monitor

import (
	"fmt"
	"os"
	"os/exec"
	"syscall"

	"golang.org/x/sys/unix"
)

// process is the monitor's process.
type process struct {
	pid int
	// gone is closed when it has ended; then ending is set.
	gone   chan struct{}
	ending error
	pidfd  *os.File
	// cmd is nil if another daemon started it.
	cmd *exec.Cmd
}

// watch watches a process until it ends or close is called. It reaps a process that
// was started here.
func watch(pid int, cmd *exec.Cmd) (*process, error) {
	fd, err := unix.PidfdOpen(pid, unix.PIDFD_NONBLOCK)
	if err != nil {
		return nil, fmt.Errorf("watch the monitor, process %d: %w", pid, err)
	}
	p := &process{pid: pid, gone: make(chan struct{}), pidfd: os.NewFile(uintptr(fd), "pidfd of the monitor"), cmd: cmd}
	raw, err := p.pidfd.SyscallConn()
	if err != nil {
		p.pidfd.Close()
		return nil, fmt.Errorf("watch the monitor, process %d: %w", pid, err)
	}
	go p.wait(raw)
	return p, nil
}

func (p *process) wait(raw syscall.RawConn) {
	if err := raw.Read(hasEnded); err != nil {
		return // closed
	}
	p.ending = fmt.Errorf("process %d ended", p.pid)
	if p.cmd != nil {
		_ = p.cmd.Wait() // its result is in ProcessState
		p.ending = fmt.Errorf("process %d ended: %s", p.pid, p.cmd.ProcessState)
	}
	close(p.gone)
}

// hasEnded reports whether a pidfd's process has ended.
func hasEnded(pidfd uintptr) bool {
	fds := []unix.PollFd{{Fd: int32(pidfd), Events: unix.POLLIN}}
	n, err := unix.Poll(fds, 0)
	return err == nil && n > 0
}

// close stops watching, and leaves the process alone.
func (p *process) close() {
	if p != nil {
		p.pidfd.Close()
	}
}

// kill kills a process that was started here and does not answer.
func (p *process) kill() {
	if p != nil {
		_ = p.cmd.Process.Kill() // it may just have ended
		<-p.gone
		p.close()
	}
}
