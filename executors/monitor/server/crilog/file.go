package crilog

import (
	"errors"
	"fmt"
	"time"

	"golang.org/x/sys/unix"
)

// Scratch is the space in which records are put together. All files that are
// written by one goroutine can share one.
type Scratch struct {
	head [maxHead]byte
	out  []byte
	// content is how many of out's bytes the container wrote.
	content int64
}

// NewScratch returns a Scratch that writes about 128 KiB at a time.
func NewScratch() *Scratch { return &Scratch{out: make([]byte, 0, 128<<10)} }

// File is one container's log.
type File struct {
	path string
	fd   int
	// size is that of the file, as far as this File wrote it or met it.
	size int64
	// max is the size that the file may reach, in bytes; 0 for any.
	max int64
	// torn says that the file ends within a record, because a write failed
	// half-way and the file could not be shortened.
	torn bool
	// open says, for each stream, that its last record was a partial one.
	open [2]bool

	lost    int64
	lastErr error
}

// Open opens the log at path, or makes it, mode 0640. The path is absolute and
// free of links: see openDir. A record that would make the file longer than max
// bytes (0: no limit) starts an empty file in its place; those who have the old
// one open can read it to its end.
func Open(path string, max int64) (*File, error) {
	fd, size, err := openLog(path)
	if err != nil {
		return nil, err
	}
	return &File{path: path, fd: fd, size: size, max: max}, nil
}

// Reopen opens the path again, for what is written from now on. On an error the
// file that was open stays in use.
func (f *File) Reopen() error {
	fd, size, err := openLog(f.path)
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
	f.fd, f.size, f.torn = fd, size, false
}

// Lost returns how many bytes of output could not be written, and the last
// reason.
func (f *File) Lost() (int64, error) { return f.lost, f.lastErr }

// Append writes what is complete in data as records of stream, all with the time
// now, and returns the rest, at most MaxContent bytes of a line that has not
// ended. It doesn't fail: what the disk refuses is counted (Lost), since the
// container must not wait for it.
func (f *File) Append(s *Scratch, now time.Time, stream Stream, data []byte) []byte {
	h := appendHead(s.head[:0], now, stream)
	for {
		content, rest, full, ok := cut(data)
		if !ok {
			f.flush(s)
			return rest
		}
		f.put(s, h, content, full)
		f.open[stream] = !full
		data = rest
	}
}

// Partial writes data, at most MaxContent bytes without a newline, as a piece of
// a line that goes on.
func (f *File) Partial(s *Scratch, now time.Time, stream Stream, data []byte) {
	f.put(s, appendHead(s.head[:0], now, stream), data, false)
	f.open[stream] = true
	f.flush(s)
}

// End ends a stream. data are the last bytes of a line that the container didn't
// end, at most MaxContent; there may be none. The line is ended in its stead,
// since readers of logs wait for the end of a line before they show it.
func (f *File) End(s *Scratch, now time.Time, stream Stream, data []byte) {
	if len(data) == 0 && !f.open[stream] {
		return
	}
	f.put(s, appendHead(s.head[:0], now, stream), data, true)
	f.open[stream] = false
	f.flush(s)
}

func (f *File) put(s *Scratch, h head, content []byte, full bool) {
	record := maxHead + len(content)
	if len(s.out)+record > cap(s.out) {
		f.flush(s)
	}
	if f.max > 0 && f.size+int64(len(s.out)+record) > f.max {
		f.flush(s)
		if f.size > 0 {
			f.restart()
		}
	}
	s.out = appendRecord(s.out, h, content, full)
	s.content += int64(len(content))
}

// flush writes s.out and empties it.
func (f *File) flush(s *Scratch) {
	if len(s.out) == 0 {
		return
	}
	if err := f.write(s.out); err != nil {
		f.lost += s.content
		f.lastErr = fmt.Errorf("write log %s: %w", f.path, err)
	}
	s.out, s.content = s.out[:0], 0
}

// write appends all of p or nothing.
func (f *File) write(p []byte) error {
	if f.fd < 0 {
		return errors.New("the log is closed")
	}
	if f.torn {
		if _, err := unix.Write(f.fd, []byte{'\n'}); err != nil {
			return err
		}
		f.torn = false
		f.size++
	}
	for done := 0; done < len(p); {
		n, err := unix.Write(f.fd, p[done:])
		if n > 0 {
			done += n
			continue
		}
		if err == unix.EINTR {
			continue
		}
		if done > 0 && unix.Ftruncate(f.fd, f.size) != nil {
			f.torn = true
			f.size += int64(done)
		}
		return err
	}
	f.size += int64(len(p))
	return nil
}

// restart goes on with an empty file. Readers follow a new file at the path but
// not one that shrinks, so the file is replaced; only where that is refused is
// it emptied.
func (f *File) restart() {
	if fd, err := replaceLog(f.path); err == nil {
		f.use(fd, 0)
		return
	}
	if err := unix.Ftruncate(f.fd, 0); err != nil {
		f.lastErr = fmt.Errorf("start log %s again at %d bytes: %w", f.path, f.size, err)
		return
	}
	f.size = 0
}
