package monitor

import (
	"context"
	"fmt"
	"slices"
	"sync"

	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/proto"

	pb "github.com/stele-runtime/stele/proto/monitor/v1"
)

// held are the duplicates of a container's descriptors. They keep its pipes open and
// its exit status available while there is no monitor.
type held struct {
	record *pb.Container
	roles  []pb.Role
	fds    []int
}

// duplicates are the descriptors that the daemon holds, by container id.
type duplicates struct {
	mu   sync.Mutex
	held map[string]held
}

func newDuplicates() *duplicates { return &duplicates{held: map[string]held{}} }

// hold keeps the descriptors that came with a container.
func (d *duplicates) hold(f frame) {
	record := f.reply.GetContainer()
	if record == nil || len(f.fds) != len(f.reply.Descriptors) {
		f.close()
		return
	}
	d.mu.Lock()
	before, ok := d.held[record.Id]
	d.held[record.Id] = held{record: record, roles: f.reply.Descriptors, fds: f.fds}
	d.mu.Unlock()
	if ok {
		closeAll(before.fds)
	}
}

func (d *duplicates) has(id string) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	_, ok := d.held[id]
	return ok
}

// release closes a container's descriptors.
func (d *duplicates) release(id string) {
	d.mu.Lock()
	h, ok := d.held[id]
	delete(d.held, id)
	d.mu.Unlock()
	if ok {
		closeAll(h.fds)
	}
}

// releaseStdin closes the duplicate of a container's standard input. The container
// sees the end when the last holder has closed it.
func (d *duplicates) releaseStdin(id string) {
	d.mu.Lock()
	h, ok := d.held[id]
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
		d.held[id] = kept
	}
	d.mu.Unlock()
	closeAll(closing)
}

func (d *duplicates) releaseAll() {
	d.mu.Lock()
	all := d.held
	d.held = map[string]held{}
	d.mu.Unlock()
	for _, h := range all {
		closeAll(h.fds)
	}
}

// signal sends a signal to a container's first process, if its pidfd is held.
func (d *duplicates) signal(id string, signal unix.Signal) (held bool, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	h := d.held[id]
	at := slices.Index(h.roles, pb.Role_ROLE_PIDFD)
	if at < 0 {
		return false, nil
	}
	if err := unix.PidfdSendSignal(h.fds[at], signal, nil, 0); err != nil && err != unix.ESRCH {
		return true, fmt.Errorf("send signal %d: %w", signal, err)
	}
	return true, nil
}

// copies returns duplicates of all that is held: a container may be forgotten at any
// time.
func (d *duplicates) copies() ([]held, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	var all []held
	for _, h := range d.held {
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

// handTo gives a monitor what is held, which a new one needs.
func (d *duplicates) handTo(ctx context.Context, s *session) error {
	all, err := d.copies()
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
	return nil
}

// borrow asks for the descriptors of containers that are not held yet.
func (d *duplicates) borrow(ctx context.Context, s *session) error {
	containers, err := s.list(ctx, "")
	if err != nil {
		return fmt.Errorf("list the monitor's containers: %w", err)
	}
	for _, container := range containers {
		if container.StdinClosed {
			d.releaseStdin(container.Id)
		}
		if d.has(container.Id) || container.Exit != nil {
			continue
		}
		f, err := s.roundTrip(ctx, &pb.Request{Call: &pb.Request_Lend{Lend: &pb.Lend{ContainerId: container.Id}}})
		if err != nil {
			return fmt.Errorf("borrow the descriptors of container %s: %w", container.Id, err)
		}
		d.hold(f)
	}
	return nil
}
