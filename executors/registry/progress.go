package registry

import "time"

// progressInterval is how often the progress of one layer is reported at most.
const progressInterval = 500 * time.Millisecond

// Event is an event of a pull: Resolved, LayerProgress or LayerDone.
type Event interface{ event() }

// Resolved says that the image was found, and what there is to fetch. It comes once, before
// all other events; again only if a retry finds another image under the name.
type Resolved struct {
	// Name is the full name that is being pulled.
	Name string
	// Digest is that of the name's manifest or index; Manifest that of this platform's
	// manifest, which differs if Digest is an index's.
	Digest, Manifest string
	// Layers is the number of layers, Bytes their total size as transferred; -1 if the
	// manifest doesn't say (schema 1).
	Layers int
	Bytes  int64
}

// LayerProgress is how much of a layer has arrived.
type LayerProgress struct {
	// Digest names the layer.
	Digest string
	// Offset is how many bytes have arrived, Size how many there are; -1 if the manifest
	// doesn't say.
	Offset, Size int64
}

// LayerDone says that a layer is in the store, or waits for a lower one. It comes once for
// each distinct layer.
type LayerDone struct {
	Digest string
	// Bytes is how much was fetched of it.
	Bytes int64
	// Present says that it was already in the store.
	Present bool
}

func (Resolved) event()      {}
func (LayerProgress) event() {}
func (LayerDone) event()     {}

// reporter passes the events of one pull on, each once, whatever is retried. Only one
// goroutine may use it at a time.
type reporter struct {
	report   func(Event)
	resolved Resolved
	done     map[string]bool
	shown    map[string]time.Time // when progress of a layer was last reported
}

func newReporter(report func(Event)) *reporter {
	if report == nil {
		report = func(Event) {}
	}
	return &reporter{report: report, done: map[string]bool{}, shown: map[string]time.Time{}}
}

func (r *reporter) pass(event Event) {
	switch event := event.(type) {
	case Resolved:
		if event == r.resolved {
			return
		}
		r.resolved = event
	case LayerProgress:
		if r.done[event.Digest] || time.Since(r.shown[event.Digest]) < progressInterval {
			return
		}
		r.shown[event.Digest] = time.Now()
	case LayerDone:
		if r.done[event.Digest] {
			return
		}
		r.done[event.Digest] = true
	}
	r.report(event)
}
