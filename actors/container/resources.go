package container

import (
	"bytes"
	"slices"

	"github.com/stele-runtime/stele/actors/fault"
)

// Resources are the container's limits, as updates have changed them since its creation.
type Resources struct {
	// Asked counts the updates that were accepted.
	Asked uint64 `json:",omitempty"`
	// Pending are the updates that have no outcome yet, oldest first.
	Pending []Update `json:",omitempty"`
	// InForce are all limits after the last update that succeeded, the CRI's
	// LinuxContainerResources, protobuf-encoded. Empty: those of the request.
	InForce []byte `json:",omitempty"`
}

// Update is one change of the limits.
type Update struct {
	// Number counts from 1.
	Number uint64
	// Change is the CRI's UpdateContainerResourcesRequest, protobuf-encoded.
	Change []byte
	// ByPlugin: an NRI plug-in wants it, so that none is asked about it.
	ByPlugin bool `json:",omitempty"`
}

// decideUpdate takes updates as long as the container's init lives, as CRI-O does: an
// exited container has no limits. A request that is repeated while its update is the
// last one under way joins it.
func decideUpdate(s State, c UpdateResources) ([]Event, error) {
	switch s.Phase {
	case Created, Starting, Running:
		if s.Run.ExitSeen {
			break
		}
		if n := len(s.Resources.Pending); n > 0 && s.Resources.Pending[n-1].same(c) {
			return nil, nil
		}
		return []Event{ResourcesUpdateRequested{Update: s.Resources.Asked + 1, Change: c.Change, ByPlugin: c.ByPlugin}}, nil
	case Absent, Creating, Unwinding, Failed, Exited, Removing, Removed:
	}
	phase := s.Phase
	if s.Run.ExitSeen {
		phase = Exited
	}
	return nil, fault.New(fault.Precondition, "update container", string(s.ID), "it is %s, neither created nor running", phase)
}

func (u Update) same(c UpdateResources) bool {
	return bytes.Equal(u.Change, c.Change) && u.ByPlugin == c.ByPlugin
}

func decideUpdated(s State, c UpdateRuntimeDone) []Event {
	if !s.Resources.pending(c.Update) {
		return nil
	}
	if c.Err != nil {
		return []Event{ResourcesUpdateFailed{c.Update, failure(s, "update container", c.Err)}}
	}
	return []Event{ResourcesUpdated{Update: c.Update, Resources: c.Resources}}
}

// updatesLost ends every update that has no outcome: nothing is left of the container.
func updatesLost(s State) []Event {
	var events []Event
	for _, u := range s.Resources.Pending {
		events = append(events, ResourcesUpdateFailed{u.Number, *fault.New(fault.Interrupted, "update container", string(s.ID), "the container was removed")})
	}
	return events
}

func (x Resources) pending(update uint64) bool {
	return slices.ContainsFunc(x.Pending, func(u Update) bool { return u.Number == update })
}

func (x *Resources) requested(e ResourcesUpdateRequested) {
	x.Asked = e.Update
	x.Pending = append(x.Pending, Update{Number: e.Update, Change: e.Change, ByPlugin: e.ByPlugin})
}

func (x *Resources) ended(update uint64) {
	x.Pending = slices.DeleteFunc(x.Pending, func(u Update) bool { return u.Number == update })
	if len(x.Pending) == 0 {
		x.Pending = nil
	}
}

// owedUpdates is the oldest update. It is carried out on what the one before it left.
func owedUpdates(s State) []Effect {
	if len(s.Resources.Pending) == 0 {
		return nil
	}
	oldest := s.Resources.Pending[0]
	return []Effect{UpdateRuntime{Spec: s.spec(), Update: oldest.Number, Change: oldest.Change, ByPlugin: oldest.ByPlugin}}
}
