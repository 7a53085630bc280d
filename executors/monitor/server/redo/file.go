package redo

import (
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"
)

// File is a redo file, for one goroutine at a time. The next process sees stores in
// order: a killed process has executed its instructions up to one, and none after it.
// Stores that declare others complete are atomic, so the compiler does not move them.
type File struct {
	fd   int
	mem  []byte
	head *fileHead
	// flight is the one for new work.
	flight *Flight
	// spare is an idle flight with memory, for the next process: this one may be
	// killed in its flight, and the disk full then. It is nil if there was no room.
	spare  *Flight
	places places
	// Step is set by tests. It is called between any two stores that matter: the
	// process may end there.
	Step func()
}

// Open opens the file at path, or creates it, mode 0600, in an existing directory on a
// tmpfs that only one process uses. A file that is damaged, of another version or of
// another boot is renamed to path + ".damaged", and damage says so: its content is lost.
func Open(path string) (file *File, damage string, err error) {
	title, err := title()
	if err != nil {
		return nil, "", err
	}
	file, err = openPresent(path, title)
	if err == nil {
		return file, "", nil
	}
	var damaged *damageError
	if errors.As(err, &damaged) {
		aside := path + ".damaged"
		if err := os.Rename(path, aside); err != nil {
			return nil, "", fmt.Errorf("set a damaged redo file aside: %w", err)
		}
		damage = fmt.Sprintf("%v; it is %s now", err, aside)
	} else if !errors.Is(err, os.ErrNotExist) {
		return nil, "", err
	}
	file, err = create(path, title)
	return file, damage, err
}

// Temporary returns a file without a name.
func Temporary() (*File, error) {
	title, err := title()
	if err != nil {
		return nil, err
	}
	fd, err := unix.MemfdCreate("redo", unix.MFD_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("make a redo file in memory: %w", err)
	}
	return start(fd, title)
}

// title returns the beginning of a file of this layout and boot.
func title() ([]byte, error) {
	boot, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return nil, fmt.Errorf("read the boot id: %w", err)
	}
	text := fmt.Sprintf("stele redo %d, %d bytes, boot %s\n", version, fileSize, strings.TrimSpace(string(boot)))
	return append([]byte(text), make([]byte, len(fileHead{}.title)-len(text))...), nil
}

// damageError says what is wrong with a file.
type damageError struct{ path, what string }

func (e *damageError) Error() string { return fmt.Sprintf("redo file %s: %s", e.path, e.what) }

