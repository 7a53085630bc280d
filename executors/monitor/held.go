package monitor

import (
	"context"
	"fmt"

	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/proto"

	pb "github.com/stele-runtime/stele/proto/monitor/v1"
)

// held are the duplicates of a container's descriptors, by which its pipes keep
// a reader, and its exit status is kept, while there is no monitor.
type held struct {
	record *pb.Container
	roles  []pb.Role
	fds    []int
}

// hold keeps the descriptors that came with a container.
func (c *Client) hold(f frame) {
	record := f.reply.GetContainer()
	if record == nil || len(f.fds) != len(f.reply.Descriptors) {
		f.close()
		return
	}
	c.mu.Lock()
	before, ok := c.held[record.Id]
	c.held[record.Id] = held{record: record, roles: f.reply.Descriptors, fds: f.fds}
	c.mu.Unlock()
	if ok {
		closeAll(before.fds)
	}
}

// release lets go of a container's descriptors.
func (c *Client) release(id string) {
	c.mu.Lock()
	h, ok := c.held[id]
	delete(c.held, id)
	c.mu.Unlock()
	if ok {
		closeAll(h.fds)
	}
}

// releaseStdin lets go of a container's standard input, which is closed once
// nobody holds it.
func (c *Client) releaseStdin(id string) {
	c.mu.Lock()
	h, ok := c.held[id]
	var closing []int
	if ok {
		kept := held{record: h.record}
		for i, role := range h.roles {
			if role == pb.Role_ROLE_STDIN {
				closing = append(closing, h.fds[i])
				continue
			}
			kept.roles, kept.fds = append(kept.roles, role), append(kept.fds, h.fds[i])
		}
		c.held[id] = kept
	}
	c.mu.Unlock()
	closeAll(closing)
}

func (c *Client) releaseAll() {
	c.mu.Lock()
	all := c.held
	c.held = map[string]held{}
	c.mu.Unlock()
	for _, h := range all {
		closeAll(h.fds)
	}
}

// copies returns what is held, with duplicates of its own, since a container may
// be forgotten at any time.
func (c *Client) copies() ([]held, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	var all []held
	for _, h := range c.held {
		twin := held{record: proto.CloneOf(h.record), roles: h.roles}
		for _, fd := range h.fds {
			dup, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 3)
			if err != nil {
				closeAll(twin.fds)
				for _, other := range all {
					closeAll(other.fds)
				}
				return nil, fmt.Errorf("duplicate the descriptors of container %s: %w", h.record.Id, err)
			}
			twin.fds = append(twin.fds, dup)
		}
		all = append(all, twin)
	}
	return all, nil
}

// backUp brings monitor and client to hold the same: a monitor that is new gets
// what the client holds, and the client what the monitor has.
func (c *Client) backUp(ctx context.Context, s *session) error {
	all, err := c.copies()
	if err != nil {
		return err
	}
	for _, h := range all {
		if err == nil {
			err = s.do(ctx, &pb.Request{
				Descriptors: h.roles,
				Call:        &pb.Request_Adopt{Adopt: &pb.Adopt{Container: h.record}},
			}, h.fds...)
		}
		closeAll(h.fds)
	}
	if err != nil {
		return fmt.Errorf("hand the containers to the monitor: %w", err)
	}
	c.handExecs(s)
	if err := s.do(ctx, &pb.Request{Call: &pb.Request_Settle{Settle: &pb.Settle{}}}); err != nil {
		return fmt.Errorf("settle what the monitor has: %w", err)
	}
	return c.borrow(ctx, s)
}

// borrow asks for the descriptors of the containers that the client doesn't
// hold yet.
func (c *Client) borrow(ctx context.Context, s *session) error {
	containers, err := s.list(ctx)
	if err != nil {
		return fmt.Errorf("list the monitor's containers: %w", err)
	}
	for _, container := range containers {
		if container.StdinClosed {
			c.releaseStdin(container.Id)
		}
		c.mu.Lock()
		_, ok := c.held[container.Id]
		c.mu.Unlock()
		if ok || container.Exit != nil {
			continue
		}
		f, err := s.roundTrip(ctx, &pb.Request{Call: &pb.Request_Lend{Lend: &pb.Lend{ContainerId: container.Id}}})
		if err != nil {
			return fmt.Errorf("borrow the descriptors of container %s: %w", container.Id, err)
		}
		c.hold(f)
	}
	return nil
}
