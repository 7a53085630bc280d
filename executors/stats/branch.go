package stats

import (
	"strings"

	"golang.org/x/sys/unix"
)

// branch is a cgroup, with its directories in the hierarchies. Each is opened when it is
// first asked for, and stays open until close, also for the cgroups below. The zero
// value is no cgroup's.
type branch struct {
	cgroup string
	open   []openedDirectory
	buffer *scratch
	few    [3]openedDirectory // for open
}

type openedDirectory struct {
	mountpoint string
	fd         int
}

func newBranch(cgroup string) *branch {
	b := &branch{cgroup: cgroup, buffer: scratches.Get().(*scratch)}
	b.open = b.few[:0]
	return b
}

func (b *branch) close() {
	for _, d := range b.open {
		if d.fd != missing {
			_ = unix.Close(d.fd)
		}
	}
	scratches.Put(b.buffer)
}

// limb is a cgroup that is a branch's, or below it.
type limb struct {
	*branch
	// below is its path from the branch's cgroup, and ends in a slash if it is not empty.
	below string
}

// within calls use with a cgroup, which mostly is the branch's or below it. The empty path is
// nobody's, and not the root's.
func (b *branch) within(cgroup string, use func(limb)) {
	if cgroup == "" {
		return
	}
	at, is := b.limb(cgroup)
	if !is {
		own := newBranch(cgroup)
		defer own.close()
		at = limb{own, ""}
	}
	use(at)
}

// limb returns a cgroup that is below the branch's, or is it.
func (b *branch) limb(cgroup string) (limb, bool) {
	rest, is := strings.CutPrefix(cgroup, b.cgroup)
	switch {
	case !is, b.cgroup == "":
		return limb{}, false
	case rest == "":
		return limb{b, ""}, true
	case rest[0] != '/':
		return limb{}, false
	}
	return limb{b, rest[1:] + "/"}, true
}

// in returns the cgroup's directory in a hierarchy. One that is not there has no files.
func (l limb) in(mountpoint string) directory {
	for _, d := range l.open {
		if d.mountpoint == mountpoint {
			return directory{d.fd, [4]string{l.below}, l.buffer}
		}
	}
	fd := l.buffer.open(mountpoint, l.cgroup)
	l.open = append(l.open, openedDirectory{mountpoint, fd})
	return directory{fd, [4]string{l.below}, l.buffer}
}

// once returns the cgroup's directory in a hierarchy of which only one file is read: to open
// it would cost more than to look its path up.
func (l limb) once(mountpoint string) directory {
	return directory{unix.AT_FDCWD, [4]string{mountpoint, l.cgroup, "/", l.below}, l.buffer}
}
