package boltlog

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"

	bolt "go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"
	"golang.org/x/sys/unix"

	"github.com/stele-runtime/stele/eventlog"
)

// store is the open file, which the writer closes and reopens when it has to
// find out what is really on the disk. Readers wait meanwhile.
type store struct {
	opener opener

	retired sync.WaitGroup // files that were replaced and are still being read

	mu      sync.Mutex
	handle  *handle       // nil while the file is not open
	why     error         // why it is not open; nil if that is about to change
	changed chan struct{} // closed when handle or why change; never nil
}

func newStore(o opener) (*store, error) {
	h, err := o.open()
	if err != nil {
		return nil, err
	}
	return &store{opener: o, handle: h, changed: make(chan struct{})}, nil
}

// view calls fn in a transaction that sees one state of the file. fn copies
// what it keeps, and returns soon: an open transaction keeps the space of
// overwritten pages from being used again.
//
// While the file cannot be opened, it returns ErrUnavailable at once, or, if
// patient, waits for as long as that lasts.
func (s *store) view(ctx context.Context, patient bool, fn func(*bolt.Tx) error) error {
	return s.viewHandle(ctx, patient, func(_ *handle, tx *bolt.Tx) error { return fn(tx) })
}

// viewHandle is view for a function that looks at the file itself, too.
func (s *store) viewHandle(ctx context.Context, patient bool, fn func(*handle, *bolt.Tx) error) error {
	for {
		h, err := s.enter(ctx, patient)
		if err != nil {
			return err
		}
		err = s.read(h, func(tx *bolt.Tx) error { return fn(h, tx) })
		s.leave(h)
		if errors.Is(err, bolterrors.ErrDatabaseNotOpen) && s.current() != h {
			continue // it was closed between the two lines above
		}
		return err
	}
}

// Mapped calls use with the address at which the file is mapped, 0 if none is open at the moment. It
// stays there until use returns, which must not wait for the log.
func (l *Log) Mapped(use func(start uintptr) error) error {
	used := false
	err := l.store.view(context.Background(), false, func(tx *bolt.Tx) error {
		used = true
		return use(tx.DB().Info().Data)
	})
	if !used && errors.Is(err, eventlog.ErrUnavailable) {
		return use(0)
	}
	return err
}

// enter returns the open file, as soon as there is one. Whoever entered leaves again.
func (s *store) enter(ctx context.Context, patient bool) (*handle, error) {
	for {
		s.mu.Lock()
		h, why, changed := s.handle, s.why, s.changed
		if h != nil {
			h.inside++
		}
		s.mu.Unlock()
		if h != nil {
			return h, nil
		}
		if why != nil && !(patient && errors.Is(why, eventlog.ErrUnavailable)) {
			return nil, why
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

func (s *store) leave(h *handle) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if h.inside--; h.inside == 0 && h.left != nil {
		close(h.left)
	}
}

// replace puts another file in place of the one that is open. Readers that are inside of the
// old one finish there; then it is closed.
func (s *store) replace(h *handle, log *slog.Logger) {
	old := s.set(h, nil)
	left := make(chan struct{})
	s.mu.Lock()
	if old.left = left; old.inside == 0 {
		close(left)
	}
	s.mu.Unlock()
	s.retired.Go(func() {
		<-left
		if err := guard(old.db.Close); err != nil {
			log.Warn("event log: close the file that was compacted", "cause", err)
		}
	})
}

func (s *store) current() *handle {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.handle
}

func (s *store) set(h *handle, why error) (before *handle) {
	s.mu.Lock()
	defer s.mu.Unlock()
	before, s.handle, s.why = s.handle, h, why
	close(s.changed)
	s.changed = make(chan struct{})
	return before
}

// warm reads the file once in disk order, before much of it is read: page faults in bbolt's
// map, which is advised as random, take twenty times longer.
func (s *store) warm(ctx context.Context) error {
	h := s.current()
	if h == nil || h.inCache.Swap(true) {
		return nil
	}
	f, err := os.OpenFile(s.opener.path, os.O_RDONLY|unix.O_NOFOLLOW, 0) // the writer may close its own
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	return readThrough(ctx, f, info.Size())
}

// reopen closes the file, if it is open, and opens it again from what the
// disk has. Only the writer calls it, between transactions. If it fails,
// readers get ErrUnavailable, and it can be called again.
func (s *store) reopen() error {
	err := s.detach(nil)
	if err == nil {
		err = forgetCache(s.opener.path)
	}
	if err == nil {
		_ = forgetCache(journalPath(s.opener.path)) // there may be none
	}
	var h *handle
	if err == nil {
		h, err = s.opener.open()
	}
	if err != nil {
		s.set(nil, fmt.Errorf("%w: reopen: %w", eventlog.ErrUnavailable, err))
		return err
	}
	s.set(h, nil)
	return nil
}

// close closes the file for good.
func (s *store) close() error {
	err := s.detach(eventlog.ErrClosed)
	s.retired.Wait()
	return err
}

// detach closes the file after the last reader has left it.
func (s *store) detach(why error) error {
	h := s.set(nil, why)
	if h == nil {
		return nil
	}
	return guard(h.db.Close)
}

// abandon closes a file behind bbolt's back and releases the lock, which the map of
// the file would keep: that stays in memory. It is for a transaction that can be
// neither begun nor ended: bbolt's own Close would wait for it for ever.
func (s *store) abandon(h *handle) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if h == nil || s.handle != h {
		return
	}
	s.handle, s.why = nil, fmt.Errorf("%w: bbolt is stuck", eventlog.ErrUnavailable)
	close(s.changed)
	s.changed = make(chan struct{})
	_ = unix.Flock(int(h.file.Fd()), unix.LOCK_UN)
	h.file.Close()
}

// begin begins a transaction. If bbolt panics while it holds its locks, it
// will never let go of them, so the file is abandoned.
func (s *store) begin(h *handle, writable bool) (tx *bolt.Tx, err error) {
	returned := false
	if !writable {
		// Whoever waits for a lock of bbolt's while another one panics waits for ever.
		h.readers.Lock()
		defer h.readers.Unlock()
		if h.stuck.Load() {
			return nil, bolterrors.ErrDatabaseNotOpen
		}
		defer func() { h.stuck.Store(!returned) }()
	}
	err = guard(func() (err error) {
		tx, err = h.db.Begin(writable)
		returned = true
		return err
	})
	if !returned {
		s.abandon(h)
	}
	return tx, err
}

// read calls fn in a read transaction.
func (s *store) read(h *handle, fn func(*bolt.Tx) error) error {
	tx, err := s.begin(h, false)
	if err != nil {
		return err
	}
	defer func() {
		// Not under readers: who begins may hold that and wait for a map that grows, which
		// waits for this.
		if !h.stuck.Load() {
			_ = tx.Rollback() // of a read transaction: it cannot fail
		}
	}()
	return guard(func() error { return fn(tx) })
}
