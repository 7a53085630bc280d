package server

import (
	"context"
	"errors"
	"fmt"
	"log/slog"

	"golang.org/x/sys/unix"

	"github.com/stele-runtime/stele/executors/monitor/server/journal"
	"github.com/stele-runtime/stele/executors/monitor/server/pump"
	"github.com/stele-runtime/stele/executors/monitor/server/stdio"
	pb "github.com/stele-runtime/stele/proto/monitor/v1"
)

// errDetached: the client asked to be detached.
var errDetached = errors.New("the client was detached")

// startAttach notes an attachment, so that detachClient finds it, until done is
// called. ctx ends when the client is to be detached.
func (n *session) startAttach(parent context.Context, id string) (ctx context.Context, done func(), err error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if _, ok := n.attachments[id]; ok || id == "" {
		return parent, func() {}, fail(pb.Failure_CODE_INVALID, "the attach id %q is missing, or is in use", id)
	}
	ctx, detach := context.WithCancelCause(parent)
	n.attachments[id] = detach
	return ctx, func() {
		detach(nil)
		n.mu.Lock()
		defer n.mu.Unlock()
		delete(n.attachments, id)
	}, nil
}

// detachClient detaches a client. An unknown one has gone.
func (n *session) detachClient(id string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if detach, ok := n.attachments[id]; ok {
		detach(errDetached)
	}
}

// attach connects a client to a container until either end is done.
func (n *session) attach(ctx context.Context, id uint64, req *pb.Attach, files *descriptors) (*pb.AttachEnded, error) {
	c, err := n.server.containers.find(req.ContainerId)
	if err != nil {
		return nil, err
	}
	output := c.outputs()
	if output == nil {
		return &pb.AttachEnded{Reason: pb.AttachEnded_REASON_OUTPUT_ENDED}, nil
	}
	a := &attachment{journal: n.server.journal, logger: n.server.logger, container: c, gone: make(chan error, 1)}
	client := pump.Client{
		Stdout: files.take(pb.Role_ROLE_STDOUT),
		Stderr: files.take(pb.Role_ROLE_STDERR),
		Gone:   func(why error) { a.gone <- why },
	}
	a.inputOnly = client.Stdout < 0 && client.Stderr < 0
	// A client must not be able to block the pump.
	for _, fd := range []int{client.Stdout, client.Stderr} {
		if fd >= 0 {
			err = errors.Join(err, unix.SetNonblock(fd, true))
		}
	}
	if err != nil {
		stdio.Close(client.Stdout, client.Stderr)
		return nil, fmt.Errorf("attach to container %s: %w", c.id, err)
	}
	remove, err := output.AddClient(client)
	if err != nil {
		return nil, fmt.Errorf("attach to container %s: %w", c.id, err)
	}
	defer remove()
	if stdin := files.take(pb.Role_ROLE_STDIN); stdin >= 0 {
		if a.input, err = c.openInput(stdin); err != nil {
			return nil, fmt.Errorf("attach to container %s: %w", c.id, err)
		}
	}
	if err := n.conn.Send(&pb.Reply{Id: id, More: true, Result: &pb.Reply_AttachStarted{AttachStarted: &pb.AttachStarted{}}}); err != nil {
		c.closeInput(a.input)
		return nil, err
	}
	return a.wait(ctx, func() error {
		return n.conn.Send(&pb.Reply{Id: id, More: true, Result: &pb.Reply_AttachStdinClosed{AttachStdinClosed: &pb.AttachStdinClosed{}}})
	})
}

// attachment is a client of a container.
type attachment struct {
	journal   *journal.Journal
	logger    *slog.Logger
	container *container
	// gone receives, once, why the output side has ended.
	gone chan error
	// input is nil if the client has none.
	input *input
	// inputOnly: the client gets no output.
	inputOnly bool
}

// wait waits for the end. tellClosed reports to the daemon that the container's input
// was closed.
func (a *attachment) wait(ctx context.Context, tellClosed func() error) (*pb.AttachEnded, error) {
	end := &pb.AttachEnded{}
	var inputEnded <-chan struct{}
	if a.input != nil {
		inputEnded = a.input.ended
	}
	for end.Reason == pb.AttachEnded_REASON_UNSPECIFIED {
		select {
		case why := <-a.gone:
			end.Reason, end.Message = goneReason(why)
		case <-inputEnded:
			inputEnded = nil
			if a.inputOnly {
				end.Reason = pb.AttachEnded_REASON_CLIENT_GONE
			} else if a.leaveInput() {
				if err := tellClosed(); err != nil {
					return nil, err
				}
			}
		case <-ctx.Done():
			if !errors.Is(context.Cause(ctx), errDetached) {
				// The daemon is gone, which stdin_once does not cover: its clients may
				// return.
				a.container.closeInput(a.input)
				return nil, ctx.Err()
			}
			end.Reason = pb.AttachEnded_REASON_DETACHED
		}
	}
	if a.input != nil {
		a.container.closeInput(a.input)
		a.leaveInput()
	}
	end.StdinClosed = a.container.isStdinClosed()
	return end, nil
}

// goneReason returns the protocol's name for the pump's reason.
func goneReason(why error) (pb.AttachEnded_Reason, string) {
	switch {
	case why == nil:
		return pb.AttachEnded_REASON_OUTPUT_ENDED, ""
	case errors.Is(why, pump.ErrSlow):
		return pb.AttachEnded_REASON_TOO_SLOW, why.Error()
	case errors.Is(why, unix.EPIPE) || errors.Is(why, unix.ECONNRESET):
		return pb.AttachEnded_REASON_CLIENT_GONE, ""
	default:
		return pb.AttachEnded_REASON_FAILED, why.Error()
	}
}
