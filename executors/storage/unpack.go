package storage

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"runtime/debug"
	"sync"
	"time"
	_ "unsafe" // for go:linkname

	"go.podman.io/storage/pkg/archive"
	"golang.org/x/sys/unix"
)

// smallLayer is the size of the archives, uncompressed, that the daemon itself unpacks, in
// bytes. It bounds what a hostile one costs the daemon: the library keeps directories'
// entries in memory until the archive ends.
const smallLayer = 2 << 20

// fewReads is how much of an archive is read at a time at least, in bytes, if there is so much: each
// read is a turn of the goroutines through which the archive comes.
const fewReads = 64 << 10

// An unpacker unpacks an archive of a layer, uncompressed, into an empty directory.
type unpacker func(tar io.Reader, into string, options *archive.TarOptions) error

// overlayUntar is the overlay driver's unpacker. The library has it in a variable, but no
// function to set that. A test fails if a new version of the library lacks it; layers are
// then unpacked in the library's way.
//
//go:linkname overlayUntar go.podman.io/storage/drivers/overlay.untar
var overlayUntar func(tar io.Reader, into string, options *archive.TarOptions) error

// unpackSmallLayers spares small layers, which are most, the start of a program: see Reexec.
// It must be called before anything is unpacked, under librarySessions.
var unpackSmallLayers = sync.OnceFunc(func() {
	if overlayUntar == nil {
		return
	}
	// What a process looks up once and remembers must not come from a layer.
	_, _ = time.Now().Zone()
	overlayUntar = smallOnes(overlayUntar)
})

// smallOnes unpacks small archives here, and leaves others to the library. What becomes of
// an archive is the same: it is unpacked by the library's code, in a root of its own.
func smallOnes(library unpacker) unpacker {
	return func(tar io.Reader, into string, options *archive.TarOptions) error {
		// With mapped ids the library looks up the overflow ids in /proc, and remembers them.
		if len(options.UIDMaps) > 0 || len(options.GIDMaps) > 0 || options.InUserNS {
			return library(tar, into, options)
		}
		var start bytes.Buffer
		start.Grow(fewReads)
		n, err := io.Copy(&start, io.LimitReader(tar, smallLayer+1))
		if n > smallLayer {
			return library(io.MultiReader(&start, tar), into, options)
		}
		if err == nil {
			err = inRoot(into, func() error { return archive.Unpack(&start, "/", options) })
		}
		if err != nil {
			return fmt.Errorf("unpacking failed: %w", err) // as the library says it
		}
		return nil
	}
}

// inRoot runs a function with the directory as its root, and returns its error. It is for
// functions that create files from hostile names: whatever they resolve ends in the
// directory. They must start no goroutine that uses a path, and must not be the first to
// look at something of the system that is remembered for the process.
func inRoot(dir string, do func() error) error {
	root, err := os.OpenFile(dir, unix.O_DIRECTORY, 0)
	if err != nil {
		return err
	}
	defer root.Close()
	t := rooted{root: root, do: do, result: make(chan error, 1)}
	select {
	case rootedWork <- t: // a thread waits for it
	default:
		go serveRooted(t, make(chan struct{}))
	}
	return <-t.result
}

// rooted is a function that runs with a directory as its root.
type rooted struct {
	root   *os.File
	do     func() error
	result chan error // has room for one
}

// rootedWork is what threads with roots of their own wait for, rootedIdle for how long.
var rootedWork = make(chan rooted)

const rootedIdle = 10 * time.Second

// serveRooted does this and other work in turn, on a thread that runs nothing else and ends with
// it. Go starts no threads from such a one. Once it has the thread, it closes started.
func serveRooted(t rooted, started chan struct{}) {
	runtime.LockOSThread()
	if unix.Gettid() == unix.Getpid() {
		// The first thread's root is the process's in /proc, and it cannot end. While it
		// waits here, a new goroutine runs on another.
		defer runtime.UnlockOSThread()
		again := make(chan struct{})
		go serveRooted(t, again)
		<-again
		close(started)
		return
	}
	close(started)
	own, err := separate()
	if err != nil {
		t.result <- err
		return
	}
	defer unix.Close(own.root)
	idle := time.NewTimer(rootedIdle)
	defer idle.Stop()
	for {
		err := guarded(func() error { return enter(t.root, t.do) })
		// A root that stays would keep its file system from being unmounted.
		left := own.restore()
		t.result <- err
		if left != nil {
			return
		}
		t = rooted{} // it has the layer
		idle.Reset(rootedIdle)
		select {
		case t = <-rootedWork:
		case <-idle.C:
			return
		}
	}
}

// threadFS is what separate makes a thread's alone.
type threadFS struct {
	root int // a descriptor
	mask int
}

// separate makes root, working directory and umask the calling thread's alone.
func separate() (own threadFS, err error) {
	if err := unix.Unshare(unix.CLONE_FS); err != nil {
		return own, fmt.Errorf("separate a thread's root: %w", err)
	}
	own.mask = unix.Umask(0)
	unix.Umask(own.mask)
	if own.root, err = unix.Open("/", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0); err != nil {
		return own, fmt.Errorf("open a thread's root: %w", err)
	}
	return own, nil
}

func (own threadFS) restore() error {
	unix.Umask(own.mask)
	return errors.Join(unix.Fchdir(own.root), unix.Chroot("."))
}

// enter makes a directory the root of the calling thread, and then calls a function.
func enter(root *os.File, do func() error) error {
	if err := errors.Join(unix.Fchdir(int(root.Fd())), unix.Chroot("."), unix.Chdir("/")); err != nil {
		return fmt.Errorf("make %s a thread's root: %w", root.Name(), err)
	}
	return do()
}

// guarded turns a panic into an error.
func guarded(do func() error) (err error) {
	defer func() {
		if cause := recover(); cause != nil {
			err = fmt.Errorf("panic: %v\n%s", cause, debug.Stack())
		}
	}()
	return do()
}
