package executors

import (
	"context"
	"errors"
	"io"
	"os"
	"sync"

	"github.com/stele-runtime/stele/actors/fault"
	"github.com/stele-runtime/stele/actors/id"
	"github.com/stele-runtime/stele/executors/monitor"
	"github.com/stele-runtime/stele/executors/streams"
)

// Attach connects a client with a container's streams until the container's output ends or
// ctx does. What the container wrote before is not repeated, and a client that is too slow
// is detached.
func (x *Executor) Attach(ctx context.Context, c id.Container, client streams.Stdio) error {
	attached, err := x.Monitor.Attach(ctx, monitor.AttachRequest{
		ContainerID: string(c), Stdin: client.Stdin != nil, Stdout: client.Stdout != nil, Stderr: client.Stderr != nil,
	})
	if err != nil {
		return attachFault(c, err)
	}
	defer attached.Close()
	var output, input sync.WaitGroup
	ended := make(chan struct{})
	for _, out := range []struct {
		from *os.File
		to   io.Writer
	}{{attached.Stdout, client.Stdout}, {attached.Stderr, client.Stderr}} {
		if out.from != nil {
			output.Go(func() {
				_, _ = io.Copy(out.to, out.from)
				out.from.Close() // if the client takes no more, the monitor is to notice
			})
		}
	}
	if client.Stdin != nil {
		input.Go(func() {
			_, _ = io.Copy(attached.Stdin, client.Stdin)
			attached.Stdin.Close()
			// What nobody reads any more is dropped, so that the client need not wait.
			_, _ = io.Copy(io.Discard, client.Stdin)
		})
	}
	input.Go(func() { x.resize(ctx, c, client.Sizes, ended) })
	err = attached.Wait()
	output.Wait()
	close(ended)
	if client.Stdin != nil {
		_ = client.Stdin.Close() // its reader ends
	}
	input.Wait()
	if err != nil {
		return attachFault(c, err)
	}
	return nil
}

// resize gives a container's terminal the sizes of the client's.
func (x *Executor) resize(ctx context.Context, c id.Container, sizes <-chan streams.Size, ended <-chan struct{}) {
	for {
		select {
		case size, ok := <-sizes:
			if !ok {
				return
			}
			if err := x.Monitor.Resize(ctx, string(c), size.Width, size.Height); err != nil {
				x.Logger.Debug("a terminal was not resized", "container", c, "error", err)
			}
		case <-ended:
			return
		}
	}
}

func attachFault(c id.Container, err error) error {
	kind := fault.Internal
	switch {
	case errors.Is(err, monitor.ErrNotFound):
		kind = fault.Precondition
	case errors.Is(err, monitor.ErrUnimplemented):
		kind = fault.Unsupported
	case errors.Is(err, monitor.ErrLost), errors.Is(err, monitor.ErrClosed), errors.Is(err, monitor.ErrTooSlow):
		kind = fault.Unavailable
	}
	return fault.New(kind, "attach to container", string(c), "%v", err)
}