// openPresent opens an existing file.
func openPresent(path string, title []byte) (*File, error) {
	fd, err := unix.Open(path, unix.O_RDWR|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if errors.Is(err, unix.ELOOP) || errors.Is(err, unix.EISDIR) {
		return nil, &damageError{path, "it is no file"}
	}
	if err != nil {
		return nil, fmt.Errorf("open the redo file: %w", &os.PathError{Op: "open", Path: path, Err: err})
	}
	f, err := mapFile(fd, path)
	if err != nil {
		_ = unix.Close(fd)
		return nil, err
	}
	err = f.check(path, title)
	if err == nil {
		err = f.begin()
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// mapFile checks the size first: touching memory beyond a file's end is fatal.
func mapFile(fd int, path string) (*File, error) {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return nil, fmt.Errorf("stat redo file %s: %w", path, err)
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG || st.Size != int64(fileSize) {
		return nil, &damageError{path, fmt.Sprintf("it has the mode %#o and %d bytes, not %d", st.Mode, st.Size, fileSize)}
	}
	mem, err := unix.Mmap(fd, 0, fileSize, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return nil, fmt.Errorf("map redo file %s: %w", path, err)
	}
	return &File{fd: fd, mem: mem, head: (*fileHead)(unsafe.Pointer(&mem[0]))}, nil
}

// create creates the file, and names it when it is complete.
func create(path string, title []byte) (*File, error) {
	fresh := path + ".new"
	if err := os.Remove(fresh); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("make a redo file: %w", err)
	}
	fd, err := unix.Open(fresh, unix.O_RDWR|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return nil, fmt.Errorf("make redo file %s: %w", fresh, err)
	}
	f, err := start(fd, title)
	if err != nil {
		return nil, errors.Join(err, os.Remove(fresh))
	}
	if err := os.Rename(fresh, path); err != nil {
		return nil, errors.Join(fmt.Errorf("name the redo file: %w", err), f.Close())
	}
	return f, nil
}

// start initializes an empty file. It owns the descriptor.
func start(fd int, title []byte) (*File, error) {
	err := unix.Ftruncate(fd, int64(fileSize))
	if err == nil {
		err = unix.Fallocate(fd, 0, 0, patternAt+pageSize)
	}
	if err != nil {
		_ = unix.Close(fd)
		return nil, fmt.Errorf("make room for a redo file: %w", err)
	}
	f, err := mapFile(fd, "that is new")
	if err != nil {
		_ = unix.Close(fd)
		return nil, err
	}
	// rand.Read never fails.
	_, _ = rand.Read(f.pattern())
	copy(f.head.title[:], title)
	if err := f.begin(); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// begin reserves a flight for new work, and a spare one if there is room.
func (f *File) begin() error {
	f.findPlaces()
	err := errors.New("the redo file has no room for new work")
	for i := range flights {
		l := f.flightAt(i)
		if l.state() != idle {
			continue
		}
		if allocateErr := f.allocate(l.at, flightSize); allocateErr != nil {
			// Another may have memory.
			err = allocateErr
			continue
		}
		if f.flight != nil {
			f.spare = l
			return nil
		}
		// A read that has to wait for a page may stop half-way when the process is
		// killed. If locking is refused, the pages are present most of the time.
		_ = unix.Mlock(f.mem[l.at:][:flightSize])
		f.flight = l
	}
	if f.flight == nil {
		return err
	}
	return nil
}

// allocate makes sure that memory can be touched: on a full disk that would kill the
// process.
func (f *File) allocate(at, size int) error {
	if err := unix.Fallocate(f.fd, 0, int64(at), int64(size)); err != nil {
		return fmt.Errorf("make room in the redo file: %w", err)
	}
	return nil
}

// free gives memory back, with its content.
func (f *File) free(at, size int) {
	// If that is refused, the memory is reused later.
	_ = unix.Fallocate(f.fd, unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, int64(at), int64(size))
}

// check looks for damage.
func (f *File) check(path string, title []byte) error {
	if !bytes.Equal(f.head.title[:], title) {
		return &damageError{path, fmt.Sprintf("it begins with %.80q, not %q", f.head.title[:], bytes.TrimRight(title, "\x00"))}
	}
	if used := f.head.used.Load(); used > carries {
		return &damageError{path, fmt.Sprintf("it has %d carries", used)}
	}
	free := false
	for i := range flights {
		state := f.head.states[i].Load()
		if free = free || state == idle; state == idle {
			continue
		}
		if what := f.flightAt(i).check(state); what != "" {
			return &damageError{path, fmt.Sprintf("flight %d: %s", i, what)}
		}
	}
	if !free {
		return &damageError{path, "it is full"}
	}
	for i := range int(f.head.used.Load()) {
		if c := f.carryHead(i); c.used.Load() != 0 && (c.size == 0 || c.size > MaxCarry) {
			return &damageError{path, fmt.Sprintf("carry %d has %d bytes", i, c.size)}
		}
	}
	return nil
}

func (f *File) pattern() []byte { return f.mem[patternAt:][:pageSize] }

func (f *File) step() {
	if f.Step != nil {
		f.Step()
	}
}

// Close unmaps the file, which stays where it is.
func (f *File) Close() error {
	err := errors.Join(unix.Munmap(f.mem), unix.Close(f.fd))
	if err != nil {
		return fmt.Errorf("close the redo file: %w", err)
	}
	return nil
}
