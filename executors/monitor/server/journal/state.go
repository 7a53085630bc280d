package journal

import (
	"maps"
	"slices"

	"google.golang.org/protobuf/proto"

	pb "github.com/stele-runtime/stele/proto/monitor/v1"
)

func (s *state) apply(record *pb.Record) {
	switch entry := record.Entry.(type) {
	case *pb.Record_Intended:
		s.intents[entry.Intended] = struct{}{}
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
	}
}

func (s *state) exited(exit *pb.Exit) {
	s.lastSeq = max(s.lastSeq, exit.Seq)
	if exit.Seq > s.acked {
		s.exits = append(s.exits, exit)
	}
	if c, ok := s.containers[exit.ContainerId]; ok {
		// Others may be reading c.
		c = proto.CloneOf(c)
		c.Exit = exit
		s.containers[exit.ContainerId] = c
	}
}

func (s *state) list() []*pb.Container {
	var all []*pb.Container
	for _, id := range slices.Sorted(maps.Keys(s.containers)) {
		all = append(all, s.containers[id])
	}
	return all
}

// records returns what leads to the same state from nothing.
func (s *state) records() []*pb.Record {
	records := []*pb.Record{
		{Entry: &pb.Record_Acknowledged{Acknowledged: s.acked}},
		{Entry: &pb.Record_Numbered{Numbered: s.lastSeq}},
	}
	for _, id := range slices.Sorted(maps.Keys(s.intents)) {
		records = append(records, &pb.Record{Entry: &pb.Record_Intended{Intended: id}})
	}
	for _, c := range s.list() {
		records = append(records, &pb.Record{Entry: &pb.Record_Created{Created: c}})
	}
	for _, exit := range s.exits {
		records = append(records, &pb.Record{Entry: &pb.Record_Exited{Exited: exit}})
	}
	return records
}
