package journal

import (
	"maps"
	"slices"

	"google.golang.org/protobuf/proto"

	pb "github.com/stele-runtime/stele/proto/monitor/v1"
)

// state is the sum of the records.
type state struct {
	// intents have the runtime's process once it was started.
	intents    map[string]*pb.Started
	containers map[string]*pb.Container
	execs      map[string]*pb.Started
	// exits are the unacknowledged ones, by number.
	exits   []*pb.Exit
	lastSeq uint64
	acked   uint64
}

func newState() state {
	return state{
		intents:    map[string]*pb.Started{},
		containers: map[string]*pb.Container{},
		execs:      map[string]*pb.Started{},
	}
}

func (s *state) apply(record *pb.Record) {
	switch entry := record.Entry.(type) {
	case *pb.Record_Intended:
		s.intents[entry.Intended] = &pb.Started{Id: entry.Intended}
	case *pb.Record_Creating:
		s.intents[entry.Creating.Id] = entry.Creating
	case *pb.Record_Abandoned:
		delete(s.intents, entry.Abandoned)
	case *pb.Record_Created:
		delete(s.intents, entry.Created.Id)
		s.containers[entry.Created.Id] = entry.Created
	case *pb.Record_Exited:
		s.exited(entry.Exited)
	case *pb.Record_Acknowledged:
		s.acked = max(s.acked, entry.Acknowledged)
		s.lastSeq = max(s.lastSeq, s.acked)
		s.exits = slices.DeleteFunc(s.exits, func(e *pb.Exit) bool { return e.Seq <= s.acked })
	case *pb.Record_Forgotten:
		delete(s.containers, entry.Forgotten)
	case *pb.Record_Numbered:
		s.lastSeq = max(s.lastSeq, entry.Numbered)
	case *pb.Record_ExecStarted:
		s.execs[entry.ExecStarted.Id] = entry.ExecStarted
	case *pb.Record_ExecEnded:
		delete(s.execs, entry.ExecEnded)
	case *pb.Record_Lost:
		s.change(entry.Lost.ContainerId, func(c *pb.Container) { c.LogLost, c.LogError = entry.Lost.Bytes, entry.Lost.Reason })
	case *pb.Record_Blocked:
		s.change(entry.Blocked.ContainerId, func(c *pb.Container) { c.Blocked = entry.Blocked })
	case *pb.Record_StdinClosed:
		s.change(entry.StdinClosed, func(c *pb.Container) { c.StdinClosed = true })
	}
}

func (s *state) exited(exit *pb.Exit) {
	s.lastSeq = max(s.lastSeq, exit.Seq)
	if exit.Seq > s.acked {
		s.exits = append(s.exits, exit)
	}
	s.change(exit.ContainerId, func(c *pb.Container) {
		// The exit of an earlier container with this id does not concern this one.
		if exit.Process == nil || proto.Equal(exit.Process, c.Process) {
			c.Exit = exit
		}
	})
}

// change replaces a container by a changed copy, since the old may be in use.
func (s *state) change(id string, f func(*pb.Container)) {
	if c, ok := s.containers[id]; ok {
		c = proto.CloneOf(c)
		f(c)
		s.containers[id] = c
	}
}

// sorted returns the values of a map by their keys.
func sorted[V any](m map[string]V) []V {
	var all []V
	for _, key := range slices.Sorted(maps.Keys(m)) {
		all = append(all, m[key])
	}
	return all
}

// records returns records that add up to the state.
func (s *state) records() []*pb.Record {
	records := []*pb.Record{
		{Entry: &pb.Record_Acknowledged{Acknowledged: s.acked}},
		{Entry: &pb.Record_Numbered{Numbered: s.lastSeq}},
	}
	for _, runtime := range sorted(s.intents) {
		records = append(records, &pb.Record{Entry: &pb.Record_Creating{Creating: runtime}})
	}
	for _, c := range sorted(s.containers) {
		records = append(records, &pb.Record{Entry: &pb.Record_Created{Created: c}})
	}
	for _, exec := range sorted(s.execs) {
		records = append(records, &pb.Record{Entry: &pb.Record_ExecStarted{ExecStarted: exec}})
	}
	for _, exit := range s.exits {
		records = append(records, &pb.Record{Entry: &pb.Record_Exited{Exited: exit}})
	}
	return records
}
