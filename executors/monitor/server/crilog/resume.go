package crilog

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// searchFiles bounds the search of a log's directory for a renamed file: the kubelet
// keeps five per container.
const searchFiles = 1024

// Resume continues a batch whose last write another process has noted; otherwise it is
// like Append. begun: that write's file was not found, and its records are lost with
// it; otherwise they need no more attention.
func (f *File) Resume(s *Scratch, b *Batch, n Note, begun bool) (rest []byte) {
	switch {
	case begun:
		return f.appendFrom(s, b, n.From)
	case n.Last:
		return nil
	default:
		return f.appendFrom(s, b, n.To)
	}
}

// Complete finishes a write during which another process was killed. It looks for the
// file at the log's path and, since it may have been renamed, in the same directory. ok:
// the file was found; what was missing is written now or counted as lost, and the
// batch's Ledger is notified. Nothing else may be written to the file before.
func (f *File) Complete(s *Scratch, b *Batch, n Note) (ok bool, err error) {
	defer s.begin(0)
	if err := f.repeat(s, b, n); err != nil {
		// Better than writing what may be there.
		b.Ledger.Written()
		return true, err
	}
	fd := f.fd
	if st, err := f.statOpen(); err != nil || st.Dev != n.Device || st.Ino != n.Inode {
		if fd, err = f.search(n); fd < 0 {
			return false, err
		}
		defer func() { _ = unix.Close(fd) }()
	}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return false, fmt.Errorf("stat log %s: %w", f.path, err)
	}
	// A shorter file was truncated meanwhile, and everything is missing.
	done := min(max(0, st.Size-n.Size), int64(len(s.out)))
	if _, err := writeAll(fd, s.out[done:]); err != nil {
		f.lose(s.content, err)
		if err := unix.Ftruncate(fd, min(n.Size, st.Size)); err != nil {
			f.lastErr = fmt.Errorf("shorten log %s: %w", f.path, err)
		}
	}
	b.Ledger.Written()
	if fd == f.fd {
		f.unchecked = true
		_, err = f.stat()
	}
	return true, err
}

// repeat assembles a write's records again.
func (f *File) repeat(s *Scratch, b *Batch, n Note) error {
	s.start(b, n.From)
	r := record{to: n.From}
	for r.to < n.To && b.next(&r) {
		s.add(&r)
	}
	if n.Last && b.last(r.to, &r) {
		s.add(&r)
	}
	if s.to != n.To || len(s.out) != n.Length {
		return fmt.Errorf("log %s: the records of a write that was begun end at %d and have %d bytes, not %d and %d", f.path, s.to, len(s.out), n.To, n.Length)
	}
	return nil
}

// statOpen fails if the log is closed.
func (f *File) statOpen() (st unix.Stat_t, err error) {
	err = unix.Fstat(f.fd, &st)
	return st, err
}

// search opens a note's file in the log's directory; -1 if it is not there.
func (f *File) search(n Note) (fd int, err error) {
	dir, err := openLogDir(f.path, false)
	if err != nil {
		return -1, err
	}
	defer func() { _ = unix.Close(dir) }()
	listed, err := unix.Openat(dir, ".", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, fmt.Errorf("list the directory of log %s: %w", f.path, err)
	}
	list := os.NewFile(uintptr(listed), f.path)
	defer list.Close()
	names, err := list.Readdirnames(searchFiles)
	if err != nil && len(names) == 0 {
		return -1, nil
	}
	for _, name := range names {
		var st unix.Stat_t
		if unix.Fstatat(dir, name, &st, unix.AT_SYMLINK_NOFOLLOW) != nil || st.Dev != n.Device || st.Ino != n.Inode {
			continue
		}
		fd, st, err := openFileAt(dir, name, 0)
		if err != nil {
			return -1, fmt.Errorf("open a renamed log beside %s: %w", f.path, err)
		}
		if st.Dev == n.Device && st.Ino == n.Inode {
			return fd, nil
		}
		_ = unix.Close(fd)
	}
	return -1, nil
}
