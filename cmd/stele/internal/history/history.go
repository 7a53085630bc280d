package history

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/stele-runtime/stele/actors/host"
	"github.com/stele-runtime/stele/cmd/stele/internal/places"
	"github.com/stele-runtime/stele/eventlog"
	"github.com/stele-runtime/stele/eventlog/boltlog"
	"github.com/stele-runtime/stele/projections"
)

// Opener opens the event log with its projections. A log that is damaged, or gone while pods
// live, is replaced: by the newest good backup, brought up to date from what the state directory
// kept. The damaged one is set aside, and nothing on the node is touched.
type Opener struct {
	Root, State string
	BootID      string
	// Runtimes maps each runtime handler to the directory of its runtime's state, Default is the
	// handler of what has none.
	Runtimes map[string]string
	Default  string
	// OpenLog opens a log, whatever a killed daemon left (daemon.OpenLog).
	OpenLog func(boltlog.Options) (*boltlog.Log, error)
	// Bookmark is a place in the log that is replaced.
	Bookmark projections.Bookmark
	Logger   *slog.Logger

	// step is for tests: it is called before each step of a replacement.
	step func(string)
}

const (
	// replacing is the name, below the root directory, of a log that is not complete yet.
	replacing = places.EventsFile + ".replacing"
	// aside begins the names of logs that were set aside; the time follows.
	aside = places.EventsFile + ".damaged-"
	// asideMost is how many of them are kept.
	asideMost = 2
	// journal ends the name of a log's journal (package boltlog).
	journal = ".journal"
)

// Open opens log and projections. It fails with ErrCorrupt only if no other log can take the
// place of a damaged one.
func (h *Opener) Open(ctx context.Context) (*boltlog.Log, *projections.Feed, error) {
	if h.gone() {
		if err := h.replace(ctx, "the file is missing"); err != nil {
			return nil, nil, err
		}
	}
	log, feed, err := h.open(ctx)
	if errors.Is(err, eventlog.ErrCorrupt) && h.damaged() {
		h.Logger.Error("the event log is damaged, and is replaced", "error", err)
		if failed := h.replace(ctx, err.Error()); failed != nil {
			return nil, nil, errors.Join(err, failed)
		}
		log, feed, err = h.open(ctx)
	}
	return log, feed, err
}

func (h *Opener) path() string { return filepath.Join(h.Root, places.EventsFile) }

// gone reports whether there is no log although pods live that it knew.
func (h *Opener) gone() bool {
	if _, err := os.Lstat(h.path()); !errors.Is(err, os.ErrNotExist) {
		return false
	}
	kept := ReadKept(KeptDir(h.State), h.BootID)
	return len(kept.Sandboxes)+len(kept.Containers) > 0
}

// damaged reports whether the file itself is damaged, as far as a second look can tell: a
// healthy log must not be set aside for what its daemon did.
func (h *Opener) damaged() bool {
	log, err := boltlog.OpenReadOnly(h.path())
	if err == nil {
		_ = log.Close() // it was only read
	}
	return errors.Is(err, eventlog.ErrCorrupt)
}

func (h *Opener) open(ctx context.Context) (*boltlog.Log, *projections.Feed, error) {
	log, err := h.OpenLog(boltlog.Options{Path: h.path(), Logger: h.Logger})
	if err != nil {
		return nil, nil, fmt.Errorf("open the event log: %w", err)
	}
	if reason := h.lostEnd(log.Last()); reason != "" {
		h.Logger.Error("the event log is damaged", "error", reason)
		err = h.restore(ctx, log, host.LogReplaced{Reason: reason})
	}
	var feed *projections.Feed
	if err == nil {
		feed, err = projections.Open(ctx, log, projections.Options{Logger: h.Logger, Bookmark: h.Bookmark})
	}
	if err != nil {
		return nil, nil, errors.Join(fmt.Errorf("rebuild the projections: %w", err), log.Close())
	}
	return log, feed, nil
}

// lostEnd says whether a log ends before what was kept of it in the same boot, as one does whose
// journal is damaged; empty if it does not.
func (h *Opener) lostEnd(last eventlog.Sequence) string {
	known := keptUntil(KeptDir(h.State), h.BootID)
	if known <= last {
		return ""
	}
	return fmt.Sprintf("it ends at record %d, and the daemon before had read record %d", last, known)
}

