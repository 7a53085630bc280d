package server

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

func (s *Server) socket() string { return filepath.Join(s.config.Dir, "monitor.sock") }

// takeDir makes the directory and locks it for as long as the process lives.
func (s *Server) takeDir() error {
	if err := os.MkdirAll(s.config.Dir, 0o700); err != nil {
		return fmt.Errorf("make the monitor's directory: %w", err)
	}
	if err := os.Chmod(s.config.Dir, 0o700); err != nil {
		return fmt.Errorf("protect the monitor's directory: %w", err)
	}
	lock, err := os.OpenFile(filepath.Join(s.config.Dir, "lock"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return fmt.Errorf("open the monitor's lock: %w", err)
	}
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		lock.Close()
		if errors.Is(err, unix.EWOULDBLOCK) {
			return fmt.Errorf("%s: %w", s.config.Dir, ErrAlreadyRuns)
		}
		return fmt.Errorf("lock the monitor's directory: %w", err)
	}
	s.lock = lock
	return nil
}
