package monitor

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// startWait is how long a monitor may take from its start to its first word.
	startWait = 10 * time.Second
	// maxLog is the size from which on the monitor's log is emptied when
	// another monitor starts, in bytes.
	maxLog = 1 << 20
)

// meet connects to the monitor of the directory, or starts one and returns its
// process too.
func (c *Client) meet(ctx context.Context) (*session, *process, error) {
	ctx, cancel := context.WithTimeout(ctx, startWait)
	defer cancel()
	var started *process
	for {
		s, err := openSession(ctx, c.socket(), c.hello())
		if err == nil {
			return s, started, nil
		}
		if started == nil && nobodyListens(err) {
			if started, err = c.start(); err != nil {
				return nil, nil, err
			}
			continue
		}
		if ctx.Err() == nil && !nobodyListens(err) && !soon(err) {
			started.kill()
			return nil, nil, err
		}
		var gone <-chan struct{}
		if started != nil {
			gone = started.gone
		}
		select {
		case <-gone:
			// Another may have been faster. If not, that is the reason.
			if s, err := openSession(ctx, c.socket(), c.hello()); err == nil {
				return s, nil, nil
			}
			return nil, nil, fmt.Errorf("start the monitor: %w; it said: %s", started.ending, c.lastWords())
		case <-ctx.Done():
			started.kill()
			return nil, nil, fmt.Errorf("meet the monitor: %w: %w", ctx.Err(), err)
		case <-time.After(2 * time.Millisecond):
		}
	}
}

// nobodyListens tells from the error of a connection that there is no monitor.
func nobodyListens(err error) bool {
	return errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ECONNREFUSED)
}

// soon tells from the error of a connection that the next may succeed: the
// monitor has many that it hasn't taken yet, or it was just ending.
func soon(err error) bool {
	return errors.Is(err, unix.EAGAIN) || errors.Is(err, io.EOF) || errors.Is(err, unix.ECONNRESET)
}

func (c *Client) dir() string    { return filepath.Join(c.config.StateDir, "monitor") }
func (c *Client) socket() string { return filepath.Join(c.dir(), "monitor.sock") }
func (c *Client) log() string    { return filepath.Join(c.dir(), "monitor.log") }

// start starts a monitor, which is in a session of its own so that nothing that
// ends the daemon ends it.
func (c *Client) start() (*process, error) {
	if err := os.MkdirAll(c.dir(), 0o700); err != nil {
		return nil, fmt.Errorf("start the monitor: %w", err)
	}
	log, err := os.OpenFile(c.log(), os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return nil, fmt.Errorf("start the monitor: %w", err)
	}
	defer log.Close()
	if info, err := log.Stat(); err == nil && info.Size() > maxLog {
		if err := log.Truncate(0); err != nil {
			return nil, fmt.Errorf("start the monitor: empty its log: %w", err)
		}
	}
	cmd := exec.Command(c.config.Binary, c.args()...)
	cmd.Dir = "/"
	// What runtimes need of an environment comes with each request.
	cmd.Env = []string{}
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start the monitor: %w", err)
	}
	return watch(cmd.Process.Pid, cmd)
}

func (c *Client) args() []string {
	args := []string{"-dir", c.dir()}
	if c.config.Cgroup != "" {
		args = append(args, "-cgroup", c.config.Cgroup)
	}
	return args
}

// process is the monitor's process.
type process struct {
	pid int
	// gone is closed when it has ended; then ending says how.
	gone   chan struct{}
	ending error
	pidfd  *os.File
	// cmd is nil for one that another daemon started.
	cmd *exec.Cmd
}

// watch watches a process until it ends or close is called. It takes a process
// that was started here off the hands of the kernel.
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

// hasEnded asks a pidfd.
func hasEnded(pidfd uintptr) bool {
	fds := []unix.PollFd{{Fd: int32(pidfd), Events: unix.POLLIN}}
	n, err := unix.Poll(fds, 0)
	return err == nil && n > 0
}

// close ends the watching, and leaves the process as it is.
func (p *process) close() {
	if p != nil {
		p.pidfd.Close()
	}
}

// kill ends a process that was started here and doesn't speak.
func (p *process) kill() {
	if p != nil {
		_ = p.cmd.Process.Kill() // it may just have ended
		<-p.gone
		p.close()
	}
}

// lastWords returns the end of the monitor's log.
func (c *Client) lastWords() string {
	data, err := readTail(c.log(), 1<<10)
	if err != nil {
		return err.Error()
	}
	return string(data)
}

// readTail returns the last max bytes of a file.
func readTail(path string, max int64) ([]byte, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return nil, err
	}
	data := make([]byte, min(max, info.Size()))
	n, err := file.ReadAt(data, info.Size()-int64(len(data)))
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	return data[:n], nil
}
