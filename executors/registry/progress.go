package registry

import "time"

// progressInterval is how often the arrival of one layer is reported.
const progressInterval = 500 * time.Millisecond

// Event is news of an image that is being pulled: Resolved, LayerProgress or
// LayerDone.
type Event interface{ event() }

// Resolved says that the image was found, and what there is to fetch. It comes once,
// before all other news; only if a retry finds that the name stands for another
// image by then, it comes again.
type Resolved struct {
	// Name is the full name that is being pulled.
	Name string
	// Digest is the digest of what the registry has under the name; Manifest that of
	// this platform's manifest, which is another one if Digest is an index's.
	Digest, Manifest string
	// Layers is how many layers the image has, Bytes how big they are, as they are
	// transferred; -1 if the manifest doesn't say (schema 1).
	Layers int
	Bytes  int64
}

// LayerProgress says how much of a layer has arrived.
type LayerProgress struct {
	// Digest names the layer.
	Digest string
	// Offset is how many bytes of it have arrived, Size how many there are; Size is
	// -1 if the manifest doesn't say.
	Offset, Size int64
}

// LayerDone says that a layer is in the store, or waits for a lower one to be put
// there. It comes once for each layer that is another than those before.
type LayerDone struct {
	Digest string
	// Bytes is how much was fetched of it.
	Bytes int64
	// Present says that it was in the store before.
	Present bool
}

func (Resolved) event()      {}
func (LayerProgress) event() {}
func (LayerDone) event()     {}

// reporter passes the news of one pull on, and sees to it that a retry says nothing
// twice. Only one goroutine may use it at a time.
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
