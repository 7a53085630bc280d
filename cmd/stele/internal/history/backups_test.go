package history

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stele-runtime/stele/cmd/stele/internal/config"
	"github.com/stele-runtime/stele/cmd/stele/internal/places"
)

// copier makes backups that are no logs, or fails.
type copier struct{ err error }

func (c *copier) Backup(_ context.Context, path string) error {
	if c.err != nil {
		return c.err
	}
	return os.WriteFile(path, []byte("a log"), 0o600)
}

// shelf is a Backups with a clock of its own.
type shelf struct {
	*Backups
	now    time.Time
	copier *copier
}

func newShelf(t *testing.T, c config.Backup) *shelf {
	s := &shelf{now: time.Now(), copier: &copier{}}
	s.Backups = &Backups{Root: t.TempDir(), Config: c, Log: s.copier, Logger: quiet, Now: func() time.Time { return s.now }}
	if err := os.WriteFile(filepath.Join(s.Root, places.EventsFile), make([]byte, 4096), 0o600); err != nil {
		t.Fatal(err)
	}
	return s
}

// once moves the clock and looks whether a backup is due.
func (s *shelf) once(t *testing.T, after time.Duration) BackupStatus {
	t.Helper()
	s.now = s.now.Add(after)
	before := s.Status().Made
	s.Once(t.Context())
	if s.Status().Made > before {
		// What was made now has the shelf's time.
		if err := os.Chtimes(s.Status().Paths[len(s.Status().Paths)-1], s.now, s.now); err != nil {
			t.Fatal(err)
		}
		s.Look()
	}
	return s.Status()
}

func TestBackupsAreBounded(t *testing.T) {
	s := newShelf(t, config.Backup{Interval: time.Hour, Keep: 2, MaxSize: "1MiB"})
	foreign := filepath.Join(s.Root, backupsDir, "mine.db")
	if err := os.MkdirAll(filepath.Dir(foreign), 0o700); err != nil {
		t.Fatal(err)
	}
	leftover := filepath.Join(s.Root, backupsDir, "events-20200101T000000Z.db.new")
	for _, path := range []string{foreign, leftover} {
		if err := os.WriteFile(path, nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Chtimes(foreign, time.Unix(0, 0), time.Unix(0, 0)); err != nil {
		t.Fatal(err)
	}
	for n, after := range []time.Duration{0, 59 * time.Minute, time.Minute, time.Hour, time.Hour} {
		made := []uint64{1, 1, 2, 3, 4}[n]
		if got := s.once(t, after); got.Made != made || got.Problem != "" {
			t.Fatalf("after %v more: %+v, want %d made", after, got, made)
		}
	}
	if got := s.Status(); len(got.Paths) != 3 || got.Paths[0] != foreign || !got.Newest.Equal(s.now.Truncate(0)) || got.Bytes != 10 {
		t.Errorf("%+v; want the file that is not its own, and two backups", got)
	}
	if _, err := os.Lstat(leftover); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("what a daemon that died left is there: %v", err)
	}
}

// TestBackupClock: a clock that jumps costs a backup and removes none that is newer.
func TestBackupClock(t *testing.T) {
	s := newShelf(t, config.Backup{Interval: time.Hour, Keep: 5, MaxSize: "1MiB"})
	s.once(t, 0)
	if got := s.once(t, 365*24*time.Hour); got.Made != 2 {
		t.Errorf("a year ahead: %+v", got)
	}
	if got := s.once(t, -365*24*time.Hour); got.Made != 3 {
		t.Errorf("and back: %+v", got)
	}
}

func TestNoBackup(t *testing.T) {
	off := newShelf(t, config.Backup{Keep: 2, MaxSize: "1MiB"})
	if got := off.once(t, time.Hour); got.Made != 0 || got.Failed != 0 {
		t.Errorf("without an interval: %+v", got)
	}
	large := newShelf(t, config.Backup{Interval: time.Hour, Keep: 2, MaxSize: "1KiB"})
	if got := large.once(t, 0); got.Made != 0 || !strings.Contains(got.Problem, "backup.max_size is 1024") {
		t.Errorf("a log that is too large: %+v", got)
	}
	broken := newShelf(t, config.Backup{Interval: time.Hour, Keep: 2, MaxSize: "1MiB"})
	broken.copier.err = errors.New("no space left on device")
	if got := broken.once(t, 0); got.Failed != 1 || !strings.Contains(got.Problem, "no space left") {
		t.Errorf("a disk that is full: %+v", got)
	}
	broken.copier.err = nil
	if got := broken.once(t, time.Minute); got.Made != 1 || got.Problem != "" {
		t.Errorf("and has room again: %+v", got)
	}
}

// TestSetAsideIsSaid: Status says so until the file is removed, and the node is ready all the same.
func TestSetAsideIsSaid(t *testing.T) {
	s := newShelf(t, config.Default().Backup)
	if s.Look(); s.Health() != nil {
		t.Errorf("healthy: %v", s.Health())
	}
	path := filepath.Join(s.Root, aside+"20260101T000000Z")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	s.Look()
	var degraded interface{ Degraded() bool }
	if err := s.Health(); !errors.As(err, &degraded) || !strings.Contains(err.Error(), path) {
		t.Errorf("with a log that was set aside: %v", err)
	}
}
