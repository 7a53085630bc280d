package history

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sys/unix"

	"github.com/stele-runtime/stele/cmd/stele/internal/config"
	"github.com/stele-runtime/stele/cmd/stele/internal/places"
)

const (
	// backupsDir is the directory of automatic backups below the root directory.
	backupsDir = "backups"
	// backupBegin and backupEnd are what the names of backups have around their time. Others' are
	// left alone.
	backupBegin, backupEnd = "events-", ".db"
	// backupFirst is how long a daemon serves before it makes a backup, so that one that dies
	// again and again does not fill its time with them.
	backupFirst = time.Minute
	// backupCheck is the pause between looks at whether one is due.
	backupCheck = time.Minute
	// backupSpare is how much of the disk has to be free beside a backup and the log's own
	// growth: as much as the log has now, and this, in bytes.
	backupSpare = 64 << 20
)

// Backups makes backups of the event log, and removes old ones.
type Backups struct {
	Root   string
	Config config.Backup
	Log    interface {
		Backup(ctx context.Context, path string) error
	}
	Logger *slog.Logger
	// Now is the wall clock; nil for the system's.
	Now func() time.Time

	mu   sync.Mutex
	seen BackupStatus
}

// BackupStatus is what is known of backups, and of logs that were set aside.
type BackupStatus struct {
	// Paths are the backups, oldest first, Newest the time of the last one, Bytes all their size.
	Paths  []string
	Newest time.Time
	Bytes  int64
	// Problem is why the last one that was due was not made; empty if it was.
	Problem string
	// Made and Failed count backups since the daemon's start.
	Made, Failed uint64
	// SetAside are damaged logs that were set aside, oldest first.
	SetAside []string
}

// Status returns what was seen last. It does not touch the disk.
func (b *Backups) Status() BackupStatus {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.seen
}

// Follow makes backups when they are due, until ctx is done.
func (b *Backups) Follow(ctx context.Context) {
	b.Look()
	for wait := backupFirst; pause(ctx, wait); wait = backupCheck {
		b.Once(ctx)
	}
}

// Once makes a backup if one is due.
func (b *Backups) Once(ctx context.Context) {
	b.Look()
	if b.Config.Interval == 0 || !b.due() {
		return
	}
	path := filepath.Join(b.Root, backupsDir, backupBegin+b.now().UTC().Format(stamp)+backupEnd)
	err := b.backUp(ctx, path)
	b.mu.Lock()
	switch problem := b.seen.Problem; {
	case err == nil:
		b.seen.Made++
		b.seen.Problem = ""
	case ctx.Err() != nil:
	default:
		b.seen.Failed++
		b.seen.Problem = err.Error()
		if problem != b.seen.Problem { // once a reason, not once a minute
			b.Logger.Warn("event log not backed up", "error", err)
		}
	}
	b.mu.Unlock()
	b.Look()
}

func (b *Backups) now() time.Time {
	if b.Now != nil {
		return b.Now()
	}
	return time.Now()
}

// due is true, too, if the newest backup is from the future: the clock was wrong then, or is now.
func (b *Backups) due() bool {
	newest := b.Status().Newest
	return newest.IsZero() || newest.After(b.now()) || b.now().Sub(newest) >= b.Config.Interval
}

func (b *Backups) backUp(ctx context.Context, path string) error {
	info, err := os.Stat(filepath.Join(b.Root, places.EventsFile))
	if err != nil {
		return err
	}
	size := info.Size()
	most, err := b.Config.Most()
	if err != nil {
		return err
	}
	if size > most {
		return fmt.Errorf("the log has %d bytes, and backup.max_size is %d", size, most)
	}
	dir := filepath.Dir(path)
	if err := makeDir(dir); err != nil {
		return err
	}
	if err := dropUnborn(dir); err != nil {
		return err
	}
	if free, err := freeBytes(dir); err != nil || free < 2*size+backupSpare {
		return cmp.Or(err, fmt.Errorf("%d bytes are free on the disk of %s, and a backup of %d bytes would leave too few", free, dir, size))
	}
	if err := b.Log.Backup(ctx, path); err != nil {
		return err
	}
	b.Logger.Info("event log backed up", "path", path)
	return b.prune()
}

// dropUnborn removes what a daemon that died left of a backup.
func dropUnborn(dir string) error {
	entries, err := os.ReadDir(dir)
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), backupBegin) && strings.HasSuffix(e.Name(), backupEnd+".new") {
			err = errors.Join(err, os.Remove(filepath.Join(dir, e.Name())))
		}
	}
	return err
}