// replace puts a new log in the place of a damaged one. A crash leaves the damaged log or the
// complete new one.
func (h *Opener) replace(ctx context.Context, reason string) error {
	unlock, err := h.lock()
	if err != nil {
		return err
	}
	defer unlock()
	now := time.Now().UTC()
	said := host.LogReplaced{Reason: reason}
	if _, err := os.Lstat(h.path()); err == nil {
		said.SetAside = filepath.Join(h.Root, aside+now.Format(stamp))
	}
	h.at("build")
	if err := h.build(ctx, said); err != nil {
		h.dropReplacing()
		return fmt.Errorf("replace the event log: %w", err)
	}
	if said.SetAside != "" {
		h.at("set aside")
		if err := setAside(h.path(), said.SetAside); err != nil {
			return fmt.Errorf("set the damaged event log aside: %w", err)
		}
	}
	h.at("rename")
	fresh := filepath.Join(h.Root, replacing)
	if err := os.Rename(fresh, h.path()); err != nil {
		return fmt.Errorf("replace the event log: %w", err)
	}
	h.at("rename the journal")
	// The old journal belongs to another log, which a log that is opened notices.
	if err := errors.Join(os.Rename(fresh+journal, h.path()+journal), syncDir(h.Root)); err != nil {
		return fmt.Errorf("replace the event log: %w", err)
	}
	h.prune()
	return nil
}

// stamp is the time in the names of backups and of logs that were set aside.
const stamp = "20060102T150405Z"

func (h *Opener) at(step string) {
	if h.step != nil {
		h.step(step)
	}
}

// lock keeps other daemons from replacing the same log. A log that is gone has no lock.
func (h *Opener) lock() (func(), error) {
	f, err := os.Open(h.path())
	if err != nil {
		return func() {}, nil
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		return nil, errors.Join(fmt.Errorf("lock the damaged event log: %w: %w", eventlog.ErrLocked, err), f.Close())
	}
	return func() { _ = f.Close() }, nil // it was only locked
}

// build makes the log that is to take the place of the damaged one.
func (h *Opener) build(ctx context.Context, said host.LogReplaced) error {
	h.dropReplacing()
	path := filepath.Join(h.Root, replacing)
	said.Backup = h.fromBackup(ctx, path)
	log, err := boltlog.Open(boltlog.Options{Path: path, Logger: h.Logger})
	if err != nil {
		return err
	}
	if said.Backup != "" {
		for r, err := range log.Read(ctx, log.Last()) {
			if err == nil { // and neither damage nor a removal
				said.BackupUntil = r.Time
			}
		}
	}
	err = h.restore(ctx, log, said)
	if err == nil && h.Bookmark != nil {
		err = h.Bookmark.Clear()
	}
	return errors.Join(err, log.Close())
}

func (h *Opener) dropReplacing() {
	path := filepath.Join(h.Root, replacing)
	for _, name := range []string{path, path + journal, path + ".new"} {
		_ = os.Remove(name) // it was never a log, and may not be there
	}
}

// fromBackup copies the newest good backup to a path, and returns which it was; empty if there is
// none. One with damaged records is better than none.
func (h *Opener) fromBackup(ctx context.Context, to string) string {
	backups, err := listBackups(h.Root)
	if err != nil {
		h.Logger.Error("backups of the event log not listed", "error", err)
	}
	slices.Reverse(backups)
	var readable []string
	for _, b := range backups {
		report, err := VerifyFile(ctx, b.path)
		switch {
		case err != nil:
			h.Logger.Error("backup of the event log not used", "path", b.path, "error", err)
			continue
		case report.OK():
			readable = slices.Insert(readable, 0, b.path)
		default:
			readable = append(readable, b.path)
		}
		if report.OK() {
			break
		}
	}
	for _, path := range readable {
		if err := copyFile(path, to); err == nil {
			return path
		} else {
			h.Logger.Error("backup of the event log not copied", "path", path, "error", err)
			_ = os.Remove(to) // a part of a log is none
		}
	}
	return ""
}

// VerifyFile verifies a log that no daemon has open.
func VerifyFile(ctx context.Context, path string) (eventlog.Report, error) {
	log, err := boltlog.OpenReadOnly(path)
	if err != nil {
		return eventlog.Report{}, err
	}
	report, err := log.Verify(ctx)
	return report, errors.Join(err, log.Close())
}

// setAside gives a log another name. It keeps the old one, if the file system can do that, until
// another file takes it.
func setAside(path, to string) error {
	for _, end := range []string{"", journal} {
		err := os.Link(path+end, to+end)
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			err = os.Rename(path+end, to+end)
		}
		if err != nil && !(end == journal && errors.Is(err, os.ErrNotExist)) {
			return err
		}
	}
	return nil
}

// SetAside returns the paths of damaged logs that were set aside, oldest first.
func SetAside(root string) (paths []string, err error) {
	entries, err := os.ReadDir(root)
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), aside) && !strings.HasSuffix(e.Name(), journal) {
			paths = append(paths, filepath.Join(root, e.Name()))
		}
	}
	return paths, err
}

// prune removes the oldest of the logs that were set aside.
func (h *Opener) prune() {
	paths, err := SetAside(h.Root)
	for ; len(paths) > asideMost; paths = paths[1:] {
		err = errors.Join(err, os.RemoveAll(paths[0]), os.RemoveAll(paths[0]+journal))
		h.Logger.Warn("an older damaged event log is removed", "path", paths[0])
	}
	if err != nil {
		h.Logger.Warn("damaged event logs not listed or not removed", "error", err)
	}
}

func syncDir(path string) error {
	dir, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}
