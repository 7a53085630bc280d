package admin

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"maps"
	"slices"
	"strings"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/stele-runtime/stele/actors/codec"
	"github.com/stele-runtime/stele/actors/container"
	"github.com/stele-runtime/stele/actors/fault"
	"github.com/stele-runtime/stele/actors/id"
	"github.com/stele-runtime/stele/actors/redact"
	"github.com/stele-runtime/stele/actors/sandbox"
	"github.com/stele-runtime/stele/eventlog"
	"github.com/stele-runtime/stele/projections/names"
	adminv1 "github.com/stele-runtime/stele/proto/admin/v1"
	"github.com/stele-runtime/stele/timeline"
)

// Inspect returns the states of sandboxes and containers: from memory, or from the log
// if they have ended.
func (s *Service) Inspect(ctx context.Context, req *adminv1.InspectRequest) (*adminv1.InspectResponse, error) {
	if req.GetAll() {
		if req.GetId() != "" {
			return nil, fault.New(fault.Invalid, "", "", "id: %q is given, and all are wanted", req.GetId())
		}
		return s.all()
	}
	if req.GetId() == "" {
		return nil, fault.New(fault.Invalid, "", "", "id: is empty")
	}
	name, err := timeline.ParseName(req.GetId())
	if err != nil {
		return nil, fault.New(fault.Invalid, "", "", "id: %v", err)
	}
	all := s.living()
	found, err := all.named(name)
	var known []names.Named
	if err == nil && (len(found) == 0 || req.GetEnded()) {
		if known, err = s.ended(ctx, name, all); err == nil {
			found, err = all.named(name)
		}
	}
	switch {
	case err != nil:
		return nil, err
	case len(found) == 0 && len(known) > 0 && req.GetEnded():
		return &adminv1.InspectResponse{Gone: s.dropped(ctx, known[len(known)-1])}, nil
	case len(found) == 0 && len(known) > 0:
		return nil, fault.New(fault.NotFound, "", "", "id: %s", s.dropped(ctx, known[len(known)-1]))
	case len(found) == 0 && !req.GetEnded():
		return nil, fault.New(fault.NotFound, "", "", "id: no sandbox or container has the id or the pod name %q", req.GetId())
	}
	return &adminv1.InspectResponse{Entities: found}, nil
}

// all returns everything that has not ended, as of one record.
func (s *Service) all() (*adminv1.InspectResponse, error) {
	sequence, sandboxes, containers := s.parts.Views.All()
	answer := &adminv1.InspectResponse{Sequence: uint64(sequence)}
	for _, x := range sandboxes {
		e, err := toEntity("sandbox/"+string(x.State.ID), x.State, sandbox.Owed(x.State))
		if err != nil {
			return nil, err
		}
		answer.Entities = append(answer.Entities, e)
	}
	for _, x := range containers {
		e, err := toEntity("container/"+string(x.State.ID), x.State, container.Owed(x.State))
		if err != nil {
			return nil, err
		}
		answer.Entities = append(answer.Entities, e)
	}
	return answer, nil
}

// states are the states of sandboxes and containers.
type states struct {
	sandboxes  map[id.Sandbox]sandbox.State
	containers map[id.Container]container.State
}

func noStates() states {
	return states{sandboxes: map[id.Sandbox]sandbox.State{}, containers: map[id.Container]container.State{}}
}

// living are the states of everything that has not ended.
func (s *Service) living() states {
	all := noStates()
	for _, x := range s.parts.Views.Sandboxes() {
		all.sandboxes[x.State.ID] = x.State
	}
	for _, x := range s.parts.Views.Containers() {
		all.containers[x.State.ID] = x.State
	}
	return all
}

// dropped says that something is not in the log any more, and why, as far as that is on record.
func (s *Service) dropped(ctx context.Context, n names.Named) string {
	what := "pod " + n.Pod.Namespace + "/" + n.Pod.Name
	if n.Container != "" {
		what = "container " + n.Pod.Namespace + "/" + n.Pod.Name + "/" + n.Name.Name
	}
	why := ""
	for _, err := range s.parts.Log.Read(ctx, n.Sequence) {
		if gap, removed := errors.AsType[*eventlog.GapError](err); removed && gap.First <= n.Sequence && gap.Last >= n.Sequence {
			why = ": " + timeline.Dropped{
				Records: gap.Records(), Since: gap.Since, Until: gap.Until, Rules: gap.Rules,
			}.String()
		}
		break
	}
	return fmt.Sprintf("%s, requested at %s, is not in the log any more%s", redact.Text(what), n.At.UTC().Format("2 January 2006 15:04:05 UTC"), why)
}

