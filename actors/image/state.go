package image

import (
	"maps"
	"slices"
	"time"

	"github.com/stele-runtime/stele/actors/fault"
	"github.com/stele-runtime/stele/actors/id"
)

// State is everything that the decisions about a reference need.
//
//	        Pull                 done
//	idle ──────────► pulling ───────────► idle      (any number at once, one for
//	  │                                              each set of credentials)
//	  │     Load                 done
//	  ├────────────► loading ───────────► idle      (the reference is an archive)
//	  │    Remove                done
//	  └────────────► removing ──────────► idle
type State struct {
	// Ref is the reference as requested.
	Ref string
	// Pulls holds the pulls under way.
	Pulls map[id.Pull]Pull `json:",omitempty"`
	// Loads holds the loads under way, of the archive Ref.
	Loads map[id.Load]Load `json:",omitempty"`
	// Removing: the reference is owed its removal from the store.
	Removing bool `json:",omitempty"`
	// Last is how the last pull ended, LastLoad how the last load ended.
	Last     Result     `json:",omitzero"`
	LastLoad LoadResult `json:",omitzero"`
}

// Load is a load under way.
type Load struct {
	// Name is the name to give to the image, if it is not empty.
	Name        string `json:",omitempty"`
	RequestedAt time.Time
}

// Loaded is an image that was loaded.
type Loaded struct {
	// Name is its full name in the store.
	Name string
	// ImageID is its id in the store, Digest that of its manifest in the archive.
	ImageID, Digest string
}

// LoadResult is how a load ended.
type LoadResult struct {
	Load   id.Load
	Images []Loaded
	Fault  fault.Fault `json:",omitzero"`
}

// Pull is a pull under way.
type Pull struct {
	RequestedAt time.Time
	// SandboxConfig is the CRI's PodSandboxConfig that came with the request,
	// protobuf-encoded; it may be empty.
	SandboxConfig []byte `json:",omitempty"`
	// Resolved is what it fetches, once known.
	Resolved Resolved `json:",omitzero"`
	// Fetched is how many layers arrived, Bytes how much was transferred for them.
	Fetched int    `json:",omitempty"`
	Bytes   uint64 `json:",omitempty"`
}

// Resolved is what a reference stands for.
type Resolved struct {
	// Name is the full name of the image that is pulled.
	Name string
	// Digest is the digest of what the registry has under the name, Manifest that of
	// this platform's manifest; they differ if Digest is an index's.
	Digest, Manifest string
	// Layers is their number, Bytes their size as transferred, -1 if the manifest does
	// not say.
	Layers int
	Bytes  int64
}

// Layer is a layer that arrived.
type Layer struct {
	Digest string
	// Bytes is how much was transferred.
	Bytes uint64
	// Present: the store had it already, and nothing was transferred.
	Present bool
}

// Result is how a pull ended.
type Result struct {
	Pull id.Pull
	// ImageID is the id of the image in the store.
	ImageID string
	// Digest is the digest of the manifest that the registry served.
	Digest string
	// Bytes is how much was transferred.
	Bytes uint64
	Fault fault.Fault `json:",omitzero"`
}

// Ended reports whether nothing is under way.
func Ended(s State) bool { return len(s.Pulls) == 0 && len(s.Loads) == 0 && !s.Removing }

// begin is the state in which something new is requested. What was before an idle
// moment has no part in it, so that an idle reference can be forgotten.
func (s State) begin(ref string) State {
	if Ended(s) {
		s = State{}
	}
	s.Ref = ref
	return s
}

func (s State) copied() State {
	s.Pulls, s.Loads = maps.Clone(s.Pulls), maps.Clone(s.Loads)
	return s
}

func (s State) pullIDs() []id.Pull { return slices.Sorted(maps.Keys(s.Pulls)) }
func (s State) loadIDs() []id.Load { return slices.Sorted(maps.Keys(s.Loads)) }
