package daemon

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stele-runtime/stele/actors/fault"
	"github.com/stele-runtime/stele/actors/host"
	"github.com/stele-runtime/stele/executors/monitor"
)

func exit(seq uint64, name string, code int) monitor.Exit {
	return monitor.Exit{Seq: seq, ContainerID: name, Process: monitor.Process{PID: int(seq)}, Code: code}
}

// following runs a task for a minute of a bubble's time, and then ends it.
func following(t *testing.T, task func(context.Context), check func()) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		b := NewBackground(quiet)
		b.Go("test", task)
		time.Sleep(time.Minute)
		synctest.Wait()
		check()
		b.End()
	})
}

// Exits are recorded in order, and acknowledged after that.
func TestExits(t *testing.T) {
	asked := &trace{}
	x := Exits{Monitor: &watcher{trace: asked, exits: []monitor.Exit{exit(1, "a", 0), exit(2, "b", 3)}, ack: errors.New("gone")}, Actors: &actors{trace: asked}, Logger: quiet}
	following(t, x.Follow, func() {
		asked.expect(t, "exited a, pid 1: 0 ", "ack 1", "exited b, pid 2: 3 ", "ack 2")
	})
}

// While the log is unavailable, exits wait in order.
func TestExitWaitsForTheLog(t *testing.T) {
	asked := &trace{}
	x := Exits{
		Monitor: &watcher{trace: asked, exits: []monitor.Exit{exit(1, "a", 0), exit(2, "b", 0)}},
		Actors: &actors{trace: asked, exited: func(try int) error {
			if try <= 3*recordTries {
				return fault.New(fault.Unavailable, "append", "a", "the disk is full")
			}
			return nil
		}},
		Logger: quiet,
	}
	following(t, x.Follow, func() {
		var want []string
		for range 3*recordTries + 1 {
			want = append(want, "exited a, pid 1: 0 ")
		}
		asked.expect(t, append(want, "ack 1", "exited b, pid 2: 0 ", "ack 2")...)
	})
}

// A broken stream does not block the others for ever.
func TestExitOfBrokenStream(t *testing.T) {
	asked := &trace{}
	x := Exits{
		Monitor: &watcher{trace: asked, exits: []monitor.Exit{exit(1, "a", 0), exit(2, "b", 0)}},
		Actors: &actors{trace: asked, exited: func(try int) error {
			if try <= recordTries {
				return fault.New(fault.Internal, "decide", "a", "panicked")
			}
			return nil
		}},
		Logger: quiet,
	}
	following(t, x.Follow, func() {
		var want []string
		for range recordTries {
			want = append(want, "exited a, pid 1: 0 ")
		}
		asked.expect(t, append(want, "ack 1", "exited b, pid 2: 0 ", "ack 2")...)
	})
}

// An unrecorded exit is not acknowledged when the daemon ends.
func TestUnrecordedExitStays(t *testing.T) {
	asked := &trace{}
	x := Exits{
		Monitor: &watcher{trace: asked, exits: []monitor.Exit{exit(1, "a", 0)}},
		Actors:  &actors{trace: asked, exited: func(int) error { return fault.New(fault.Unavailable, "", "", "full") }},
		Logger:  quiet,
	}
	following(t, x.Follow, func() {})
	for _, line := range asked.all() {
		if line == "ack 1" {
			t.Error("acknowledged")
		}
	}
}

func TestLosses(t *testing.T) {
	for _, failed := range []error{nil, fault.New(fault.NotFound, "", "", "gone"), errors.New("full")} {
		asked := &trace{}
		x := Exits{
			Monitor: &watcher{trace: asked, losses: []monitor.Loss{{ContainerID: "a", Bytes: 5, Reason: "full"}, {ContainerID: "b", Bytes: 6, Reason: "full"}}},
			Actors:  &actors{trace: asked, container: failed}, Logger: quiet,
		}
		following(t, x.FollowLosses, func() {
			asked.expect(t, "a: {Bytes:5 Reason:full}", "b: {Bytes:6 Reason:full}")
		})
	}
}

func TestReports(t *testing.T) {
	asked := &trace{}
	following(t, func(ctx context.Context) {
		r := NewReports()
		for range 2 * maxReports { // before anybody takes them
			r.Put(host.ReportMonitor{PID: 1})
		}
		r.Record(ctx, &actors{trace: asked, host: errors.New("full")}, quiet)
	}, func() {
		if got := asked.all(); len(got) != maxReports || got[0] != "record host.ReportMonitor" {
			t.Errorf("%d reports recorded: %q", len(got), got)
		}
	})
}

// The network is checked periodically, and at once after a new configuration. A check
// that hangs is canceled.
func TestNetworkHealth(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := NewHealth()
		if h.Network() == nil {
			t.Error("a network that nobody checked is ready")
		}
		var checks atomic.Int32
		var well atomic.Bool
		noConfiguration := errors.New("no configuration")
		b := NewBackground(quiet)
		b.Go("network", func(ctx context.Context) {
			h.FollowNetwork(ctx, func(ctx context.Context) error {
				if checks.Add(1) == 3 {
					<-ctx.Done()
					return ctx.Err()
				}
				if well.Load() {
					return nil
				}
				return noConfiguration
			})
		})
		expect := func(n int32, want error) {
			t.Helper()
			synctest.Wait()
			if got := h.Network(); checks.Load() != n || !errors.Is(got, want) {
				t.Errorf("after %d checks, want %d, the network is %v, want %v", checks.Load(), n, got, want)
			}
		}
		expect(1, noConfiguration)
		well.Store(true)
		h.RecheckNetwork()
		expect(2, nil)
		time.Sleep(networkCheckEvery)
		expect(3, nil) // it hangs
		time.Sleep(networkCheckWithin)
		expect(3, context.DeadlineExceeded)
		time.Sleep(networkCheckEvery)
		expect(4, nil)
		b.End()
	})
}

func TestMonitorHealth(t *testing.T) {
	h := NewHealth()
	lost := errors.New("killed")
	if h.SetMonitor(lost); !errors.Is(h.Monitor(), lost) {
		t.Errorf("a lost monitor is %v", h.Monitor())
	}
	if h.SetMonitor(nil); h.Monitor() != nil {
		t.Errorf("a monitor that is there is %v", h.Monitor())
	}
}

// A task that panics is logged and restarted, one that returns is not; the others
// continue.
func TestPanicCostsOneRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log strings.Builder
		b := NewBackground(slog.New(slog.NewTextHandler(&log, nil)))
		panics, returns, steady := 0, 0, 0
		b.Go("unsound", func(ctx context.Context) {
			if panics++; panics <= 2 {
				panic("no luck")
			}
			<-ctx.Done()
		})
		b.Go("short", func(context.Context) { returns++ })
		b.Go("steady", func(ctx context.Context) { steady++; <-ctx.Done() })
		time.Sleep(10 * restartAfter)
		b.End()
		if panics != 3 || returns != 1 || steady != 1 {
			t.Errorf("%d runs of what panics twice, %d of what returns, %d of what goes on", panics, returns, steady)
		}
		if text := log.String(); strings.Count(text, "no luck") != 2 || !strings.Contains(text, "task=unsound") || !strings.Contains(text, "follow_test.go") {
			t.Errorf("logged is %s", text)
		}
	})
}

// A task that always panics does not block the end.
func TestEndWithPanics(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := NewBackground(quiet)
		b.Go("unsound", func(context.Context) { panic("never") })
		synctest.Wait()
		b.End()
	})
}
