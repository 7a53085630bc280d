package projections

import (
	"context"
	"strings"

	"github.com/stele-runtime/stele/actors/container"
	"github.com/stele-runtime/stele/actors/entity"
	"github.com/stele-runtime/stele/actors/id"
	"github.com/stele-runtime/stele/actors/sandbox"
	"github.com/stele-runtime/stele/eventlog"
)

// Sandbox returns the state of a sandbox at the end of its stream, for an actor that is made
// again. What is said of Image holds here, too; it also returns false if the sandbox has
// ended.
func (f *Feed) Sandbox(ctx context.Context, stream eventlog.Stream) (entity.Restored[sandbox.State], bool) {
	return recall(ctx, f, stream, func(name string) (at entity.Restored[sandbox.State], known bool) {
		if s := f.Live.sandboxes.byID[id.Sandbox(name)]; s != nil {
			return s.Restored, true
		}
		return at, false
	})
}

// Container is Sandbox for a container.
func (f *Feed) Container(ctx context.Context, stream eventlog.Stream) (entity.Restored[container.State], bool) {
	return recall(ctx, f, stream, func(name string) (at entity.Restored[container.State], known bool) {
		if c := f.Live.containers.byID[id.Container(name)]; c != nil {
			return c.Restored, true
		}
		return at, false
	})
}

// recall finds a state by the stream's name without its kind, once the models have reached
// the log's end.
func recall[S any](ctx context.Context, f *Feed, stream eventlog.Stream, find func(name string) (entity.Restored[S], bool)) (none entity.Restored[S], known bool) {
	if f.Await(ctx, f.log.Last()) != nil {
		return none, false
	}
	f.Live.mu.RLock()
	defer f.Live.mu.RUnlock()
	if _, damaged := f.Live.damaged[stream]; damaged {
		return none, false
	}
	_, name, _ := strings.Cut(string(stream), "/")
	return find(name)
}
