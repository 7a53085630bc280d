package sim

import (
	"cmp"
	"context"
	"errors"
	"iter"
	"slices"
	"strings"
	"time"

	"github.com/stele-runtime/stele/actors/codec"
	"github.com/stele-runtime/stele/actors/container"
	"github.com/stele-runtime/stele/actors/entity"
	"github.com/stele-runtime/stele/actors/host"
	"github.com/stele-runtime/stele/actors/id"
	"github.com/stele-runtime/stele/actors/image"
	"github.com/stele-runtime/stele/actors/sandbox"
	"github.com/stele-runtime/stele/eventlog"
	"github.com/stele-runtime/stele/keeper"
)

// nodeClock is the node's clock.
type nodeClock struct{ run *run }

// Now implements eventlog.Clock.
func (c nodeClock) Now() time.Time { return c.run.wall() }

// SinceBoot implements eventlog.Clock.
func (c nodeClock) SinceBoot() time.Duration { return c.run.uptime - c.run.booted }

// limits are what this run's keepers keep: little, so that much goes.
func (r *run) limits() keeper.Limits {
	l := keeper.Limits{Age: time.Minute, Pods: r.rand.IntN(3), Bytes: 1 << 40, Settled: 10 * time.Second}
	if r.rand.IntN(3) == 0 {
		l.Bytes = int64(r.rand.IntN(50_000) + 1)
	}
	return l
}

// keep has the daemon's keeper do a part of what is due.
func (r *run) keep() {
	d := r.daemon
	if d.keeper == nil {
		k, err := keeper.New(context.Background(), keeper.Options{
			Log: r.log, Views: keeping{r.view}, Limits: r.limits(), BootID: bootID(r.world.boot), Clock: nodeClock{r}, Logger: r.logger,
		})
		if err != nil {
			r.note("    no keeper: %v", err)
			return
		}
		d.keeper = k
	}
	for range 1 + r.rand.IntN(10) {
		more, err := d.keeper.Step(context.Background())
		if err != nil {
			r.note("    the keeper: %v", err)
			if !errors.Is(err, eventlog.ErrUnavailable) {
				r.violation("the keeper: %v", err)
			}
		}
		if !more {
			return
		}
	}
}

// keeping is a view as the keeper sees it.
type keeping struct{ *view }

// Sequence implements keeper.Views.
func (v keeping) Sequence() eventlog.Sequence { return v.states.Sequence }

// Saved implements keeper.Views.
func (v keeping) Saved(context.Context) (eventlog.Sequence, bool, error) {
	return v.run.savedAt, v.run.saved != nil, nil
}

// Save implements keeper.Views.
func (v keeping) Save() { v.run.save() }

// Lives implements keeper.Views.
func (v keeping) Lives(stream eventlog.Stream) bool {
	if _, damaged := v.run.log.damaged[stream]; damaged {
		return !v.closed[stream]
	}
	kind, name, _ := strings.Cut(string(stream), "/")
	switch kind {
	case "sandbox":
		at, there := v.Sandboxes[id.Sandbox(name)]
		return there && !sandbox.Ended(at.State)
	case "container":
		at, there := v.Containers[id.Container(name)]
		return there && !container.Ended(at.State)
	case "image":
		return !image.Ended(v.Images[name].State)
	}
	return true
}

// Ended implements keeper.Views.
func (v keeping) Ended() iter.Seq[keeper.Ended] {
	var ended []keeper.Ended
	for name, at := range v.Sandboxes {
		if sandbox.Ended(at.State) {
			ended = append(ended, keeper.Ended{Stream: eventlog.Stream("sandbox/" + name), Sequence: at.Sequence, Pod: true})
		}
	}
	for name, at := range v.Containers {
		if container.Ended(at.State) {
			ended = append(ended, keeper.Ended{Stream: eventlog.Stream("container/" + name), Sequence: at.Sequence})
		}
	}
	slices.SortFunc(ended, func(a, b keeper.Ended) int { return cmp.Compare(b.Sequence, a.Sequence) })
	return slices.Values(ended)
}

// Forget implements keeper.Views. What must not come back is remembered by the checks.
func (v keeping) Forget(stream eventlog.Stream) {
	kind, name, _ := strings.Cut(string(stream), "/")
	switch kind {
	case "sandbox":
		delete(v.Sandboxes, id.Sandbox(name))
	case "container":
		delete(v.Containers, id.Container(name))
	case "image":
		delete(v.Images, name)
	}
	delete(v.lives, stream)
}

// takeBases reads what stands in for the beginnings of streams, behind a snapshot.
func (s *states) takeBases(log eventlog.Reader) {
	for info, err := range log.Streams(context.Background(), "") {
		must(err)
		if info.Base.Version == 0 || info.Base.Sequence <= s.Sequence {
			continue
		}
		kind, name, _ := strings.Cut(string(info.Stream), "/")
		switch kind {
		case "image":
			state, err := codec.DecodeImageState(info.Base.State)
			must(err)
			s.Images[name] = entity.Restored[image.State]{State: state, Version: info.Base.Version, Sequence: info.Base.Sequence}
		case "node":
			state, err := codec.DecodeHostState(info.Base.State)
			must(err)
			s.Host = entity.Restored[host.State]{State: state, Version: info.Base.Version, Sequence: info.Base.Sequence}
		}
	}
}

// dropGone drops what a snapshot has and the log no longer has: it ended, and was removed.
func (s *states) dropGone(log eventlog.Reader) {
	gone := func(stream eventlog.Stream) bool {
		_, exists, err := log.Stream(context.Background(), stream)
		must(err)
		return !exists
	}
	for name := range s.Sandboxes {
		if gone(eventlog.Stream("sandbox/" + name)) {
			delete(s.Sandboxes, name)
		}
	}
	for name := range s.Containers {
		if gone(eventlog.Stream("container/" + name)) {
			delete(s.Containers, name)
		}
	}
	for name := range s.Images {
		if gone(eventlog.Stream("image/" + name)) {
			delete(s.Images, name)
		}
	}
}

// missing says what lives and is not in another reading of the log; empty if all of it is.
func (s *states) missing(other states) string {
	for name, at := range s.Sandboxes {
		if _, there := other.Sandboxes[name]; !there && !sandbox.Ended(at.State) {
			return "sandbox " + string(name)
		}
	}
	for name, at := range s.Containers {
		if _, there := other.Containers[name]; !there && !container.Ended(at.State) {
			return "container " + string(name)
		}
	}
	return ""
}
