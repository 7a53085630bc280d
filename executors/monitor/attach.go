package monitor

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"

	"golang.org/x/sys/unix"

	pb "github.com/stele-runtime/stele/proto/monitor/v1"
)

// ErrTooSlow: a client was detached because it did not read the container's output
// fast enough.
var ErrTooSlow = errors.New("the client read too slowly")

// AttachRequest is what Attach needs.
type AttachRequest struct {
	ContainerID string
	// Stdin, Stdout and Stderr say which of the container's streams are wanted.
	// With a terminal all output is on Stdout.
	Stdin, Stdout, Stderr bool
}

// Attachment is a client's connection to a container.
type Attachment struct {
	// Stdin is written to; Stdout and Stderr are read from until EOF, which also comes
	// when the attachment ends. Closing Stdin ends the client's input. Those not
	// asked for are nil.
	Stdin, Stdout, Stderr *os.File

	client    *Client
	container string
	id        string
	call      *call
	done      chan struct{}
	err       error
}

// Attach connects a client to a container's streams: from now on the container's
// output goes to the client as well as to the log. It ends with the container's
// output, with ctx, and with the monitor, after which the client can attach again. A
// client that is too slow is detached. The attachment must be closed.
func (c *Client) Attach(ctx context.Context, r AttachRequest) (*Attachment, error) {
	s, err := c.link.current(ctx)
	if err != nil {
		return nil, err
	}
	if !s.speaks(versionTerminals) {
		return nil, fmt.Errorf("attach to container %s: %w", r.ContainerID, s.tooOld())
	}
	a := &Attachment{client: c, container: r.ContainerID, id: strconv.FormatUint(c.attachments.Add(1), 10), done: make(chan struct{})}
	if err := a.open(ctx, s, r); err != nil {
		a.closeFiles()
		return nil, fmt.Errorf("attach to container %s: %w", r.ContainerID, err)
	}
	c.late.Go(func() { a.run(ctx) })
	return a, nil
}

// open makes the pipes and sends the monitor its ends.
func (a *Attachment) open(ctx context.Context, s *session, r AttachRequest) error {
	req := &pb.Request{Call: &pb.Request_Attach{Attach: &pb.Attach{ContainerId: r.ContainerID, AttachId: a.id}}}
	var theirs []int
	defer func() { closeAll(theirs) }()
	for _, stream := range []struct {
		wanted bool
		role   pb.Role
		file   **os.File
	}{
		{r.Stdin, pb.Role_ROLE_STDIN, &a.Stdin},
		{r.Stdout, pb.Role_ROLE_STDOUT, &a.Stdout},
		{r.Stderr, pb.Role_ROLE_STDERR, &a.Stderr},
	} {
		if !stream.wanted {
			continue
		}
		var pipe [2]int
		if err := unix.Pipe2(pipe[:], unix.O_CLOEXEC|unix.O_NONBLOCK); err != nil {
			return fmt.Errorf("make a pipe: %w", err)
		}
		own, their := pipe[0], pipe[1]
		if stream.role == pb.Role_ROLE_STDIN {
			own, their = their, own
		}
		*stream.file = os.NewFile(uintptr(own), "attachment")
		theirs = append(theirs, their)
		req.Descriptors = append(req.Descriptors, stream.role)
	}
	var err error
	if a.call, err = s.start(req, theirs...); err != nil {
		return err
	}
	f, err := a.call.next(ctx)
	f.close()
	switch {
	case err != nil:
	case f.reply.GetAttachEnded() != nil:
		err = a.ended(f.reply.GetAttachEnded())
		if err == nil {
			err = errors.New("the container's output has ended")
		}
	case f.reply.GetAttachStarted() == nil:
		err = fmt.Errorf("the monitor answered with %T", f.reply.Result)
	}
	if err != nil {
		if ctx.Err() != nil {
			a.detach()
		}
		a.call.close()
	}
	return err
}

// run waits for the end.
func (a *Attachment) run(ctx context.Context) {
	defer close(a.done)
	defer a.call.close()
	err := a.awaitEnd(ctx)
	if ctx.Err() != nil && errors.Is(err, ctx.Err()) {
		a.detach()
		late, cancel := context.WithTimeout(a.client.link.ctx, killAnswer)
		defer cancel()
		// The end was asked for: ctx's error is the one to report.
		_ = a.awaitEnd(late)
	}
	if err != nil {
		a.err = fmt.Errorf("attached to container %s: %w", a.container, err)
	}
}

// awaitEnd takes replies until the last.
func (a *Attachment) awaitEnd(ctx context.Context) error {
	for {
		f, err := a.call.next(ctx)
		if err != nil {
			return err
		}
		f.close()
		if f.reply.GetAttachStdinClosed() != nil {
			a.client.held.releaseStdin(a.container)
		}
		if !f.reply.More {
			return a.ended(f.reply.GetAttachEnded())
		}
	}
}

// detach asks the monitor to end the attachment.
func (a *Attachment) detach() {
	ctx, cancel := context.WithTimeout(a.client.link.ctx, killAnswer)
	defer cancel()
	// When that fails the connection has ended, and the attachment with it.
	_ = a.call.session.do(ctx, &pb.Request{Call: &pb.Request_DetachClient{DetachClient: &pb.DetachClient{AttachId: a.id}}})
}

// ended returns why the attachment ended; nil for a regular end.
func (a *Attachment) ended(end *pb.AttachEnded) error {
	if end.GetStdinClosed() {
		a.client.held.releaseStdin(a.container)
	}
	switch end.GetReason() {
	case pb.AttachEnded_REASON_TOO_SLOW:
		return fmt.Errorf("%w: %s", ErrTooSlow, end.GetMessage())
	case pb.AttachEnded_REASON_FAILED, pb.AttachEnded_REASON_UNSPECIFIED:
		return fmt.Errorf("the monitor says: %s", end.GetMessage())
	default:
		return nil
	}
}

// Wait waits for the end and returns the reason: nil if the container's output has
// ended or the client has gone, ErrTooSlow, ErrLost, or ctx's error. Output from
// before the end can still be read.
func (a *Attachment) Wait() error {
	<-a.done
	return a.err
}

// Close ends the attachment and closes its files.
func (a *Attachment) Close() {
	a.closeFiles()
	select {
	case <-a.done:
	default:
		a.detach()
		<-a.done
	}
}

func (a *Attachment) closeFiles() {
	for _, file := range []*os.File{a.Stdin, a.Stdout, a.Stderr} {
		if file != nil {
			file.Close()
		}
	}
}
