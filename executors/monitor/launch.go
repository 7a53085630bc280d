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

	pb "github.com/stele-runtime/stele/proto/monitor/v1"
	"golang.org/x/sys/unix"
)

const (
	// startWait is how long a monitor may take from its start to its first reply.
	startWait = 10 * time.Second
	// maxLog is the size, in bytes, above which the monitor's log is emptied when
	// another monitor starts.
	maxLog = 1 << 20
	// maxSocketPath is how long the path of a Unix socket can be: sun_path in
	// unix(7) less the zero.
	maxSocketPath = 107
)

// launcher finds the monitor of a state directory, or starts one.
type launcher struct {
	// binary and dir, the monitor's directory, are absolute; see Config for cgroup.
	binary, dir, cgroup string
}

// meet connects to the directory's monitor, or starts one and returns its process
// too.
func (l launcher) meet(ctx context.Context, hello func() *pb.Hello) (*session, *process, error) {
	ctx, cancel := context.WithTimeout(ctx, startWait)
	defer cancel()
	var started *process
	for {
		s, err := openSession(ctx, l.socket(), hello())
		if err == nil {
			return s, started, nil
		}
		if started == nil && nobodyListens(err) {
			if started, err = l.start(); err != nil {
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
			// Another may have won the race. If not, this end is the reason.
			if s, err := openSession(ctx, l.socket(), hello()); err == nil {
				return s, nil, nil
			}
			return nil, nil, fmt.Errorf("start the monitor: %w; it said: %s", started.ending, l.lastWords())
		case <-ctx.Done():
			started.kill()
			return nil, nil, fmt.Errorf("meet the monitor: %w: %w", ctx.Err(), err)
		case <-time.After(2 * time.Millisecond):
		}
	}
}

// nobodyListens reports whether a connection failed because there is no monitor.
func nobodyListens(err error) bool {
	return errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ECONNREFUSED)
}

// soon reports whether the next connection may succeed: the monitor's backlog was
// full, or it was just ending.
func soon(err error) bool {
	return errors.Is(err, unix.EAGAIN) || errors.Is(err, io.EOF) || errors.Is(err, unix.ECONNRESET)
}

func (l launcher) socket() string { return filepath.Join(l.dir, "monitor.sock") }
func (l launcher) log() string    { return filepath.Join(l.dir, "monitor.log") }

// start starts a monitor, in its own session so that what ends the daemon does not
// end it.
func (l launcher) start() (*process, error) {
	if err := os.MkdirAll(l.dir, 0o700); err != nil {
		return nil, fmt.Errorf("start the monitor: %w", err)
	}
	log, err := os.OpenFile(l.log(), os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return nil, fmt.Errorf("start the monitor: %w", err)
	}
	defer log.Close()
	if info, err := log.Stat(); err == nil && info.Size() > maxLog {
		if err := log.Truncate(0); err != nil {
			return nil, fmt.Errorf("start the monitor: empty its log: %w", err)
		}
	}
	cmd := exec.Command(l.binary, l.args()...)
	cmd.Dir = "/"
	// Runtimes get their environment with each request.
	cmd.Env = []string{}
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start the monitor: %w", err)
	}
	return watch(cmd.Process.Pid, cmd)
}

func (l launcher) args() []string {
	args := []string{"-dir", l.dir}
	if l.cgroup != "" {
		args = append(args, "-cgroup", l.cgroup)
	}
	return args
}

// lastWords returns the end of the monitor's log.
func (l launcher) lastWords() string {
	data, err := readTail(l.log(), 1<<10)
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
