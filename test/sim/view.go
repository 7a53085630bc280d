package sim

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"strings"

	"github.com/stele-runtime/stele/actors/codec"
	"github.com/stele-runtime/stele/actors/container"
	"github.com/stele-runtime/stele/actors/entity"
	"github.com/stele-runtime/stele/actors/host"
	"github.com/stele-runtime/stele/actors/id"
	"github.com/stele-runtime/stele/actors/image"
	"github.com/stele-runtime/stele/actors/machinetest"
	"github.com/stele-runtime/stele/actors/sandbox"
	"github.com/stele-runtime/stele/eventlog"
)

// view is what the log says, as a projection knows it: the kubelet sees it, a daemon
// boots from it, and the checks look at it.
type view struct {
	run *run
	states
	// exits counts the recorded exits of each container.
	exits map[id.Container]int
	// lives is what a subscriber is told of.
	lives lives
	// closed are the damaged streams of which nothing is left.
	closed map[eventlog.Stream]bool
}

// states are the machines' as of a sequence. They are what a snapshot keeps.
type states struct {
	Sequence   eventlog.Sequence
	Sandboxes  map[id.Sandbox]entity.Restored[sandbox.State]
	Containers map[id.Container]entity.Restored[container.State]
	Images     map[string]entity.Restored[image.State]
	Host       entity.Restored[host.State]
}

func newStates() states {
	return states{
		Sandboxes:  map[id.Sandbox]entity.Restored[sandbox.State]{},
		Containers: map[id.Container]entity.Restored[container.State]{},
		Images:     map[string]entity.Restored[image.State]{},
	}
}

func newView(r *run) *view {
	return &view{run: r, states: newStates(), exits: map[id.Container]int{}, lives: lives{}, closed: map[eventlog.Stream]bool{}}
}

// take follows the log by one record, and checks what it claims.
func (v *view) take(record eventlog.Record) {
	event, wrong := v.lives.follow(&v.states, record)
	if wrong != "" {
		v.run.violation("%s: %s: %v", record.Stream, wrong, v.lives[record.Stream])
	}
	if v.run.tell {
		v.run.note("        %s: %s", record.Stream, machinetest.Describe([]any{event}))
	}
	v.run.checks.observe(record, event)
}

// fold follows the log by one record, and returns its event.
func (s *states) fold(record eventlog.Record) any {
	s.Sequence = record.Sequence
	kind, name, _ := strings.Cut(string(record.Stream), "/")
	switch kind {
	case "sandbox":
		return follow(s.Sandboxes, id.Sandbox(name), record, codec.DecodeSandbox, sandbox.Evolve)
	case "container":
		return follow(s.Containers, id.Container(name), record, codec.DecodeContainer, container.Evolve)
	case "image":
		return follow(s.Images, name, record, codec.DecodeImage, image.Evolve)
	default:
		e, err := codec.DecodeHost(record.Type, record.Schema, record.Payload)
		must(err)
		s.Host = entity.As(record, host.Evolve(s.Host.State, e))
		return e
	}
}

func follow[K comparable, S, E any](all map[K]entity.Restored[S], name K, record eventlog.Record, decode func(string, uint32, []byte) (E, error), evolve func(S, E) S) any {
	e, err := decode(record.Type, record.Schema, record.Payload)
	must(err)
	all[name] = entity.As(record, evolve(all[name].State, e))
	return e
}

// rebuild reads the log anew, after it has lost its end.
func (v *view) rebuild(snapshot []byte) {
	v.states = v.restored(snapshot)
	v.lives.reread(v.run.log)
	clear(v.exits)
	for record, err := range v.run.log.Read(context.Background(), 1) {
		if errors.Is(err, eventlog.ErrRemoved) {
			continue
		}
		must(err)
		if strings.HasPrefix(record.Type, "container.ContainerExited.") {
			_, name, _ := strings.Cut(string(record.Stream), "/")
			v.exits[id.Container(name)]++
		}
	}
}

