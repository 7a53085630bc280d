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
	// record is the container for another monitor, encoded: it is mostly never asked for.
	record []byte
	given  []descriptor
}

// descriptor is a file descriptor with its role.
type descriptor struct {
	role pb.Role
	fd   int32
}

func (h held) close() {
	for _, d := range h.given {
		_ = unix.Close(int(d.fd))
	}
}

// duplicates are the descriptors that the daemon holds, by container id.
type duplicates struct {
	mu   sync.Mutex
	held map[string]held
}

func newDuplicates() *duplicates { return &duplicates{held: map[string]held{}} }

// hold keeps the descriptors that came with a container.
func (d *duplicates) hold(id string, f frame) {
	record := f.reply.GetContainer()
	encoded, err := proto.Marshal(record)
	if record == nil || err != nil || len(f.fds) != len(f.reply.Descriptors) {
		f.close()
		return
	}
	h := held{record: encoded, given: make([]descriptor, len(f.fds))}
	for i, fd := range f.fds {
		h.given[i] = descriptor{f.reply.Descriptors[i], int32(fd)}
	}
	d.mu.Lock()
	before := d.held[id]
	d.held[id] = h
	d.mu.Unlock()
	before.close()
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
	h := d.held[id]
	delete(d.held, id)
	d.mu.Unlock()
	h.close()
}

// releaseStdin closes the duplicate of a container's standard input. The container
// sees the end when the last holder has closed it.
func (d *duplicates) releaseStdin(id string) {
	d.mu.Lock()
	h, ok := d.held[id]
	var closing, kept held
	for _, x := range h.given {
		if x.role == pb.Role_ROLE_STDIN {
			closing.given = append(closing.given, x)
		} else {
			kept.given = append(kept.given, x)
		}
	}
	if ok {
		kept.record = h.record
		d.held[id] = kept
	}
	d.mu.Unlock()
	closing.close()
}

func (d *duplicates) releaseAll() {
	d.mu.Lock()
	all := d.held
	d.held = map[string]held{}
	d.mu.Unlock()
	for _, h := range all {
		h.close()
	}
}

// signal sends a signal to a container's first process, if its pidfd is held.
func (d *duplicates) signal(id string, signal unix.Signal) (held bool, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	h := d.held[id]
	at := slices.IndexFunc(h.given, func(x descriptor) bool { return x.role == pb.Role_ROLE_PIDFD })
	if at < 0 {
		return false, nil
	}
	if err := unix.PidfdSendSignal(int(h.given[at].fd), signal, nil, 0); err != nil && err != unix.ESRCH {
		return true, fmt.Errorf("send signal %d: %w", signal, err)
	}
	return true, nil
}

// copies returns duplicates of all that is held: a container may be forgotten at any
// time.
func (d *duplicates) copies() (all []held, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for id, h := range d.held {
		all = append(all, held{record: h.record})
		twin := &all[len(all)-1]
		for _, x := range h.given {
			fd, err := unix.FcntlInt(uintptr(x.fd), unix.F_DUPFD_CLOEXEC, 3)
			if err != nil {
				for _, other := range all {
					other.close()
				}
				return nil, fmt.Errorf("duplicate the descriptors of container %s: %w", id, err)
			}
			twin.given = append(twin.given, descriptor{x.role, int32(fd)})
		}
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
			err = h.handTo(ctx, s)
		}
		h.close()
	}
	if err != nil {
		return fmt.Errorf("hand the containers to the monitor: %w", err)
	}
	return nil
}

func (h held) handTo(ctx context.Context, s *session) error {
	adopt := &pb.Adopt{Container: &pb.Container{}}
	if err := proto.Unmarshal(h.record, adopt.Container); err != nil {
		return err
	}
	var roles []pb.Role
	var fds []int
	for _, d := range h.given {
		roles, fds = append(roles, d.role), append(fds, int(d.fd))
	}
	return s.do(ctx, &pb.Request{Descriptors: roles, Call: &pb.Request_Adopt{Adopt: adopt}}, fds...)
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
		d.hold(container.Id, f)
	}
	return nil
}
