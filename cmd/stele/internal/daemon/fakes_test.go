package daemon

import (
	"context"
	"fmt"
	"io"
	"iter"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stele-runtime/stele/actors/container"
	"github.com/stele-runtime/stele/actors/entity"
	"github.com/stele-runtime/stele/actors/host"
	"github.com/stele-runtime/stele/actors/id"
	"github.com/stele-runtime/stele/actors/sandbox"
	"github.com/stele-runtime/stele/eventlog"
	"github.com/stele-runtime/stele/executors/cni"
	"github.com/stele-runtime/stele/executors/monitor"
	"github.com/stele-runtime/stele/projections"
)

var quiet = slog.New(slog.NewTextHandler(io.Discard, nil))

// trace is the fakes' calls, in order.
type trace struct {
	mu    sync.Mutex
	lines []string
}

func (t *trace) add(format string, args ...any) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.lines = append(t.lines, fmt.Sprintf(format, args...))
}

func (t *trace) all() []string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return slices.Clone(t.lines)
}

// expect compares the whole trace.
func (t *trace) expect(test *testing.T, want ...string) {
	test.Helper()
	if got := t.all(); !slices.Equal(got, want) {
		test.Errorf("asked\n%q\nwant\n%q", got, want)
	}
}

// actors are traced; each call fails as a test says.
type actors struct {
	*trace
	exited    func(try int) error
	tries     int
	host      error
	container error
	closed    func()
}

func (a *actors) Boot(_ context.Context, past entity.Past, start host.StartDaemon) error {
	a.add("boot %s with %d containers", start.BootID, len(past.Containers))
	return nil
}

func (a *actors) Host(_ context.Context, c host.Command) error {
	a.add("record %T", c)
	return a.host
}

func (a *actors) Exited(_ context.Context, name string, process container.Process, exit container.Exit) error {
	a.add("exited %s, pid %d: %d %s", name, process.PID, exit.Code, exit.Unknown)
	a.tries++
	if a.exited != nil {
		return a.exited(a.tries)
	}
	return nil
}

func (a *actors) Container(_ context.Context, c id.Container, command container.Command, _ func(container.State, container.Event) (bool, error)) (container.State, error) {
	a.add("%s: %+v", c, command)
	return container.State{}, a.container
}

func (a *actors) Close(context.Context) {
	a.add("close")
	if a.closed != nil {
		a.closed()
	}
}

// watcher is a monitor.
type watcher struct {
	*trace
	list    []string
	err     error
	exits   []monitor.Exit
	losses  []monitor.Loss
	blocked []monitor.Blocked
	ack     error
}

func (w *watcher) List(context.Context) (all []monitor.Container, _ error) {
	w.add("list")
	for _, name := range w.list {
		all = append(all, monitor.Container{ID: name})
	}
	return all, w.err
}

func (w *watcher) Exits(ctx context.Context, after uint64) iter.Seq[monitor.Exit] {
	return func(yield func(monitor.Exit) bool) {
		for _, x := range w.exits {
			if x.Seq > after && !yield(x) {
				return
			}
		}
		<-ctx.Done()
	}
}

func (w *watcher) Losses(ctx context.Context) iter.Seq[monitor.Loss] {
	return func(yield func(monitor.Loss) bool) {
		for _, l := range w.losses {
			if !yield(l) {
				return
			}
		}
		<-ctx.Done()
	}
}

func (w *watcher) Blocked(ctx context.Context) iter.Seq[monitor.Blocked] {
	return func(yield func(monitor.Blocked) bool) {
		for _, b := range w.blocked {
			if !yield(b) {
				return
			}
		}
		<-ctx.Done()
	}
}

func (w *watcher) Ack(_ context.Context, seq uint64) error {
	w.add("ack %d", seq)
	return w.ack
}

// doer is an executor and a network.
type doer struct {
	*trace
	kill, gc, collect error
}

func (d *doer) KillContainer(_ context.Context, s container.State) error {
	d.add("kill container %s", s.ID)
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.kill
}

// setKill changes the answer while others ask.
func (d *doer) setKill(err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.kill = err
}

func (d *doer) KillHolder(_ context.Context, s sandbox.State) error {
	d.add("kill holder of %s", s.ID)
	return d.kill
}

func (d *doer) CollectContainers(_ context.Context, known func(string) bool) (removed []string, err error) {
	for _, name := range []string{"alive", "broken", "stray"} {
		if !known(name) {
			removed = append(removed, name)
		}
	}
	d.add("collect containers: removed %v", removed)
	return removed, d.collect
}

func (d *doer) CollectHostPorts(_ context.Context, known func(string) bool) (removed []string, err error) {
	for _, name := range []string{"pod", "stray"} {
		if !known(name) {
			removed = append(removed, name)
		}
	}
	d.add("collect host ports: removed %v", removed)
	return removed, d.collect
}

func (d *doer) GC(ctx context.Context, keep []cni.Attached) error {
	_, bounded := ctx.Deadline()
	names := []string{}
	for _, k := range keep {
		names = append(names, k.ID)
	}
	slices.Sort(names)
	d.add("collect networks but %v, bounded %t", names, bounded)
	return d.gc
}

// views are what a test puts into them.
type views struct {
	past    entity.Past
	damaged map[eventlog.Stream]string
}

func (v *views) Past() entity.Past                   { return v.past }
func (v *views) Damaged() map[eventlog.Stream]string { return v.damaged }
func (v *views) PassedOver() uint64                  { return 0 }

func (v *views) Sandboxes() (all []*projections.Sandbox) {
	for _, s := range v.past.Sandboxes {
		all = append(all, &projections.Sandbox{Restored: s})
	}
	return all
}

func (v *views) Containers() (all []*projections.Container) {
	for _, c := range v.past.Containers {
		all = append(all, &projections.Container{Restored: c})
	}
	return all
}

// ends waits for a channel's value or end, and fails the test if it hangs.
func ends[T any](t *testing.T, what string, done <-chan T) (value T) {
	t.Helper()
	select {
	case value = <-done:
	case <-time.After(time.Minute):
		t.Fatalf("%s has not ended", what)
	}
	return value
}

// streams are a traced streaming server.
type streams struct{ *trace }

func (s streams) End(context.Context) { s.add("end streams") }
