package server

import (
	"fmt"
	"slices"

	"github.com/stele-runtime/stele/executors/monitor/server/stdio"
	pb "github.com/stele-runtime/stele/proto/monitor/v1"
)

// descriptors are file descriptors with their roles.
type descriptors struct {
	roles []pb.Role
	fds   []int
}

// received pairs a request's descriptors with their roles. On an error they are
// closed.
func received(roles []pb.Role, fds []int) (descriptors, error) {
	if len(roles) != len(fds) {
		stdio.Close(fds...)
		return descriptors{}, fail(pb.Failure_CODE_INVALID, "%d descriptors came with a request that names %d", len(fds), len(roles))
	}
	return descriptors{roles: roles, fds: fds}, nil
}

// add adds fd unless it is -1.
func (d *descriptors) add(role pb.Role, fd int) {
	if fd >= 0 {
		d.roles = append(d.roles, role)
		d.fds = append(d.fds, fd)
	}
}

// duplicate adds a duplicate of fd unless it is -1.
func (d *descriptors) duplicate(role pb.Role, fd int) error {
	if fd < 0 {
		return nil
	}
	twin, err := stdio.Duplicate(fd)
	if err != nil {
		return fmt.Errorf("%s: %w", role, err)
	}
	d.add(role, twin)
	return nil
}

// take removes and returns the descriptor of a role; -1 if there is none.
func (d *descriptors) take(role pb.Role) int {
	for i, r := range d.roles {
		if r == role && d.fds[i] >= 0 {
			fd := d.fds[i]
			d.fds[i] = -1
			return fd
		}
	}
	return -1
}

// get returns the descriptor of a role and keeps it; -1 if there is none.
func (d *descriptors) get(role pb.Role) int {
	for i, r := range d.roles {
		if r == role {
			return d.fds[i]
		}
	}
	return -1
}

// close closes those that were not taken.
func (d *descriptors) close() { stdio.Close(d.fds...) }

// errorsFirst returns the first error that isn't nil.
func errorsFirst(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// belongings are a container's descriptors; -1 for those that are absent.
type belongings struct {
	pidfd, stdin, stdout, stderr, terminal int
	// notifier is the socket for seccomp filters, notify are the filters.
	notifier int
	notify   []int
}

func noBelongings() belongings { return belongings{-1, -1, -1, -1, -1, -1, nil} }

// takeBelongings takes what came with a request.
func takeBelongings(from *descriptors) belongings {
	return belongings{
		pidfd:    from.take(pb.Role_ROLE_PIDFD),
		stdin:    from.take(pb.Role_ROLE_STDIN),
		stdout:   from.take(pb.Role_ROLE_STDOUT),
		stderr:   from.take(pb.Role_ROLE_STDERR),
		terminal: from.take(pb.Role_ROLE_TERMINAL),
		notifier: -1,
	}
}

// list returns those that are present.
func (b belongings) list() []int {
	all := append([]int{b.pidfd, b.stdin, b.stdout, b.stderr, b.terminal, b.notifier}, b.notify...)
	return slices.DeleteFunc(all, func(fd int) bool { return fd < 0 })
}

func (b belongings) close() { stdio.Close(b.list()...) }