// restored reads the log as a new daemon does: from a snapshot, if there is one.
func (v *view) restored(snapshot []byte) states {
	s := newStates()
	if snapshot != nil {
		must(json.Unmarshal(snapshot, &s))
	}
	s.takeBases(v.run.log.Log)
	for record, err := range v.run.log.Read(context.Background(), s.Sequence+1) {
		if errors.Is(err, eventlog.ErrRemoved) {
			continue
		}
		must(err)
		s.fold(record)
	}
	s.dropGone(v.run.log.Log)
	return s
}

// snapshot is the states, as they are kept.
func (v *view) snapshot() []byte {
	b, err := json.Marshal(v.states)
	must(err)
	return b
}

// past is what the node boots from: what has not ended, with the last good states of
// streams that cannot be read.
func (v *view) past(s states) entity.Past {
	past := entity.Past{
		Sandboxes:  map[id.Sandbox]entity.Restored[sandbox.State]{},
		Containers: map[id.Container]entity.Restored[container.State]{},
		Images:     map[string]entity.Restored[image.State]{},
		Host:       s.Host,
		Damaged:    map[eventlog.Stream]string{},
	}
	for name, at := range s.Sandboxes {
		if !sandbox.Ended(at.State) && !v.closed["sandbox/"+eventlog.Stream(name)] {
			past.Sandboxes[name] = at
		}
	}
	for name, at := range s.Containers {
		if !container.Ended(at.State) && !v.closed["container/"+eventlog.Stream(name)] {
			past.Containers[name] = at
		}
	}
	for _, at := range s.Images {
		if !image.Ended(at.State) {
			past.Images[at.State.Ref] = at
		}
	}
	for stream, good := range v.run.log.damaged {
		if v.closed[stream] {
			continue
		}
		past.Damaged[stream] = "damaged"
		v.lastGood(&past, stream, good)
	}
	return past
}

// lastGood puts the state of a damaged stream before its damage into a past.
func (v *view) lastGood(past *entity.Past, stream eventlog.Stream, good eventlog.Version) {
	s := newStates()
	for record, err := range v.run.log.Log.ReadStream(context.Background(), stream, 1) {
		if errors.Is(err, eventlog.ErrRemoved) {
			continue
		}
		must(err)
		if record.Version <= good {
			s.fold(record)
		}
	}
	_, name, _ := strings.Cut(string(stream), "/")
	delete(past.Sandboxes, id.Sandbox(name))
	delete(past.Containers, id.Container(name))
	maps.Copy(past.Sandboxes, s.Sandboxes)
	maps.Copy(past.Containers, s.Containers)
}

// version is how far a stream goes.
func (v *view) version(stream eventlog.Stream) eventlog.Version {
	_, name, _ := strings.Cut(string(stream), "/")
	return max(v.Sandboxes[id.Sandbox(name)].Version, v.Containers[id.Container(name)].Version)
}

// differs says what is different in two readings of one log; empty if nothing is.
func (s *states) differs(other states) string {
	for name, at := range s.Sandboxes {
		if a, b, same := compare(at, other.Sandboxes[name]); !same {
			return fmt.Sprintf("sandbox %s is %s and %s", name, a, b)
		}
	}
	for name, at := range s.Containers {
		if a, b, same := compare(at, other.Containers[name]); !same {
			return fmt.Sprintf("container %s is %s and %s", name, a, b)
		}
	}
	return ""
}

// compare compares two states, as far as a snapshot keeps them.
func compare[S any](x, y entity.Restored[S]) (a, b string, same bool) {
	if reflect.DeepEqual(x, y) {
		return "", "", true
	}
	a, b = shape(x), shape(y)
	return a, b, a == b
}

// shape is a state as a snapshot keeps it, which does not tell empty maps from none.
func shape[S any](at entity.Restored[S]) string {
	b, err := json.Marshal(at)
	must(err)
	var kept entity.Restored[S]
	must(json.Unmarshal(b, &kept))
	b, err = json.Marshal(kept)
	must(err)
	return string(b)
}

// must stops a run that cannot go on: what was encoded can be decoded.
func must(err error) {
	if err != nil {
		panic(err)
	}
}
