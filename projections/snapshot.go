package projections

import (
	"encoding/json"
	"fmt"
	"maps"

	"github.com/stele-runtime/stele/actors/container"
	"github.com/stele-runtime/stele/actors/entity"
	"github.com/stele-runtime/stele/actors/host"
	"github.com/stele-runtime/stele/actors/id"
	"github.com/stele-runtime/stele/actors/image"
	"github.com/stele-runtime/stele/actors/sandbox"
	"github.com/stele-runtime/stele/eventlog"
)

const (
	snapshotName = "live"
	// snapshotSchema changes whenever a machine's State or Evolve does, so that
	// an older snapshot is passed over and the log is read instead.
	snapshotSchema = 6
)

// liveSnapshot is Live as a snapshot keeps it.
type liveSnapshot struct {
	Sandboxes  map[id.Sandbox]entity.Restored[sandbox.State]
	Containers map[id.Container]entity.Restored[container.State]
	Images     map[eventlog.Stream]entity.Restored[image.State]
	Host       entity.Restored[host.State]
	Damaged    map[eventlog.Stream]string
}

// snapshot returns the model as of its sequence.
func (l *Live) snapshot() (eventlog.Snapshot, error) {
	past := l.Past()
	l.mu.RLock()
	s := liveSnapshot{
		Sandboxes: past.Sandboxes, Containers: past.Containers, Host: past.Host,
		Images: maps.Clone(l.images), Damaged: maps.Clone(l.damaged),
	}
	sequence := l.sequence
	l.mu.RUnlock()
	payload, err := json.Marshal(s)
	if err != nil {
		return eventlog.Snapshot{}, fmt.Errorf("encode the snapshot at %d: %w", sequence, err)
	}
	return eventlog.Snapshot{Sequence: sequence, Schema: snapshotSchema, Payload: payload}, nil
}

// restore fills an empty model from a snapshot.
func (l *Live) restore(from eventlog.Snapshot) error {
	if from.Schema != snapshotSchema {
		return fmt.Errorf("the snapshot has schema %d, not %d", from.Schema, snapshotSchema)
	}
	var s liveSnapshot
	if err := json.Unmarshal(from.Payload, &s); err != nil {
		return fmt.Errorf("decode the snapshot at %d: %w", from.Sequence, err)
	}
	filled := NewLive(l.logger)
	filled.host, filled.sequence = s.Host, from.Sequence
	maps.Copy(filled.images, s.Images)
	maps.Copy(filled.damaged, s.Damaged)
	for name, at := range s.Sandboxes {
		config, err := sandboxConfig(at.State)
		if err != nil {
			return err
		}
		filled.sandboxes[name] = &Sandbox{Restored: at, Config: config}
	}
	for name, at := range s.Containers {
		config, err := containerConfig(at.State)
		if err != nil {
			return err
		}
		filled.containers[name] = &Container{Restored: at, Config: config}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.sequence, l.host, l.damaged = filled.sequence, filled.host, filled.damaged
	l.sandboxes, l.containers, l.images = filled.sandboxes, filled.containers, filled.images
	return nil
}
