package stats

import (
	"bytes"
	"errors"
	"math"
	"strconv"
	"strings"
	"sync"

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
	value, err := strconv.ParseUint(string(text), 10, 64)
	if err != nil {
		return number{}
	}
	return known(value)
}

var buffers = sync.Pool{New: func() any { return new([maxFile]byte) }}

// inFile calls use with what a file has, at most maxFile bytes, and reports whether the
// file could be read. What use gets is valid until it returns.
func inFile(path string, use func(content []byte)) bool {
	buffer := buffers.Get().(*[maxFile]byte)
	defer buffers.Put(buffer)
	n, err := readInto(path, buffer[:])
	if err != nil {
		return false
	}
	use(buffer[:n])
	return true
}

// readInto reads a file without the runtime's poller, which cgroup files do not support:
// it would cost two more calls for each file.
func readInto(path string, buffer []byte) (int, error) {
	fd, err := retry(func() (int, error) { return unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0) })
	if err != nil {
		return 0, err
	}
	defer func() { _ = unix.Close(fd) }()
	filled := 0
	for filled < len(buffer) {
		n, err := retry(func() (int, error) { return unix.Read(fd, buffer[filled:]) })
		if err != nil {
			return 0, err
		}
		if n == 0 {
			break
		}
		filled += n
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

// readNumber reads a file that has one number.
func readNumber(path string) (n number) {
	inFile(path, func(content []byte) { n = parse(content) })
	return n
}

// wanted are numbers by the keys of their lines.
type wanted map[string]*number

// readKeyed reads a file with lines of key and number.
func readKeyed(path string, want wanted) bool {
	return inFile(path, func(content []byte) { keyed(content, want) })
}

func keyed(content []byte, want wanted) {
	for line := range bytes.Lines(content) {
		if key, value, found := bytes.Cut(line, []byte{' '}); found {
			if at := want[string(key)]; at != nil {
				*at = parse(value)
			}
		}
	}
}

// text is what the kernel calls something, as a message can hold it: names of network
// interfaces may have any bytes but a few, and one invalid string makes the whole answer
// invalid.
func text(name string) string { return strings.ToValidUTF8(name, "\uFFFD") }
