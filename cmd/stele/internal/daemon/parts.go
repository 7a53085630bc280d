package daemon

import (
	"context"
	"iter"

	"github.com/stele-runtime/stele/actors/container"
	"github.com/stele-runtime/stele/actors/entity"
	"github.com/stele-runtime/stele/actors/host"
	"github.com/stele-runtime/stele/actors/id"
	"github.com/stele-runtime/stele/actors/sandbox"
	"github.com/stele-runtime/stele/eventlog"
	"github.com/stele-runtime/stele/eventlog/boltlog"
	"github.com/stele-runtime/stele/executors/cni"
	"github.com/stele-runtime/stele/executors/monitor"
	"github.com/stele-runtime/stele/projections"
)

// Actors are the node's.
type Actors interface {
	Boot(context.Context, entity.Past, host.StartDaemon) error
	// Host records what happened to the node.
	Host(context.Context, host.Command) error
	// Exited records the end of a container's or a holder's process.
	Exited(ctx context.Context, name string, process container.Process, exit container.Exit) error
	Container(context.Context, id.Container, container.Command, func(container.State, container.Event) (bool, error)) (container.State, error)
	// Close ends them. Effects under way have until ctx is done.
	Close(ctx context.Context)
}

// Views are the states of everything that has not ended.
type Views interface {
	Past() entity.Past
	Sandboxes() []*projections.Sandbox
	Containers() []*projections.Container
	// Damaged are the unusable streams, with the reason.
	Damaged() map[eventlog.Stream]string
	// PassedOver is how many records of unknown types were skipped.
	PassedOver() uint64
}

// Log is the event log, for health, metrics and a verbose Status.
type Log interface {
	Last() eventlog.Sequence
	Health() error
	Stats() boltlog.Stats
}

// Monitor is the node's monitor.
type Monitor interface {
	// List returns what it watches.
	List(context.Context) ([]monitor.Container, error)
	// Exits returns the exits that were not acknowledged, and then the new ones.
	Exits(ctx context.Context, after uint64) iter.Seq[monitor.Exit]
	// Ack lets the monitor forget exits up to a sequence number.
	Ack(ctx context.Context, seq uint64) error
	// Losses returns lost output, added up until it is taken.
	Losses(ctx context.Context) iter.Seq[monitor.Loss]
	// Blocked returns containers' forbidden system calls, and whenever there are more.
	Blocked(ctx context.Context) iter.Seq[monitor.Blocked]
}

// Executor does what only a boot needs.
type Executor interface {
	KillContainer(context.Context, container.State) error
	KillHolder(context.Context, sandbox.State) error
	// CollectHostPorts unmaps the node's ports that are mapped to unknown pods.
	CollectHostPorts(ctx context.Context, known func(id string) bool) (removed []string, err error)
	// CollectContainers removes the files of unknown containers.
	CollectContainers(ctx context.Context, known func(id string) bool) (removed []string, err error)
}

// Network removes all attachments but those to keep.
type Network interface {
	GC(ctx context.Context, keep []cni.Attached) error
}
