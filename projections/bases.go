package projections

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/stele-runtime/stele/actors/codec"
	"github.com/stele-runtime/stele/actors/container"
	"github.com/stele-runtime/stele/actors/entity"
	"github.com/stele-runtime/stele/actors/image"
	"github.com/stele-runtime/stele/actors/sandbox"
	"github.com/stele-runtime/stele/eventlog"
)

// takeBases brings the models to the bases of the streams that were trimmed behind the
// model's sequence; Read does not yield what they replace. The model stays at its
// sequence. It returns the damaged bases.
func (f *Feed) takeBases(ctx context.Context) (lost []*eventlog.DamageError, err error) {
	reached := f.Live.Sequence()
	defer f.Live.reached(reached)
	for info, err := range f.log.Bases(ctx) {
		if damage, is := errors.AsType[*eventlog.DamageError](err); is {
			lost = append(lost, damage)
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("read the bases of streams: %w", err)
		}
		_, damaged := f.Live.damaged[info.Stream]
		if info.Base.Version == 0 || info.Base.Sequence <= reached || damaged {
			continue
		}
		f.apply(&Change{
			Record: eventlog.Record{Stream: info.Stream, Version: info.Base.Version, Sequence: info.Base.Sequence},
			What:   f.fromBase(info.Stream, info.Base),
		})
	}
	return lost, nil
}

// putAside puts the streams of damaged bases aside, once their records were read.
func (f *Feed) putAside(lost []*eventlog.DamageError) {
	for _, damage := range lost {
		if _, known := f.Live.damaged[damage.Stream]; !known {
			f.apply(&Change{
				Record: eventlog.Record{Stream: damage.Stream, Sequence: f.Live.Sequence()},
				What:   StreamPutAside{Reason: damage.Error()},
			})
		}
	}
}

// fromBase is what a base changes, without an event. One that cannot be read puts its
// stream aside.
func (f *Feed) fromBase(stream eventlog.Stream, base eventlog.Base) (what What) {
	defer func() {
		if p := recover(); p != nil {
			what = StreamPutAside{Reason: fmt.Sprintf("base at version %d: panic: %v", base.Version, p)}
		}
	}()
	what, err := f.decodeBase(stream, base)
	if err != nil {
		return StreamPutAside{Reason: err.Error()}
	}
	return what
}

// fromState is the state that stands in for a stream's trimmed records.
func fromState[S any](base eventlog.Base, decode func([]byte) (S, error)) (entity.Restored[S], error) {
	state, err := codec.FromBase(decode)(base.Schema, base.State)
	if err != nil {
		err = fmt.Errorf("its base at version %d: %w", base.Version, err)
	}
	return entity.Restored[S]{State: state, Version: base.Version, Sequence: base.Sequence}, err
}

func (f *Feed) decodeBase(stream eventlog.Stream, base eventlog.Base) (What, error) {
	kind, name, _ := strings.Cut(string(stream), "/")
	switch kind {
	case "sandbox":
		at, err := fromState(base, codec.DecodeSandboxState)
		if err != nil {
			return nil, err
		}
		s := &Sandbox{Restored: at}
		if err = s.show(f.Live.words); err == nil && string(at.State.ID) != name {
			err = fmt.Errorf("base at version %d: it is about sandbox %q", base.Version, at.State.ID)
		}
		return SandboxChanged{After: s, Ended: sandbox.Ended(at.State)}, err
	case "container":
		at, err := fromState(base, codec.DecodeContainerState)
		if err != nil {
			return nil, err
		}
		c := &Container{Restored: at}
		if err = c.show(f.Live.words, f.Live.sandboxes.byID[at.State.Sandbox]); err == nil && string(at.State.ID) != name {
			err = fmt.Errorf("base at version %d: it is about container %q", base.Version, at.State.ID)
		}
		return ContainerChanged{After: c, Ended: container.Ended(at.State)}, err
	case "image":
		at, err := fromState(base, codec.DecodeImageState)
		return ImageChanged{After: &at, Idle: image.Ended(at.State)}, err
	case "node":
		at, err := fromState(base, codec.DecodeHostState)
		return HostChanged{After: &at}, err
	default:
		return nil, errors.New("unknown kind of stream")
	}
}
