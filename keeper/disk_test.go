package keeper_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/stele-runtime/stele/eventlog"
	"github.com/stele-runtime/stele/eventlog/boltlog"
	"github.com/stele-runtime/stele/keeper"
	"github.com/stele-runtime/stele/projections"
)

// shifted is the system's clock, later by a time that a test chooses.
type shifted struct {
	eventlog.SystemClock
	by *time.Duration
}

// SinceBoot implements eventlog.Clock.
func (s shifted) SinceBoot() time.Duration { return s.SystemClock.SinceBoot() + *s.by }

// smallDisk mounts a file system of so many MiB, and returns a function that changes its size.
func smallDisk(t *testing.T, mib int) (dir string, resize func(mib int)) {
	t.Helper()
	dir = t.TempDir()
	mount := func(flags uintptr, mib int) {
		t.Helper()
		if err := unix.Mount("tmpfs", dir, "tmpfs", flags, fmt.Sprintf("size=%dm,mode=0700", mib)); err != nil {
			t.Fatalf("mount a small tmpfs (this test needs root): %v", err)
		}
	}
	mount(0, mib)
	t.Cleanup(func() {
		if err := unix.Unmount(dir, 0); err != nil {
			t.Errorf("unmount %s: %v", dir, err)
		}
	})
	return dir, func(mib int) { mount(unix.MS_REMOUNT, mib) }
}

// TestFullDisk: a keeper that cannot compact, or not even remove, because the disk is full, loses
// nothing, says so, and does it when there is room again.
func TestFullDisk(t *testing.T) {
	dir, resize := smallDisk(t, 120)
	n := &crammed{soaked: newSoak(t, dir, 1<<20), by: 30 * day}
	defer func() { _ = n.log.Close() }()
	for i := range 20 {
		pod := fmt.Sprintf("pod-%d", i)
		n.begin(pod)
		n.end(pod)
	}
	feed, end := n.running()
	defer end()
	n.feed, n.listed = feed, list(feed)
	var err error
	if n.k, err = keeper.New(t.Context(), keeper.Options{
		Log: n.log, Views: views{feed}, BootID: n.boot, Clock: shifted{by: &n.by}, Logger: slog.New(slog.NewTextHandler(&n.said, nil)), Limits: week(),
	}); err != nil {
		t.Fatal(err)
	}
	before := n.withoutRoom()
	filled := n.full()
	resize(500)
	n.emptied(filled, before)
	end()
	if err := errors.Join(n.log.Close(), os.RemoveAll(filepath.Join(dir, "events.db"))); err != nil {
		t.Error(err)
	}
}

// crammed is a log on a small disk, with its keeper.
type crammed struct {
	*soaked
	k      *keeper.Keeper
	feed   *projections.Feed
	said   bytes.Buffer
	by     time.Duration
	listed []string
}

// unkept checks what the keeper says, and what List does.
func (n *crammed) unkept(when, cause string, failures uint64) {
	n.t.Helper()
	var degraded interface{ Degraded() bool }
	if err := n.k.Health(); !errors.As(err, &degraded) || !strings.Contains(err.Error(), cause) || n.k.Stats().Failures != failures {
		n.t.Errorf("%s: %v, %d failures", when, err, n.k.Stats().Failures)
	}
	if !slices.Equal(list(n.feed), n.listed) {
		n.t.Errorf("%s, List has changed", when)
	}
}

// withoutRoom keeps the log while there is no room for the copy that a compaction makes, and
// returns its size.
func (n *crammed) withoutRoom() (before int64) {
	n.t.Helper()
	before = sizeOf(n.t, n.path)
	n.settle(n.k)
	n.unkept("without room for a compaction", "not enough free space", 1)
	if !strings.Contains(n.said.String(), "not given back") {
		n.t.Errorf("it does not say so: %s", n.said.String())
	}
	if after := sizeOf(n.t, n.path); after < before || n.k.Stats().Compactions != 0 {
		n.t.Errorf("of %d bytes %d are left after %d compactions", before, after, n.k.Stats().Compactions)
	}
	if left := n.streams(); len(left) != 2*soakLiving {
		n.t.Errorf("what has ended is kept: %v", left)
	}
	return before
}

// full keeps the log while there is no room at all, and returns the version of what fills it.
func (n *crammed) full() (filled eventlog.Version) {
	n.t.Helper()
	n.begin("old")
	n.end("old")
	if err := n.feed.Await(n.t.Context(), n.log.Last()); err != nil {
		n.t.Fatal(err)
	}
	n.by += 30 * day
	filled = n.fill()
	if _, err := n.k.Step(n.t.Context()); !errors.Is(err, syscall.ENOSPC) {
		n.t.Errorf("a step on a full disk: %v", err)
	}
	n.unkept("on a full disk", syscall.ENOSPC.Error(), 2)
	if left := n.streams(); !slices.Contains(left, "sandbox/old") || !slices.Contains(left, "container/old-c") {
		n.t.Errorf("on a full disk, the log has %v", left)
	}
	return filled
}

// emptied keeps the log when there is room again.
func (n *crammed) emptied(filled eventlog.Version, before int64) {
	n.t.Helper()
	t, k := n.t, n.k
	n.awaitHealth()
	if err := n.log.Trim(t.Context(), eventlog.Trim{Stream: "other/filler", Through: filled, Whole: true, Rule: "test"}); err != nil {
		t.Fatal(err)
	}
	n.settle(k)
	if err := k.Health(); err != nil || k.Stats().Compactions != 1 {
		t.Errorf("with room again: %v, %d compactions", err, k.Stats().Compactions)
	}
	if left := n.streams(); slices.Contains(left, "sandbox/old") || slices.Contains(left, "container/old-c") || !slices.Contains(left, "sandbox/lives-0") {
		t.Errorf("with room again, the log has %v", left)
	}
	if after := sizeOf(t, n.path); after >= before {
		t.Errorf("with room again, of %d bytes %d are left", before, after)
	}
	if !slices.Equal(list(n.feed), n.listed) {
		t.Error("List has changed")
	}
	if report, err := n.log.Verify(t.Context()); err != nil || !report.OK() {
		t.Errorf("verify: %+v, %v", report, err)
	}
}

// fill appends to a stream of no machine until the disk is full, and returns its version.
func (n *soaked) fill() eventlog.Version {
	n.t.Helper()
	payload := make([]byte, 1<<20)
	for v := eventlog.Version(0); ; v++ {
		_, err := n.log.Append(context.Background(), eventlog.Append{Stream: "other/filler", Expected: v, Entries: []eventlog.Entry{{Type: "t", Payload: payload}}})
		if errors.Is(err, syscall.ENOSPC) {
			return v
		}
		if err != nil || v == 1000 {
			n.t.Fatalf("fill the disk: %d MiB, %v", v, err)
		}
	}
}

// awaitHealth waits until the log works again.
func (n *soaked) awaitHealth() {
	n.t.Helper()
	for deadline := time.Now().Add(time.Minute); n.log.(*boltlog.Log).Health() != nil; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			n.t.Fatalf("the log does not recover: %v", n.log.(*boltlog.Log).Health())
		}
	}
}
