package oci

import (
	"errors"
	"io"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/stele-runtime/stele/executors/monitor"
	"github.com/stele-runtime/stele/executors/streams"
)

// pipes connect a command with its client: by pipes, or by a terminal.
type pipes struct {
	client streams.Stdio
	// theirs are the command's ends.
	theirs []*os.File
	// stdin is nil if the client has no input, or the command a terminal.
	stdin   *os.File
	outlets []*outlet
	// ended is closed when the command has ended.
	ended chan struct{}
	// copying are the copiers of the input and of the terminal's sizes.
	copying sync.WaitGroup
}

// newPipes makes the pipes, and enters the command's ends into its request. Streams that
// the client does not have stay /dev/null.
func newPipes(r *monitor.ExecRequest, client streams.Stdio) (_ *pipes, err error) {
	p := &pipes{client: client, ended: make(chan struct{})}
	defer func() {
		if err != nil {
			p.close()
		}
	}()
	if r.Terminal {
		return p, nil
	}
	if client.Stdin != nil {
		if r.Stdin, p.stdin, err = os.Pipe(); err != nil {
			return nil, err
		}
		p.theirs = append(p.theirs, r.Stdin)
	}
	for _, out := range []struct {
		to    io.Writer
		their **os.File
	}{{client.Stdout, &r.Stdout}, {client.Stderr, &r.Stderr}} {
		if out.to == nil {
			continue
		}
		read, write, err := os.Pipe()
		if err != nil {
			return nil, err
		}
		p.theirs = append(p.theirs, write)
		p.outlets = append(p.outlets, &outlet{read: read, to: out.to})
		*out.their = write
	}
	return p, nil
}

// copy starts to copy, until finish.
func (p *pipes) copy(exec *monitor.Exec) {
	p.closeTheirs()
	if master := exec.Terminal; master != nil {
		to := p.client.Stdout
		if to == nil {
			to = io.Discard // or the command would wait for a reader
		}
		p.outlets = append(p.outlets, &outlet{read: master, to: to, terminal: true})
		p.copying.Go(func() { p.resize(exec) })
	}
	for _, o := range p.outlets {
		o.done = make(chan struct{})
		go o.copy() // ends with finish or close
	}
	if p.client.Stdin != nil {
		p.copying.Go(func() { p.copyInput(exec.Terminal) })
	}
}

// copyInput copies the client's input, and closes the command's when the client has done
// so. What nobody reads any more is dropped, so that the client need not wait.
func (p *pipes) copyInput(terminal *os.File) {
	switch {
	case terminal != nil:
		_, _ = io.Copy(terminal, p.client.Stdin)
	case p.stdin != nil:
		_, _ = io.Copy(p.stdin, p.client.Stdin)
		p.stdin.Close()
	}
	_, _ = io.Copy(io.Discard, p.client.Stdin)
}

// resize gives the terminal the sizes of the client's.
func (p *pipes) resize(exec *monitor.Exec) {
	for {
		select {
		case size, ok := <-p.client.Sizes:
			if !ok {
				return
			}
			_ = exec.Resize(size.Width, size.Height) // fails if the command has ended
		case <-p.ended:
			return
		}
	}
}

// finish is called when the command has ended. It returns when the client has taken all
// that the command wrote.
func (p *pipes) finish() (err error) {
	close(p.ended)
	for _, o := range p.outlets {
		err = errors.Join(err, o.finish())
	}
	return err
}

// close ends the copying.
func (p *pipes) close() {
	p.closeTheirs()
	for _, o := range p.outlets {
		o.read.Close()
		if o.done != nil {
			<-o.done
		}
	}
	if p.stdin != nil {
		p.stdin.Close()
	}
	if p.client.Stdin != nil {
		_ = p.client.Stdin.Close() // its reader ends
	}
	p.copying.Wait()
}

func (p *pipes) closeTheirs() {
	for _, file := range p.theirs {
		file.Close()
	}
	p.theirs = nil
}

// outlet copies what a command writes to a pipe or a terminal to the client.
type outlet struct {
	read     *os.File
	terminal bool
	to       io.Writer
	// done is closed when copy has returned; nil before it was called.
	done chan struct{}
	err  error
	// refused: the client does not take more.
	refused bool
}

func (o *outlet) Write(p []byte) (int, error) {
	n, err := o.to.Write(p)
	o.refused = o.refused || err != nil
	return n, err
}

// copy copies to the end, or until finish. If the client does not take more, the command
// learns it as in any pipeline: by SIGPIPE or EPIPE.
func (o *outlet) copy() {
	defer close(o.done)
	_, o.err = io.Copy(onlyWriter{o}, onlyReader{o.read})
	if o.refused {
		o.read.Close()
	}
}

// onlyWriter and onlyReader hide methods by which io.Copy would find shortcuts, which
// deadlines do not interrupt.
type (
	onlyWriter struct{ io.Writer }
	onlyReader struct{ io.Reader }
)

// finish passes on what is in the pipe. A process that was left behind may hold the
// other end open and keep writing, so the pipe is read only as far as it can have been
// full.
func (o *outlet) finish() error {
	// This fails only if copy has closed the file.
	_ = o.read.SetReadDeadline(time.Now())
	<-o.done
	switch {
	case errors.Is(o.err, os.ErrDeadlineExceeded) && !o.refused:
		return o.drain()
	case o.terminal && errors.Is(o.err, unix.EIO):
		return nil // nobody has the terminal open any more
	}
	return o.err
}

// maxTerminal is more than the kernel keeps of a terminal's output, in bytes.
const maxTerminal = 64 << 10

// drain passes on what can be read without waiting.
func (o *outlet) drain() error {
	if err := o.read.SetReadDeadline(time.Time{}); err != nil {
		return err
	}
	raw, err := o.read.SyscallConn()
	if err != nil {
		return err
	}
	size := maxTerminal
	if !o.terminal {
		err = raw.Control(func(fd uintptr) {
			if size, err = unix.FcntlInt(fd, unix.F_GETPIPE_SZ, 0); err != nil {
				size = 0
			}
		})
	}
	buffer := make([]byte, 32<<10)
	for err == nil && size > 0 {
		n := 0
		var readErr error
		err = raw.Read(func(fd uintptr) bool {
			for {
				if n, readErr = unix.Read(int(fd), buffer); readErr != unix.EINTR {
					return true
				}
			}
		})
		if readErr == unix.EAGAIN || o.terminal && readErr == unix.EIO {
			return nil
		}
		if err = errors.Join(err, readErr); err != nil || n == 0 {
			return err
		}
		if _, err = o.to.Write(buffer[:n]); err != nil {
			return err
		}
		size -= n
	}
	return err
}
