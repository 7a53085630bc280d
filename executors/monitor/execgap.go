package monitor

import (
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/stele-runtime/stele/executors/monitor/proc"
	pb "github.com/stele-runtime/stele/proto/monitor/v1"
)

// reapAnswer is how long a process that has ended may stay a zombie: nobody but its
// parent learns its status before. It is bounded because kernels before 6.9 do not
// report the reaping.
const reapAnswer = 10 * time.Second

// goOn follows an exec whose monitor was lost, by its pidfd: it waits for the end,
// gets the status from the kernel (Linux 6.15 and later), and kills the process and
// its descendants at the deadline or when the caller has gone. The next monitor is
// asked to follow it too, so that it dies with the daemon, and because after an
// upgrade that one is the process's parent.
func (e *Exec) goOn() (ExecResult, error) {
	end, err := watchEnd(e.pidfd)
	if err != nil {
		return ExecResult{}, fmt.Errorf("exec in container %s: %w: %w", e.request.ContainerID, ErrLost, err)
	}
	defer end.close()
	var timeout <-chan time.Time
	if !e.deadline.IsZero() {
		timer := time.NewTimer(time.Until(e.deadline))
		defer timer.Stop()
		timeout = timer.C
	}
	w := goingOn{Exec: e, end: end}
	defer w.closeMonitor()
	return w.wait(timeout)
}

// goingOn is an exec that continues without its monitor.
type goingOn struct {
	*Exec
	end *processEnd
	// monitor is the call by which the next monitor follows the process; nil for none.
	monitor  *call
	timedOut bool
}

func (w *goingOn) wait(timeout <-chan time.Time) (ExecResult, error) {
	canceled, told := w.ctx.Done(), w.end.told
	var killed, late <-chan time.Time
	for {
		var answer <-chan struct{}
		if w.monitor != nil {
			answer = w.monitor.box.mail
		}
		select {
		case <-timeout:
			w.timedOut = true
			proc.KillTree(w.process)
			killed = time.After(killAnswer)
		case <-canceled:
			canceled = nil
			proc.KillTree(w.process)
			killed = time.After(killAnswer)
		case <-w.client.link.ctx.Done():
			proc.KillTree(w.process)
			return ExecResult{}, fmt.Errorf("exec %s: %w", w.request.ExecID, ErrClosed)
		case <-killed:
			return ExecResult{}, errors.Join(w.ctx.Err(), fmt.Errorf("exec %s: process %d is still there %v after it was killed", w.request.ExecID, w.process.PID, killAnswer))
		case adopted := <-w.adopted:
			w.closeMonitor()
			w.monitor = adopted
		case <-answer:
			if result, ok := w.answer(); ok && w.ctx.Err() == nil {
				return result, nil
			}
		case <-told:
			if w.end.err == nil || w.monitor == nil {
				return w.result()
			}
			// The monitor may be the parent, and so know more than the pidfd shows.
			told, late = nil, time.After(reapAnswer)
		case <-late:
			return w.result()
		}
	}
}

// answer takes the next monitor's answer.
func (w *goingOn) answer() (ExecResult, bool) {
	f, ok := w.monitor.box.take()
	if !ok {
		return ExecResult{}, false
	}
	f.close()
	ended := f.reply.GetExecEnded()
	if ended == nil {
		// It knows no more than the kernel tells us.
		w.closeMonitor()
		return ExecResult{}, false
	}
	result := toExecResult(ended)
	result.TimedOut = w.timedOut
	return result, true
}

func (w *goingOn) closeMonitor() {
	if w.monitor != nil {
		w.monitor.close()
		w.monitor = nil
	}
}

// result returns how the process ended, according to the pidfd.
func (w *goingOn) result() (ExecResult, error) {
	switch {
	case w.ctx.Err() != nil:
		return ExecResult{}, w.ctx.Err()
	case w.end.err == nil:
		result := ExecResult{Code: w.end.status.ExitStatus(), TimedOut: w.timedOut}
		if w.end.status.Signaled() {
			result.Signal = int(w.end.status.Signal())
			result.Code = 128 + result.Signal
		}
		return result, nil
	case w.timedOut:
		return ExecResult{Code: 128 + int(unix.SIGKILL), Signal: int(unix.SIGKILL), TimedOut: true}, nil
	default:
		return ExecResult{}, fmt.Errorf("exec %s: %w, and the exit is unknown: %w", w.request.ExecID, ErrLost, w.end.err)
	}
}

// processEnd waits for the end of a process.
type processEnd struct {
	file *os.File
	// told is closed when the process has ended; then status or err is set.
	told   chan struct{}
	status unix.WaitStatus
	err    error
}

// watchEnd waits for the end of the process of a pidfd, until close.
func watchEnd(pidfd int) (*processEnd, error) {
	fd, err := unix.FcntlInt(uintptr(pidfd), unix.F_DUPFD_CLOEXEC, 3)
	if err == nil {
		err = unix.SetNonblock(fd, true)
	}
	if err != nil {
		return nil, fmt.Errorf("duplicate a pidfd: %w", err)
	}
	end := &processEnd{file: os.NewFile(uintptr(fd), "pidfd of an exec"), told: make(chan struct{})}
	go end.wait()
	return end, nil
}

func (p *processEnd) wait() {
	defer close(p.told)
	raw, err := p.file.SyscallConn()
	if err == nil {
		err = raw.Read(hasEnded)
	}
	if err != nil {
		p.err = err
		return
	}
	if p.err = p.file.SetReadDeadline(time.Now().Add(reapAnswer)); p.err != nil {
		return
	}
	// If this fails the kernel may still know.
	_ = raw.Read(wasReaped)
	if err := raw.Control(func(fd uintptr) { p.status, p.err = proc.WaitStatus(int(fd)) }); err != nil {
		p.err = err
	}
}

// close stops waiting, and returns once it has stopped.
func (p *processEnd) close() {
	p.file.Close()
	<-p.told
}

// wasReaped reports whether a pidfd's process was reaped.
func wasReaped(pidfd uintptr) bool {
	fds := []unix.PollFd{{Fd: int32(pidfd)}}
	n, err := unix.Poll(fds, 0)
	return err == nil && n > 0 && fds[0].Revents&unix.POLLHUP != 0
}

// handTo asks a monitor to follow the process.
func (e *Exec) handTo(s *session) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.pidfd < 0 {
		return nil // It has ended.
	}
	p := &pb.Process{Pid: int32(e.process.PID), StartTime: e.process.StartTime, Inode: e.process.Inode}
	// Send does not block: nothing else is in flight on a new connection.
	adopted, err := s.start(&pb.Request{
		Descriptors: []pb.Role{pb.Role_ROLE_PIDFD},
		Call: &pb.Request_AdoptExec{AdoptExec: &pb.AdoptExec{
			ContainerId: e.request.ContainerID,
			ExecId:      e.request.ExecID,
			Process:     p,
		}},
	}, e.pidfd)
	if err != nil {
		return err
	}
	select {
	case before := <-e.adopted:
		before.close()
	default:
	}
	e.adopted <- adopted
	return nil
}
