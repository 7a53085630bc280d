package crilog

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// File is one container's log.
type File struct {
	path string
	// fd is -1 while the log is closed.
	fd int
	// size is the file's, as last seen.
	size int64
	// max is the size that the file may reach, in bytes; 0 for no limit.
	max int64
	// unchecked: another process wrote the end of the file. torn: it ends within a
	// record, because a write failed half-way and the file could not be shortened.
	unchecked, torn bool

	lost    int64
	lastErr error
}

// Open opens the log at path, or creates it, mode 0640. The path is absolute and free
// of symbolic links: see openDir. A record that would make the file longer than max
// bytes (0: no limit) starts an empty file in its place; readers that have the old one
// open can read it to its end.
func Open(path string, max int64) (*File, error) {
	f := Closed(path, max)
	if err := f.Reopen(); err != nil {
		return nil, err
	}
	return f, nil
}

// Closed returns a log that Reopen may open. Until then what is written is lost, and
// counted.
func Closed(path string, max int64) *File { return &File{path: path, fd: -1, max: max} }

// Reopen reopens the path for what is written from now on. On an error the open file
// stays in use.
func (f *File) Reopen() error {
	return f.open(true)
}

func (f *File) open(makeDirs bool) error {
	fd, size, err := openLog(f.path, makeDirs)
	if err != nil {
		return err
	}
	f.use(fd, size)
	return nil
}

// Close closes the file. Closing it twice is no error; Reopen opens it again.
func (f *File) Close() {
	if f.fd >= 0 {
		_ = unix.Close(f.fd)
		f.fd = -1
	}
}

func (f *File) use(fd int, size int64) {
	f.Close()
	f.fd, f.size, f.unchecked, f.torn = fd, size, size > 0, false
}

// Lost returns how many bytes of output could not be written, and the last
// reason.
func (f *File) Lost() (int64, error) { return f.lost, f.lastErr }

func (f *File) lose(content int64, why error) {
	f.lost += content
	f.lastErr = fmt.Errorf("write log %s: %w", f.path, why)
}

// prepare makes sure that a record can follow the file's content, and returns a Note
// that names the file.
func (f *File) prepare() (Note, error) {
	if f.fd < 0 {
		return Note{}, errors.New("the log is closed")
	}
	st, err := f.stat()
	if err == nil && st.Nlink == 0 {
		// The file was removed, and what is written to it would be lost. A directory
		// that is gone too is not recreated: it may be that of a removed pod.
		if err = f.open(false); err == nil {
			st, err = f.stat()
		}
	}
	if err != nil {
		return Note{}, err
	}
	if f.unchecked && f.size > 0 {
		var end [1]byte
		if n, err := unix.Pread(f.fd, end[:], f.size-1); err != nil {
			return Note{}, err
		} else if n == 1 {
			f.torn = end[0] != '\n'
		}
	}
	f.unchecked = false
	if f.torn {
		if _, err := unix.Write(f.fd, []byte{'\n'}); err != nil {
			return Note{}, err
		}
		f.torn = false
		f.size++
	}
	return Note{Device: st.Dev, Inode: st.Ino, Size: f.size}, nil
}

// stat also updates the size: another process may have truncated the file.
func (f *File) stat() (unix.Stat_t, error) {
	var st unix.Stat_t
	if err := unix.Fstat(f.fd, &st); err != nil {
		return st, err
	}
	f.size = st.Size
	return st, nil
}

// write appends all of p or nothing.
func (f *File) write(p []byte) error {
	done, err := writeAll(f.fd, p)
	if err != nil {
		if done > 0 && unix.Ftruncate(f.fd, f.size) != nil {
			f.torn = true
			f.size += int64(done)
		}
		return err
	}
	f.size += int64(len(p))
	return nil
}

func writeAll(fd int, p []byte) (done int, err error) {
	for done < len(p) {
		n, err := unix.Write(fd, p[done:])
		if n > 0 {
			done += n
			continue
		}
		if err != unix.EINTR {
			return done, err
		}
	}
	return done, nil
}

// restart continues with an empty file. Readers follow a new file at the path but not
// one that shrinks, so the file is replaced; it is truncated only if that fails.
func (f *File) restart() {
	if fd, err := replaceLog(f.path); err == nil {
		f.use(fd, 0)
		return
	}
	if err := unix.Ftruncate(f.fd, 0); err != nil {
		f.lastErr = fmt.Errorf("start log %s anew at %d bytes: %w", f.path, f.size, err)
		return
	}
	f.size = 0
}
