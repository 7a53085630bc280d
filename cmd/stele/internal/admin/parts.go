package admin

import (
	"context"
	"iter"
	"time"

	"github.com/stele-runtime/stele/actors/image"
	"github.com/stele-runtime/stele/cmd/stele/internal/history"
	"github.com/stele-runtime/stele/eventlog"
	"github.com/stele-runtime/stele/eventlog/boltlog"
	"github.com/stele-runtime/stele/executors/handover"
	"github.com/stele-runtime/stele/executors/registry"
	"github.com/stele-runtime/stele/projections"
	"github.com/stele-runtime/stele/projections/names"
	adminv1 "github.com/stele-runtime/stele/proto/admin/v1"
)

// Log is the event log.
type Log interface {
	Read(ctx context.Context, from eventlog.Sequence) iter.Seq2[eventlog.Record, error]
	ReadStream(ctx context.Context, s eventlog.Stream, from eventlog.Version) iter.Seq2[eventlog.Record, error]
	Subscribe(ctx context.Context, from eventlog.Sequence) iter.Seq2[eventlog.Record, error]
	Last() eventlog.Sequence
	Health() error
	Stats() boltlog.Stats
	Backup(ctx context.Context, path string) error
	Verify(ctx context.Context) (eventlog.Report, error)
	Usage(ctx context.Context) (eventlog.Usage, error)
	Compact(ctx context.Context) error
}

// Views are the states of everything that has not ended.
type Views interface {
	Sandboxes() []*projections.Sandbox
	Containers() []*projections.Container
	Pulls() []image.State
	// All returns sandboxes and containers as of one record.
	All() (eventlog.Sequence, []*projections.Sandbox, []*projections.Container)
	// PassedOver is how many records of unknown types were skipped.
	PassedOver() uint64
}

// Names finds pods and containers by their names, also those that have ended; only what has
// part in a name or an id is asked about.
type Names interface {
	Find(ctx context.Context, part string, wanted func(names.Named) bool) ([]names.Named, error)
}

// Actors delivers commands to image references. Held is the total time that entities
// were ready to continue and waited for the event log.
type Actors interface {
	Image(ctx context.Context, ref string, c image.Command, until func(image.State, image.Event) (bool, error)) (image.State, error)
	Held() time.Duration
}

// Registry describes images in registries, archives and the store; its errors are
// *registry.Error.
type Registry interface {
	Inspect(context.Context, registry.InspectRequest) (registry.Inspection, error)
}

// Transfers returns the progress of the pulls under way.
type Transfers interface {
	Transfers() []handover.Transfer
}

// Monitor is the node's monitor. Upgrade replaces its program with the configured one.
type Monitor interface {
	Upgrade(context.Context) error
}

// Backups are the automatic ones of the event log.
type Backups interface {
	Status() history.BackupStatus
}

// Parts are the service's dependencies.
type Parts struct {
	Log       Log
	Views     Views
	Names     Names
	Actors    Actors
	Registry  Registry
	Transfers Transfers
	Monitor   Monitor
	Backups   Backups
}

// Service implements the admin service.
type Service struct {
	adminv1.UnimplementedAdminServiceServer
	parts Parts
}

// New returns the service.
func New(p Parts) *Service { return &Service{parts: p} }