// ended adds from the log the last states of what a name may mean and has ended, and returns
// what the index knows of it.
func (s *Service) ended(ctx context.Context, name timeline.Name, to states) ([]names.Named, error) {
	pods := map[id.Sandbox]bool{}
	found, err := s.parts.Names.Find(ctx, name.Part(), func(n names.Named) bool {
		if name.Pod(n.Sandbox, n.Pod) {
			pods[n.Sandbox] = true
		}
		return pods[n.Sandbox] || n.Container != "" && name.Container(n.Container, n.Name, n.Pod)
	})
	if err != nil {
		return nil, err
	}
	streams := map[eventlog.Stream]bool{}
	for _, n := range found {
		// The sandbox's too, for it knows the pod's name.
		for _, stream := range []eventlog.Stream{n.Stream, "sandbox/" + eventlog.Stream(n.Sandbox)} {
			if !to.has(stream) {
				streams[stream] = true
			}
		}
	}
	for stream := range streams {
		if err := to.read(ctx, s.parts.Log.ReadStream(ctx, stream, 1)); err != nil {
			return nil, err
		}
	}
	return found, nil
}

// has reports whether a stream's state is known.
func (all states) has(stream eventlog.Stream) (has bool) {
	kind, of, _ := strings.Cut(string(stream), "/")
	if kind == "container" {
		_, has = all.containers[id.Container(of)]
	} else {
		_, has = all.sandboxes[id.Sandbox(of)]
	}
	return has
}

// read applies records to the states. Damaged ones are skipped; `stele events` reports
// them. Removed ones do not matter, but for those before a base.
func (all states) read(ctx context.Context, records iter.Seq2[eventlog.Record, error]) error {
	for record, err := range records {
		if err != nil {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			continue
		}
		kind, of, _ := strings.Cut(string(record.Stream), "/")
		switch kind {
		case "sandbox":
			if e, err := codec.DecodeSandbox(record.Type, record.Schema, record.Payload); err == nil {
				all.sandboxes[id.Sandbox(of)] = sandbox.Evolve(all.sandboxes[id.Sandbox(of)], e)
			}
		case "container":
			if e, err := codec.DecodeContainer(record.Type, record.Schema, record.Payload); err == nil {
				all.containers[id.Container(of)] = container.Evolve(all.containers[id.Container(of)], e)
			}
		}
	}
	return nil
}

// named returns the sandboxes that a name means, each with its containers, and then the
// other containers that it means.
func (all states) named(name timeline.Name) ([]*adminv1.Entity, error) {
	var entities []*adminv1.Entity
	for _, s := range slices.Sorted(maps.Keys(all.sandboxes)) {
		if !all.means(name, s) {
			continue
		}
		e, err := toEntity("sandbox/"+string(s), all.sandboxes[s], sandbox.Owed(all.sandboxes[s]))
		if err != nil {
			return nil, err
		}
		own, err := all.containersWhere(func(c container.State) bool { return c.Sandbox == s })
		if err != nil {
			return nil, err
		}
		entities = append(append(entities, e), own...)
	}
	others, err := all.containersWhere(func(c container.State) bool {
		return name.Container(c.ID, c.Name, all.sandboxes[c.Sandbox].Name) && !all.means(name, c.Sandbox)
	})
	return append(entities, others...), err
}

// means reports whether the sandbox exists and the name means it.
func (all states) means(name timeline.Name, s id.Sandbox) bool {
	state, there := all.sandboxes[s]
	return there && name.Pod(s, state.Name)
}

func (all states) containersWhere(which func(container.State) bool) ([]*adminv1.Entity, error) {
	var entities []*adminv1.Entity
	for _, c := range slices.Sorted(maps.Keys(all.containers)) {
		state := all.containers[c]
		if !which(state) {
			continue
		}
		e, err := toEntity("container/"+string(c), state, container.Owed(state))
		if err != nil {
			return nil, err
		}
		entities = append(entities, e)
	}
	return entities, nil
}

// owed is what all machines' effects have in common.
type owed interface {
	Key() string
	NotBefore() time.Time
}

func toEntity[F owed](stream string, state any, effects []F) (*adminv1.Entity, error) {
	shown, err := redact.State(state)
	if err != nil {
		return nil, fmt.Errorf("inspect %s: %w", stream, err)
	}
	e := &adminv1.Entity{Stream: stream, StateJson: string(shown)}
	for _, f := range effects {
		o := &adminv1.Owed{Effect: f.Key()}
		if !f.NotBefore().IsZero() {
			o.NotBefore = timestamppb.New(f.NotBefore())
		}
		e.Owed = append(e.Owed, o)
	}
	return e, nil
}

// UpgradeMonitor makes the monitor replace its program.
func (s *Service) UpgradeMonitor(ctx context.Context, _ *adminv1.UpgradeMonitorRequest) (*adminv1.UpgradeMonitorResponse, error) {
	if err := s.parts.Monitor.Upgrade(ctx); err != nil {
		return nil, err
	}
	return &adminv1.UpgradeMonitorResponse{}, nil
}
