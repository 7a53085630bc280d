package stats

import (
	"bytes"
	"errors"
	"math"
	"strings"
	"sync"
	"unsafe"

	"golang.org/x/sys/unix"

	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

const (
	// maxFile bounds what is read of one file, in bytes. The longest, memory.stat, has two
	// to three thousand.
	maxFile = 64 << 10
	// maxProcs bounds what is read of one cgroup.procs: some hundred thousand processes.
	maxProcs = 1 << 20
)

// number is what a file says, or nothing if the file or the line is missing, or has
// something that is no number of 64 bits.
type number struct {
	value uint64
	known bool
}

func known(value uint64) number { return number{value, true} }

// unlimited is a limit that is none.
func (n number) unlimited() bool { return n.known && n.value >= noLimit }

// message is the number in the CRI's form; nil if it is not known.
func (n number) message() *runtimeapi.UInt64Value {
	if !n.known {
		return nil
	}
	return &runtimeapi.UInt64Value{Value: n.value}
}

// slab holds the numbers of a message. They are allocated together: an answer has
// thousands.
type slab struct {
	values [8]runtimeapi.UInt64Value
	used   int
}

// put returns a number in the CRI's form; nil if it is not known.
func (s *slab) put(n number) *runtimeapi.UInt64Value {
	if !n.known || s.used == len(s.values) {
		return n.message()
	}
	at := &s.values[s.used]
	at.Value = n.value
	s.used++
	return at
}

// scaled is the number times factor, at most the largest number.
func (n number) scaled(factor uint64) number {
	if n.known && n.value > math.MaxUint64/factor {
		return known(math.MaxUint64)
	}
	return number{n.value * factor, n.known}
}

// minus is the number less another that is known, at least 0.
func (n number) minus(other number) number {
	if !n.known || !other.known {
		return n
	}
	return known(n.value - min(n.value, other.value))
}

// noLimit and what is above mean that there is no limit: v1 writes the largest number of
// pages in bytes.
const noLimit = 1 << 62

// parse reads a number; "max" is the largest.
func parse(text []byte) number {
	text = bytes.TrimSpace(text)
	if string(text) == "max" {
		return known(math.MaxUint64)
	}
	if len(text) == 0 {
		return number{}
	}
	value := uint64(0)
	for _, c := range text {
		digit := uint64(c - '0')
		if digit > 9 || value > (math.MaxUint64-digit)/10 {
			return number{}
		}
		value = 10*value + digit
	}
	return known(value)
}

// scratch has buffers for the files of one cgroup, one after the other.
type scratch struct {
	content [maxFile]byte
	path    [unix.PathMax]byte
	used    usage // of the cgroup that is read
}

var scratches = sync.Pool{New: func() any { return new(scratch) }}

// directory is one whose files are read, by an open directory at it or above it. The kernel
// then looks up what is below that alone, and not the path of the cgroup each time: that is
// most of what the opening of a cgroup file costs.
type directory struct {
	fd int
	// way leads from the open directory to this one, in pieces; without any it is the same.
	way    [4]string
	buffer *scratch
}

// missing is the descriptor of a directory that is not there.
const missing = -1

// open opens a directory. One that is not there has no files.
func (s *scratch) open(path ...string) int {
	fd, err := s.openat(unix.AT_FDCWD, unix.O_PATH|unix.O_DIRECTORY, path)
	if err != nil {
		return missing
	}
	return fd
}

// openat opens what pieces of a path lead to. Strings would be allocated and copied for each
// of the thousands of files of a call.
func (s *scratch) openat(dir, flags int, path []string) (int, error) {
	end := 0
	for _, piece := range path {
		end += copy(s.path[end:], piece)
	}
	if end == len(s.path) {
		return 0, unix.ENAMETOOLONG
	}
	s.path[end] = 0
	if bytes.IndexByte(s.path[:], 0) != end {
		return 0, unix.EINVAL
	}
	for {
		fd, _, errno := unix.Syscall6(unix.SYS_OPENAT, uintptr(dir), uintptr(unsafe.Pointer(&s.path[0])), uintptr(flags|unix.O_CLOEXEC), 0, 0, 0)
		switch errno {
		case 0:
			return int(fd), nil
		case unix.EINTR:
		default:
			return 0, errno
		}
	}
}

// in returns a directory below this one.
func (d directory) in(name string) directory {
	d.way = [4]string{strings.Join(d.way[:], ""), name, "/"}
	return d
}

// read returns what a cgroup file has, at most maxFile bytes; nil if it cannot be read. It
// is valid until the next file is read.
func (d directory) read(name string) []byte {
	n, err := d.readInto(name, d.buffer.content[:], whole)
	if err != nil {
		return nil
	}
	return d.buffer.content[:n]
}

// readInto reads a file of the directory.
func (d directory) readInto(name string, buffer []byte, kind contents) (int, error) {
	if d.fd == missing {
		return 0, unix.ENOENT // not that of another directory, whatever -1 means to the kernel
	}
	path := [...]string{d.way[0], d.way[1], d.way[2], d.way[3], name}
	fd, err := d.buffer.openat(d.fd, unix.O_RDONLY, path[:])
	if err != nil {
		return 0, err
	}
	return drain(fd, buffer, kind)
}

// number reads a file that has one number.
func (d directory) number(name string) number { return parse(d.read(name)) }

// contents say how a file that the kernel makes is read.
type contents int

const (
	// whole: one read has all of the file, if the buffer is large enough. The kernel makes
	// the contents of files of one record so, which all cgroup files are but cgroup.procs.
	whole contents = maxFile
	// parted: the file has many records, none of them nearly as long as half a page. A read
	// returns as many of them as fit in a page, so that one of less than half a page is the last.
	parted contents = 2 << 10
)

// drain reads a file, and closes it, without the runtime's poller, which cgroup files do not
// support: it would cost two more calls for each file.
func drain(fd int, buffer []byte, kind contents) (int, error) {
	defer func() { _ = unix.Close(fd) }()
	filled := 0
	for filled < len(buffer) {
		n, err := retry(func() (int, error) { return unix.Read(fd, buffer[filled:]) })
		if err != nil {
			return 0, err
		}
		filled += n
		if n < int(kind) {
			break
		}
	}
	return filled, nil
}

func retry(call func() (int, error)) (n int, err error) {
	for {
		if n, err = call(); !errors.Is(err, unix.EINTR) {
			return n, err
		}
	}
}

// inFile calls use with what a file has, at most maxFile bytes, and reports whether the
// file could be read. What use gets is valid until it returns.
func inFile(dir int, path string, use func(content []byte)) bool {
	buffer := scratches.Get().(*scratch)
	defer scratches.Put(buffer)
	fd, err := buffer.openat(dir, unix.O_RDONLY, []string{path})
	if err != nil {
		return false
	}
	n, err := drain(fd, buffer.content[:], parted)
	if err != nil {
		return false
	}
	use(buffer.content[:n])
	return true
}

// keys say where the numbers of lines of key and number belong in a T.
type keys[T any] map[string]func(*T) *number

// take takes the numbers of all lines whose key is known.
func (k keys[T]) take(content []byte, to *T) {
	for len(content) > 0 {
		line := content
		if end := bytes.IndexByte(content, '\n'); end >= 0 {
			line, content = content[:end], content[end+1:]
		} else {
			content = nil
		}
		if gap := bytes.IndexByte(line, ' '); gap >= 0 {
			if at := k[string(line[:gap])]; at != nil {
				*at(to) = parse(line[gap:])
			}
		}
	}
}

// text is what the kernel calls something, as a message can hold it: names of network
// interfaces may have any bytes but a few, and one invalid string makes the whole answer
// invalid.
func text(name string) string { return strings.ToValidUTF8(name, "\uFFFD") }
