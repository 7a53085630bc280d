package projections

import (
	"encoding/json"
	"fmt"

	"github.com/stele-runtime/stele/actors/container"
	"github.com/stele-runtime/stele/actors/entity"
	"github.com/stele-runtime/stele/actors/id"
	"github.com/stele-runtime/stele/actors/image"
	"github.com/stele-runtime/stele/actors/sandbox"
	"github.com/stele-runtime/stele/eventlog"
)

const (
	snapshotName = "live"
	snapshotKey  = "live" // of the one value that there is
	// snapshotSchema changes whenever a machine's State or Evolve does, so that
	// an older snapshot is passed over and the log is read instead.
	snapshotSchema = 7
)

// modelSnapshot is the models as a snapshot keeps them.
type modelSnapshot struct {
	Sandboxes  map[id.Sandbox]entity.Restored[sandbox.State]
	Containers map[id.Container]entity.Restored[container.State]
	Images     map[eventlog.Stream]*Image
	Host       *Host
	Damaged    map[eventlog.Stream]string
	Ended      []Ended
}

// snapshot returns the models as of their sequence.
func (f *Feed) snapshot() (eventlog.Delta, error) {
	past, sequence := f.Live.Past(), f.Live.Sequence()
	s := modelSnapshot{
		Sandboxes: past.Sandboxes, Containers: past.Containers, Host: &past.Host,
		Images: map[eventlog.Stream]*Image{}, Damaged: f.Live.Damaged(), Ended: f.History.Ended(),
	}
	for stream := range f.Live.busy {
		s.Images[stream] = f.Live.image(stream)
	}
	for stream := range f.Live.idle {
		s.Images[stream] = f.Live.image(stream)
	}
	payload, err := json.Marshal(s)
	if err != nil {
		return eventlog.Delta{}, fmt.Errorf("encode the snapshot at %d: %w", sequence, err)
	}
	return eventlog.Delta{
		Checkpoint: eventlog.Checkpoint{Sequence: sequence, Schema: snapshotSchema},
		Replace:    true,
		Put:        map[string][]byte{snapshotKey: payload},
	}, nil
}

// restore fills empty models from a snapshot.
func (f *Feed) restore(from eventlog.Saved) error {
	if from.Schema != snapshotSchema {
		return fmt.Errorf("the snapshot has schema %d, not %d", from.Schema, snapshotSchema)
	}
	var s modelSnapshot
	for pair, err := range from.Pairs {
		if err == nil {
			err = json.Unmarshal(pair.Value, &s)
		}
		if err != nil {
			return fmt.Errorf("decode the snapshot at %d: %w", from.Sequence, err)
		}
	}
	l := f.Live
	for stream, reason := range s.Damaged {
		l.damaged[stream] = reason
	}
	for stream, at := range s.Images {
		l.putImage(stream, at, image.Ended(at.State))
	}
	for name, at := range s.Sandboxes {
		config, err := sandboxConfig(at.State)
		if err != nil {
			return err
		}
		l.sandboxes.put(name, &Sandbox{Restored: at, Config: config})
	}
	for _, at := range s.Containers {
		config, err := containerConfig(at.State)
		if err != nil {
			return err
		}
		l.putContainer(&Container{Restored: at, Config: config})
	}
	l.host, l.sequence, f.History.ended = s.Host, from.Sequence, s.Ended
	return nil
}
