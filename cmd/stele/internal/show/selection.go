package show

import (
	"slices"
	"strings"

	"github.com/stele-runtime/stele/actors/codec"
	"github.com/stele-runtime/stele/actors/container"
	adminv1 "github.com/stele-runtime/stele/proto/admin/v1"
)

// Selection is what a user wants to read about. It learns from the records, which must
// come in order, which containers belong to a sandbox.
type Selection struct {
	names   []string
	streams map[string]bool
}

// Select selects streams by name or by id prefix; without names, everything.
func Select(names ...string) *Selection {
	return &Selection{names: names, streams: map[string]bool{}}
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
	if wanted || s.streams[sandboxOf(r)] {
		s.streams[stream] = true
		return true
	}
	return false
}

// sandboxOf returns the stream of the sandbox that a container's first event names;
// empty for other events.
func sandboxOf(r *adminv1.Record) string {
	if !strings.HasPrefix(r.GetType(), "container.ContainerRequested.") {
		return ""
	}
	e, err := codec.DecodeContainer(r.GetType(), r.GetSchema(), r.GetPayload())
	if err != nil {
		return ""
	}
	requested, _ := e.(container.ContainerRequested)
	return "sandbox/" + string(requested.Sandbox)
}
