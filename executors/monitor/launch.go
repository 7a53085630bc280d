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
