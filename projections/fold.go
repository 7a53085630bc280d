package projections

import (
	"bytes"
	"errors"
	"fmt"
	"strings"

	"github.com/stele-runtime/stele/actors/codec"
	"github.com/stele-runtime/stele/actors/container"
	"github.com/stele-runtime/stele/actors/entity"
	"github.com/stele-runtime/stele/actors/host"
	"github.com/stele-runtime/stele/actors/id"
	"github.com/stele-runtime/stele/actors/image"
	"github.com/stele-runtime/stele/actors/sandbox"
)

// folds maps each kind of stream to the function that folds a record into the state of
// the stream's entity. Name is the rest of the stream's name.
type folds map[string]func(l *Live, name string, record incoming) (What, error)

func newFolds() folds {
	return folds{"sandbox": foldSandbox, "container": foldContainer, "image": foldImage, "node": foldHost}
}

// change returns what the log's next record changes, without changing it. An unreadable
// record puts its stream aside; later records of that stream change nothing. Only the
// feed may call it: it reads the model without a lock.
func (f folds) change(l *Live, record incoming) (c Change, changes bool) {
	if _, damaged := l.damaged[record.Stream]; damaged {
		return Change{}, false
	}
	what, err := f.fold(l, record)
	if err != nil {
		what = StreamPutAside{Reason: fmt.Sprintf("version %d: %v", record.Version, err)}
	}
	record.Payload = nil // the decoded event replaces it
	return Change{Record: record.Record, What: what}, true
}

// fold turns a panic in a machine or decoder into an error: one stream must not keep the
// daemon from starting.
func (f folds) fold(l *Live, record incoming) (what What, err error) {
	defer func() {
		if p := recover(); p != nil {
			what, err = nil, fmt.Errorf("panic: %v", p)
		}
	}()
	kind, name, _ := strings.Cut(string(record.Stream), "/")
	fold, known := f[kind]
	if !known {
		return nil, fmt.Errorf("unknown kind of stream %q", kind)
	}
	return fold(l, name, record)
}

// errBeginsAgain protects the lists' order: an entity's rank never changes.
var errBeginsAgain = errors.New("it begins the stream a second time")

func foldSandbox(l *Live, name string, record incoming) (What, error) {
	before := l.sandboxes.byID[id.Sandbox(name)]
	after := &Sandbox{}
	if before != nil {
		*after = *before
	}
	event, err := follow(l, &after.Restored, record, codec.DecodeSandbox, sandbox.Evolve)
	switch {
	case err != nil:
		return nil, err
	case after.State.ID != id.Sandbox(name):
		return nil, fmt.Errorf("it is about sandbox %q", after.State.ID)
	case before != nil && before.rank() != after.rank():
		return nil, errBeginsAgain
	case before == nil || !bytes.Equal(before.State.UpdatedResources, after.State.UpdatedResources):
		if err := after.show(l.words); err != nil {
			return nil, err
		}
	}
	return SandboxChanged{Event: event, Before: before, After: after, Ended: sandbox.Ended(after.State)}, nil
}

func foldContainer(l *Live, name string, record incoming) (What, error) {
	before := l.containers.byID[id.Container(name)]
	after := &Container{}
	if before != nil {
		*after = *before
	}
	event, err := follow(l, &after.Restored, record, codec.DecodeContainer, container.Evolve)
	switch {
	case err != nil:
		return nil, err
	case after.State.ID != id.Container(name):
		return nil, fmt.Errorf("it is about container %q", after.State.ID)
	case before != nil && (before.rank() != after.rank() || before.State.Sandbox != after.State.Sandbox):
		return nil, errBeginsAgain
	case before == nil || !bytes.Equal(before.State.Resources.InForce, after.State.Resources.InForce):
		if err := after.show(l.words, l.sandboxes.byID[after.State.Sandbox]); err != nil {
			return nil, err
		}
	}
	return ContainerChanged{Event: event, Before: before, After: after, Ended: container.Ended(after.State)}, nil
}

func foldImage(l *Live, _ string, record incoming) (What, error) {
	before := l.image(record.Stream)
	if _, idle := l.idle[record.Stream]; idle && record.Version == 1 {
		before = &Image{} // The stream was removed, and begins anew.
	}
	after := *before
	event, err := follow(l, &after, record, codec.DecodeImage, image.Evolve)
	if err != nil {
		return nil, err
	}
	return ImageChanged{Event: event, Before: before, After: &after, Idle: image.Ended(after.State)}, nil
}

func foldHost(l *Live, _ string, record incoming) (What, error) {
	before := l.host
	after := *before
	event, err := follow(l, &after, record, codec.DecodeHost, host.Evolve)
	if err != nil {
		return nil, err
	}
	return HostChanged{Event: event, Before: before, After: &after}, nil
}

// follow evolves a state by one record, which must be the stream's next: skipping one
// would invent a past, unless it was removed because it does not matter, or its writer marked it
// as one that older readers can skip.
func follow[S, E any](l *Live, at *entity.Restored[S], record incoming, decode func(string, uint32, []byte) (E, error), evolve func(S, E) S) (E, error) {
	var none E
	next := at.Version + 1
	if record.Version > next && l.removed != nil && l.removed(record.Stream, next, record.Version-1) {
		next = record.Version
	}
	if record.Version != next {
		return none, fmt.Errorf("follows version %d", at.Version)
	}
	event, err := eventOf(record, decode)
	if codec.CanSkip(err) {
		l.passedOver.Add(1)
		*at = entity.As(record.Record, at.State)
		return none, nil
	}
	if err != nil {
		return none, err
	}
	*at = entity.As(record.Record, evolve(at.State, event))
	return event, nil
}
