package server

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"github.com/stele-runtime/stele/executors/monitor/server/stdio"
	"github.com/stele-runtime/stele/executors/monitor/wire"
)

// consolePrefix begins the names of console sockets. With a number in base 36 they
// are no longer than `monitor.sock`, whose path is known to fit.
const consolePrefix = "tty"

// home is the monitor's directory, which it has locked, with the sockets in it.
type home struct {
	dir      string
	lock     *os.File
	listener *wire.Listener
	// consoles numbers the console sockets.
	consoles atomic.Uint32
}

func (h *home) path(name string) string { return filepath.Join(h.dir, name) }
func (h *home) socket() string          { return h.path("monitor.sock") }

// openHome makes the directory and locks it for as long as the process lives.
func openHome(dir string) (*home, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("make the monitor's directory: %w", err)
	}
	if err := os.Chmod(dir, 0o700); err != nil {
		return nil, fmt.Errorf("protect the monitor's directory: %w", err)
	}
	lock, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open the monitor's lock: %w", err)
	}
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		lock.Close()
		if errors.Is(err, unix.EWOULDBLOCK) {
			return nil, fmt.Errorf("%s: %w", dir, ErrAlreadyRuns)
		}
		return nil, fmt.Errorf("lock the monitor's directory: %w", err)
	}
	return &home{dir: dir, lock: lock}, nil
}

// listen opens the socket.
func (h *home) listen() (err error) {
	h.listener, err = wire.Listen(h.socket())
	return err
}

func (h *home) newConsole() (*stdio.Console, error) {
	return stdio.NewConsole(h.path(consolePrefix + strconv.FormatUint(uint64(h.consoles.Add(1)), 36)))
}
