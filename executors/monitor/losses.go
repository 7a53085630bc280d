package monitor

import (
	"context"
	"errors"
	"iter"
	"time"

	pb "github.com/stele-runtime/stele/proto/monitor/v1"
)

// Loss is output that could not be written to a container's log.
type Loss struct {
	ContainerID string
	// Bytes is the total lost since the container was created.
	Bytes uint64
	// Reason is the last error.
	Reason string
}

// Losses yields what containers have lost of their output: first one for each that
// has lost any, then one whenever a total has changed. It ends when ctx or the Client
// does. Only one loop at a time should range over it. A monitor that is too old
// yields nothing.
func (c *Client) Losses(ctx context.Context) iter.Seq[Loss] {
	return func(yield func(Loss) bool) {
		known := map[string]uint64{}
		for {
			s, err := c.link.current(ctx)
			if err != nil {
				return
			}
			more := true
			err = s.losses(ctx, func(l Loss) bool {
				if known[l.ContainerID] != l.Bytes {
					known[l.ContainerID] = l.Bytes
					more = yield(l)
				}
				return more
			})
			if !more || ctx.Err() != nil {
				return
			}
			if errors.Is(err, ErrLost) {
				c.link.depart(s)
				continue
			}
			c.config.Logger.Error("the subscription to losses ended", "error", err)
			select {
			case <-time.After(retryMax):
			case <-ctx.Done():
				return
			}
		}
	}
}

// losses yields losses until yield returns false or an error occurs.
func (s *session) losses(ctx context.Context, yield func(Loss) bool) error {
	if !s.speaks(versionTerminals) {
		select {
		case <-s.lost:
			return ErrLost
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	c, err := s.start(&pb.Request{Call: &pb.Request_Losses{Losses: &pb.Losses{}}})
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
		if l := f.reply.GetLoss(); l != nil && !yield(Loss{ContainerID: l.ContainerId, Bytes: l.Bytes, Reason: l.Reason}) {
			return nil
		}
	}
}
