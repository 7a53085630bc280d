package monitor

import (
	"context"
	"errors"
	"iter"
	"time"

	pb "github.com/stele-runtime/stele/proto/monitor/v1"
)

// Notifier answers, in place of the kernel, the system calls that a container's seccomp profile
// reports (SCMP_ACT_NOTIFY): each gets an error, and none ever happens.
type Notifier struct {
	// Path is the socket that the profile's listenerPath names, absolute, at most 107 bytes and
	// this container's alone. The monitor makes it.
	Path string
	// Error is the error number of calls that Errors does not have; 0 answers with success.
	Error  uint32
	Errors map[Syscall]uint32
	// StopAfter: the container is due to be stopped when it has made no such call for this
	// time, or StopAtMost after the first; 0 for never.
	StopAfter, StopAtMost time.Duration
}

// Syscall is a system call, by the convention by which it is made (AUDIT_ARCH_* of linux/audit.h)
// and its number there.
type Syscall struct {
	Arch   uint32
	Number int32
}

func (n *Notifier) message() *pb.Notifier {
	if n == nil {
		return nil
	}
	m := &pb.Notifier{Path: n.Path, Error: n.Error, StopAfter: int64(n.StopAfter), StopAtMost: int64(n.StopAtMost)}
	for call, number := range n.Errors {
		m.Errors = append(m.Errors, &pb.CallError{Arch: call.Arch, Number: call.Number, Error: number})
	}
	return m
}

// Blocked are a container's forbidden system calls since its creation.
type Blocked struct {
	ContainerID string
	// Calls are in the order of the first of each.
	Calls []BlockedCall
	// Others counts calls of further kinds: only so many are told apart.
	Others uint64
	// Stop: the container is due to be stopped.
	Stop bool
}

// BlockedCall is how often a call was made.
type BlockedCall struct {
	Syscall
	Count uint64
}

// Blocked yields the forbidden system calls of containers: first for each that made any, then
// whenever there are more, about once a second. It ends when ctx or the Client does. Only one loop
// at a time should range over it. A monitor that is too old yields nothing.
func (c *Client) Blocked(ctx context.Context) iter.Seq[Blocked] {
	request := &pb.Request{Call: &pb.Request_Blocked{Blocked: &pb.Blocked{}}}
	return func(yield func(Blocked) bool) {
		c.subscribe(ctx, subscription{"forbidden system calls", versionNotifier, request}, func(reply *pb.Reply) bool {
			calls := reply.GetBlockedCalls()
			return calls == nil || yield(toBlocked(calls))
		})
	}
}

func toBlocked(m *pb.BlockedCalls) Blocked {
	b := Blocked{ContainerID: m.ContainerId, Others: m.Others, Stop: m.Stop}
	for _, call := range m.Calls {
		b.Calls = append(b.Calls, BlockedCall{Syscall{call.Arch, call.Number}, call.Count})
	}
	return b
}

// subscription is a request with replies without end.
type subscription struct {
	// what names them.
	what string
	// version is the one that brought the request.
	version uint32
	request *pb.Request
}

// subscribe calls f with each reply until it returns false, or ctx or the Client ends. With each
// session it begins anew.
func (c *Client) subscribe(ctx context.Context, to subscription, f func(*pb.Reply) bool) {
	for {
		s, err := c.link.current(ctx)
		if err != nil {
			return
		}
		more := true
		err = s.subscribe(ctx, to, func(reply *pb.Reply) bool {
			more = f(reply)
			return more
		})
		if !more || ctx.Err() != nil {
			return
		}
		if errors.Is(err, ErrLost) {
			c.link.depart(s)
			continue
		}
		c.config.Logger.Error("a subscription ended", "to", to.what, "error", err)
		select {
		case <-time.After(retryMax):
		case <-ctx.Done():
			return
		}
	}
}

// subscribe calls f with replies until it returns false or an error occurs.
func (s *session) subscribe(ctx context.Context, to subscription, f func(*pb.Reply) bool) error {
	if !s.speaks(to.version) {
		select {
		case <-s.lost:
			return ErrLost
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	c, err := s.start(to.request)
	if err != nil {
		return err
	}
	defer c.close()
	for {
		reply, err := c.next(ctx)
		if err != nil {
			return err
		}
		reply.close()
		if !f(reply.reply) {
			return nil
		}
	}
}
