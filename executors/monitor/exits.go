package monitor

import (
	"context"
	"errors"
	"iter"
	"time"

	pb "github.com/stele-runtime/stele/proto/monitor/v1"
)

// Exit is how a container's first process ended.
type Exit struct {
	// Seq numbers the exits of a state directory, in order.
	Seq         uint64
	ContainerID string
	// Process is the one that ended: a container's id may be reused. It is zero if
	// the monitor is too old to send it.
	Process Process
	// Code is the exit code, or 128 + Signal.
	Code int
	// Signal is the signal that ended the process; 0 for none.
	Signal int
	// OOMKilled: the kernel killed a process of the container's cgroup for lack of
	// memory while the container ran.
	OOMKilled bool
	// Time and SinceBoot are when the monitor learned of it, by the wall clock and
	// since boot.
	Time      time.Time
	SinceBoot time.Duration
	// Unknown is why Code and Signal could not be learned; they mean nothing then.
	// Empty when they are known.
	Unknown string
	// Note is a remark, mostly empty: that the container's terminal had hung up.
	Note string
	// MemoryPeak is the most memory that the container's cgroup ever used, and MemoryLimit
	// its limit at the end, in bytes; 0 if unknown, or if there was no limit.
	MemoryPeak, MemoryLimit uint64
}

func toExit(e *pb.Exit) Exit {
	return Exit{
		Seq:         e.Seq,
		ContainerID: e.ContainerId,
		Code:        int(e.Code),
		Signal:      int(e.Signal),
		OOMKilled:   e.OomKilled,
		Time:        time.Unix(0, e.Time),
		SinceBoot:   time.Duration(e.SinceBoot),
		Unknown:     e.Unknown,
		Process:     toProcess(e.Process),
		Note:        e.Note,
		MemoryPeak:  e.MemoryPeak,
		MemoryLimit: e.MemoryLimit,
	}
}

// Exits yields the unacknowledged exits with numbers above after, and then each one
// as it happens: in order, each once, even if the monitor is lost meanwhile. It ends
// when ctx or the Client does. Only one loop at a time should range over it. With 0
// it yields everything that is not acknowledged.
func (c *Client) Exits(ctx context.Context, after uint64) iter.Seq[Exit] {
	return func(yield func(Exit) bool) {
		for {
			s, err := c.link.current(ctx)
			if err != nil {
				return
			}
			more := true
			err = s.exits(ctx, after, func(e Exit) bool {
				if e.Seq > after {
					after = e.Seq
					c.link.sawExit(e.Seq)
					more = yield(e)
				}
				return more
			})
			if !more || ctx.Err() != nil {
				return
			}
			if !errors.Is(err, ErrLost) {
				// Another loop took the subscription over, or the monitor failed;
				// either shows again at once if it lasts.
				c.config.Logger.Error("the exits' subscription ended", "error", err)
				select {
				case <-time.After(retryMax):
				case <-ctx.Done():
					return
				}
				continue
			}
			c.link.depart(s)
		}
	}
}

// exits yields exits until yield returns false or an error occurs.
func (s *session) exits(ctx context.Context, after uint64, yield func(Exit) bool) error {
	c, err := s.start(&pb.Request{Call: &pb.Request_Subscribe{Subscribe: &pb.Subscribe{After: after}}})
	if err != nil {
		return err
	}
	defer c.close()
	for {
		f, err := c.next(ctx)
		if err != nil {
			return err
		}
		f.close()
		if e := f.reply.GetExit(); e != nil && !yield(toExit(e)) {
			return nil
		}
	}
}
