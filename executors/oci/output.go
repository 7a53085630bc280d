package oci

import (
	"errors"
	"io"
	"os"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// MaxExecOutput bounds what ExecSync returns of standard output and standard error
// together, in bytes (CVE-2022-1708, CVE-2022-31030). The CRI's limit is 16 MB,
// which is also the kubelet's for the whole message: the rest of it needs some
// room.
const MaxExecOutput = 16<<20 - 4<<10

// output collects what a command writes, in two pipes or on a terminal.
type output struct {
	// stdout and stderr are nil until pipes or terminal was called.
	stdout, stderr *collector
	// left is how many bytes may still be kept.
	left      atomic.Int64
	truncated atomic.Bool
}

// collector reads a pipe, or a terminal.
type collector struct {
	out *output
	// write is nil for a terminal.
	read, write *os.File
	data        []byte
	err         error
	done        chan struct{}
}

func newOutput() *output {
	o := &output{}
	o.left.Store(MaxExecOutput)
	return o
}

// pipes returns what the command is to write to.
func (o *output) pipes() (stdout, stderr *os.File, err error) {
	for _, c := range []**collector{&o.stdout, &o.stderr} {
		r, w, err := os.Pipe()
		if err != nil {
			return nil, nil, err
		}
		*c = o.collect(r, w)
	}
	return o.stdout.write, o.stderr.write, nil
}

// terminal takes the master of the command's terminal; nil if the command ended first.
func (o *output) terminal(master *os.File) {
	if master != nil {
		o.stdout = o.collect(master, nil)
	}
}

// collect starts to read, until finish is called.
func (o *output) collect(r, w *os.File) *collector {
	c := &collector{out: o, read: r, write: w, done: make(chan struct{})}
	go func() {
		defer close(c.done)
		_, c.err = io.Copy(c, r)
		if w == nil && errors.Is(c.err, unix.EIO) {
			c.err = nil // nobody has the terminal open any more
		}
	}()
	return c
}

// Write keeps what fits and discards the rest: the command must neither block nor
// see an error.
func (c *collector) Write(p []byte) (int, error) {
	room := c.out.left.Add(-int64(len(p))) + int64(len(p))
	keep := min(max(room, 0), int64(len(p)))
	if keep < int64(len(p)) {
		c.out.truncated.Store(true)
	}
	c.data = append(c.data, p[:keep]...)
	return len(p), nil
}

// finish returns what was written by a command that has ended.
func (o *output) finish() (stdout, stderr []byte, truncated bool, err error) {
	for _, c := range []*collector{o.stdout, o.stderr} {
		if c != nil {
			c.finish()
			err = errors.Join(err, c.err)
		}
	}
	if o.stdout != nil {
		stdout = o.stdout.data
	}
	if o.stderr != nil {
		stderr = o.stderr.data
	}
	return stdout, stderr, o.truncated.Load(), err
}

// maxTerminal is more than the kernel keeps of a terminal's output, in bytes.
const maxTerminal = 64 << 10

// finish takes what is in the pipe and closes it. A process that was left behind
// may hold the other end open and keep writing, so the pipe is read only as far as
// it can have been full.
func (c *collector) finish() {
	defer c.read.Close()
	if c.write != nil {
		c.write.Close()
	}
	if err := c.read.SetReadDeadline(time.Now()); err != nil {
		c.err = err
		return
	}
	<-c.done
	if !errors.Is(c.err, os.ErrDeadlineExceeded) {
		return
	}
	c.err = c.read.SetReadDeadline(time.Time{})
	if c.err == nil {
		c.err = c.drain()
	}
}

// drain reads without waiting.
func (c *collector) drain() error {
	raw, err := c.read.SyscallConn()
	if err != nil {
		return err
	}
	var readErr error
	err = raw.Read(func(fd uintptr) bool {
		size, err := maxTerminal, error(nil)
		if c.write != nil {
			size, err = unix.FcntlInt(fd, unix.F_GETPIPE_SZ, 0)
		}
		if err != nil {
			readErr = err
			return true
		}
		buf := make([]byte, 32<<10)
		for size > 0 {
			n, err := unix.Read(int(fd), buf)
			if err == unix.EINTR {
				continue
			}
			if err == unix.EAGAIN || n == 0 && err == nil || c.write == nil && err == unix.EIO {
				return true
			}
			if err != nil {
				readErr = err
				return true
			}
			_, _ = c.Write(buf[:n]) // it keeps what it has room for
			size -= n
		}
		return true
	})
	return errors.Join(err, readErr)
}
