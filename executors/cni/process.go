package cni

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
	// pipesWithin is how long a plugin's descendants may keep its output open
	// after it has ended.
	pipesWithin = 2 * time.Second
	// reapAfter is how long a plugin that has ended stays a zombie. The kernel reports its end
	// while its last thread is still taking its directory out of /proc. Who reaps it at once
	// does the same, and spins until that thread has had the CPU again: milliseconds on a busy
	// node.
	reapAfter = 10 * time.Millisecond
)

// process is a plugin's.
type process struct {
	cmd            *exec.Cmd
	stdout, stderr outlet
	copying        sync.WaitGroup
}

// outlet keeps what a process prints.
type outlet struct {
	read *os.File
	text bounded
	// err is why nothing more was read; nil at the end.
	err error
}

// start starts a plugin. wait and then output must follow.
func start(path string, stdin []byte, environ []string) (_ *process, err error) {
	p := &process{cmd: exec.Command(path)}
	p.cmd.Env, p.cmd.Stdin = thrifty(environ), bytes.NewReader(stdin)
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	p.cmd.WaitDelay = pipesWithin
	stdout, err := p.stdout.open()
	if err != nil {
		return nil, err
	}
	defer stdout.Close()
	stderr, err := p.stderr.open()
	if err != nil {
		p.stdout.read.Close()
		return nil, err
	}
	defer stderr.Close()
	p.cmd.Stdout, p.cmd.Stderr = stdout, stderr
	if err := p.cmd.Start(); err != nil {
		p.stdout.read.Close()
		p.stderr.read.Close()
		return nil, err
	}
	for _, o := range []*outlet{&p.stdout, &p.stderr} {
		p.copying.Go(func() {
			_, o.err = io.Copy(&o.text, o.read) // ends with the process, or in drain
			o.read.Close()
		})
	}
	return p, nil
}

func (o *outlet) open() (write *os.File, err error) {
	o.read, write, err = os.Pipe()
	return write, err
}

// thrifty has Go's scheduler use one thread, unless the daemon's environment says otherwise. A
// plugin makes one netlink call after the other, and ends: more threads are only started and
// ended.
func thrifty(environ []string) []string {
	const variable = "GOMAXPROCS="
	if slices.ContainsFunc(environ, func(v string) bool { return strings.HasPrefix(v, variable) }) {
		return environ
	}
	return append(slices.Clip(environ), variable+"1")
}

// wait waits until the process has ended and its output is closed. If ctx ends first, the process
// is killed with all its descendants.
func (p *process) wait(ctx context.Context) (status, error) {
	type end struct {
		status status
		err    error
	}
	pid := p.cmd.Process.Pid
	ended := make(chan end, 1)
	go func() { // ends with the process
		s, err := ending(pid)
		ended <- end{s, err}
	}()
	var at end
	select {
	case at = <-ended:
	case <-ctx.Done():
		// Until it is reaped, its pid is its own.
		_ = syscall.Kill(-pid, syscall.SIGKILL) // it may have ended
		at = <-ended
	}
	time.AfterFunc(reapAfter, func() { _ = p.cmd.Wait() }) // how it ended is known
	return at.status, errors.Join(at.err, p.drain())
}

// drain returns when the output is closed, or has been open for too long.
func (p *process) drain() error {
	for _, o := range []*outlet{&p.stdout, &p.stderr} {
		_ = o.read.SetReadDeadline(time.Now().Add(pipesWithin)) // one that is closed needs none
	}
	p.copying.Wait()
	if errors.Is(p.stdout.err, os.ErrDeadlineExceeded) || errors.Is(p.stderr.err, os.ErrDeadlineExceeded) {
		return fmt.Errorf("it has left processes that keep its output open %v after its end", pipesWithin)
	}
	return nil
}

// output returns what the process printed, after wait.
func (p *process) output() (stdout, stderr *bounded) { return &p.stdout.text, &p.stderr.text }

// status is how a process ended.
type status struct {
	// exited: by itself, with code; otherwise code is the signal that ended it.
	exited bool
	code   int
}

// failure is empty for a success.
func (s status) failure() string {
	switch {
	case s.exited && s.code == 0:
		return ""
	case s.exited:
		return fmt.Sprintf("exit status %d", s.code)
	}
	return "signal: " + syscall.Signal(s.code).String()
}

// ending waits for the end of a child, and leaves it to be reaped.
func ending(pid int) (status, error) {
	var info unix.Siginfo
	for {
		err := unix.Waitid(unix.P_PID, pid, &info, unix.WEXITED|unix.WNOWAIT, nil)
		if err == nil {
			break
		}
		if err != unix.EINTR {
			return status{}, os.NewSyscallError("waitid", err)
		}
	}
	// waitid(2): CLD_EXITED, and si_status as the third number of a union that is aligned like a
	// pointer, which package unix does not name.
	const (
		cldExited = 1
		word      = int(unsafe.Sizeof(uintptr(0)))
		union     = (3*4 + word - 1) / word * word
	)
	raw := (*[unsafe.Sizeof(info)]byte)(unsafe.Pointer(&info))
	return status{exited: info.Code == cldExited, code: int(int32(binary.NativeEndian.Uint32(raw[union+2*4:])))}, nil
}
