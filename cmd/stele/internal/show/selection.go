package show

import (
	"slices"
	"strings"

	"github.com/stele-runtime/stele/actors/codec"
	"github.com/stele-runtime/stele/actors/container"
	"github.com/stele-runtime/stele/actors/id"
	"github.com/stele-runtime/stele/actors/sandbox"
	adminv1 "github.com/stele-runtime/stele/proto/admin/v1"
	"github.com/stele-runtime/stele/timeline"
)

// Selection is what a user wants to read about. It learns from the records, which must
// come in order, which containers belong to a sandbox.
type Selection struct {
	names   []string
	parsed  []timeline.Name
	streams map[string]bool
	pods    map[id.Sandbox]sandbox.Name
}

// Select selects streams by name or by id prefix, and pods and containers by the names that
// `stele inspect` knows; without names, everything.
func Select(names ...string) *Selection {
	s := &Selection{names: names, streams: map[string]bool{}, pods: map[id.Sandbox]sandbox.Name{}}
	for _, n := range names {
		// The names of images' streams are no names of pods.
		if parsed, err := timeline.ParseName(n); err == nil {
			s.parsed = append(s.parsed, parsed)
		}
	}
	return s
}

// Has reports whether a record is selected.
func (s *Selection) Has(r *adminv1.Record) bool {
	if len(s.names) == 0 {
		return true
	}
	stream := r.GetStream()
	if s.streams[stream] {
		return true
	}
	_, name, _ := strings.Cut(stream, "/")
	wanted := slices.ContainsFunc(s.names, func(n string) bool {
		return n == stream || name != "" && strings.HasPrefix(name, n)
	})
	if wanted || s.begins(r) {
		s.streams[stream] = true
		return true
	}
	return false
}

// begins reports whether a record is the first of a pod or container that is wanted by its
// name, or of a container whose sandbox is wanted.
func (s *Selection) begins(r *adminv1.Record) bool {
	switch {
	case strings.HasPrefix(r.GetType(), "sandbox.SandboxRequested."):
		e, err := codec.DecodeSandbox(r.GetType(), r.GetSchema(), r.GetPayload())
		requested, is := e.(sandbox.SandboxRequested)
		if err != nil || !is {
			return false
		}
		s.pods[requested.ID] = requested.Name
		return slices.ContainsFunc(s.parsed, func(n timeline.Name) bool { return n.Pod(requested.ID, requested.Name) })
	case strings.HasPrefix(r.GetType(), "container.ContainerRequested."):
		e, err := codec.DecodeContainer(r.GetType(), r.GetSchema(), r.GetPayload())
		requested, is := e.(container.ContainerRequested)
		if err != nil || !is {
			return false
		}
		return s.streams["sandbox/"+string(requested.Sandbox)] || slices.ContainsFunc(s.parsed, func(n timeline.Name) bool {
			return n.Container(requested.ID, requested.Name, s.pods[requested.Sandbox])
		})
	}
	return false
}