// prune removes the oldest backups beyond the number to keep.
func (b *Backups) prune() error {
	all, err := listBackups(b.Root)
	all = slices.DeleteFunc(all, func(x backup) bool { return !strings.HasPrefix(filepath.Base(x.path), backupBegin) })
	for ; len(all) > b.Config.Keep; all = all[1:] {
		err = errors.Join(err, os.Remove(all[0].path))
	}
	return err
}

// Info is what a verbose Status says of backups.
func (b *Backups) Info() map[string]any {
	s := b.Status()
	return map[string]any{"setAside": s.SetAside, "backups": s.Paths, "backupProblem": s.Problem}
}

// Look looks at the disk.
func (b *Backups) Look() {
	all, err := listBackups(b.Root)
	aside, asideErr := SetAside(b.Root)
	if err := errors.Join(err, asideErr); err != nil {
		b.Logger.Warn("backups of the event log not listed", "error", err)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.seen.Paths, b.seen.Newest, b.seen.Bytes, b.seen.SetAside = nil, time.Time{}, 0, aside
	for _, x := range all {
		b.seen.Paths = append(b.seen.Paths, x.path)
		b.seen.Newest, b.seen.Bytes = x.made, b.seen.Bytes+x.bytes
	}
}

// Health returns that damaged logs were set aside, as an error of what works, until somebody has
// removed them.
func (b *Backups) Health() error {
	paths := b.Status().SetAside
	if len(paths) == 0 {
		return nil
	}
	return setAsideError(paths)
}

type setAsideError []string

func (e setAsideError) Error() string {
	return fmt.Sprintf("the event log was damaged and is set aside in %s; the node's own stream (stele events node) says what was lost. Remove it once it is of no use",
		strings.Join(e, ", "))
}

// Degraded tells the error from those of what does not work.
func (e setAsideError) Degraded() bool { return true }

// Describe is part of prometheus.Collector.
func (b *Backups) Describe(to chan<- *prometheus.Desc) { prometheus.DescribeByCollect(b, to) }

// Collect is part of prometheus.Collector.
func (b *Backups) Collect(to chan<- prometheus.Metric) {
	s := b.Status()
	metric := func(kind prometheus.ValueType, name, help string, value float64) {
		to <- prometheus.MustNewConstMetric(prometheus.NewDesc("stele_event_log_"+name, help, nil, nil), kind, value)
	}
	metric(prometheus.GaugeValue, "set_aside", "Damaged event logs that were set aside and are still there.", float64(len(s.SetAside)))
	metric(prometheus.GaugeValue, "backups", "Backups of the event log below the root directory.", float64(len(s.Paths)))
	metric(prometheus.GaugeValue, "backup_bytes", "Size of all these backups.", float64(s.Bytes))
	if !s.Newest.IsZero() {
		metric(prometheus.GaugeValue, "backup_timestamp_seconds", "When the newest of them was made.", float64(s.Newest.UnixMilli())/1000)
	}
	metric(prometheus.CounterValue, "backups_made_total", "Backups made since the daemon's start.", float64(s.Made))
	metric(prometheus.CounterValue, "backups_failed_total", "Backups that were due and could not be made, since the daemon's start.", float64(s.Failed))
}

// backup is a file in the directory of backups.
type backup struct {
	path  string
	made  time.Time
	bytes int64
}

// listBackups lists the backups below a root directory, oldest first.
func listBackups(root string) (all []backup, err error) {
	dir := filepath.Join(root, backupsDir)
	entries, err := os.ReadDir(dir)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	for _, e := range entries {
		if !strings.HasSuffix(e.Name(), backupEnd) {
			continue
		}
		info, infoErr := e.Info()
		if errors.Is(infoErr, os.ErrNotExist) {
			continue
		}
		if infoErr != nil {
			err = errors.Join(err, infoErr)
			continue
		}
		all = append(all, backup{filepath.Join(dir, e.Name()), info.ModTime(), info.Size()})
	}
	slices.SortFunc(all, func(a, b backup) int { return cmp.Or(a.made.Compare(b.made), cmp.Compare(a.path, b.path)) })
	return all, err
}

// makeDir makes a directory that nobody else can look into.
func makeDir(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	return os.Chmod(dir, 0o700)
}

// pause waits. It returns false if ctx ended first.
func pause(ctx context.Context, d time.Duration) bool {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(d):
		return true
	}
}

// freeBytes is how much room there is for a daemon that is root.
func freeBytes(dir string) (int64, error) {
	var s unix.Statfs_t
	if err := unix.Statfs(dir, &s); err != nil {
		return 0, fmt.Errorf("find the free space of %s: %w", dir, err)
	}
	return int64(s.Bavail) * s.Bsize, nil
}

// copyFile copies a file to a new one, and syncs it.
func copyFile(from, to string) (err error) {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer func() { _ = in.Close() }() // it is only read
	out, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	return errors.Join(err, out.Sync(), out.Close())
}
