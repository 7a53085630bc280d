package registry

import (
	"context"
	"errors"
	"fmt"
	"time"

	imagetypes "go.podman.io/image/v5/types"
)

// everyRead makes the library report each read from the network: the meter must know when
// all bytes of a layer have arrived, as unpacking is no stall.
const everyRead = time.Nanosecond

// Why a meter ends a copy.
var (
	errNothingCame = errors.New("nothing came")
	errTooMuchCame = errors.New("more comes than the manifest says")
)

// moreThanSaid is how many bytes of a part may arrive: some more than its size, as pieces
// of a layer may come twice. The library checks size and digest only when all bytes are
// there: an endless part would fill the disk first.
func moreThanSaid(size int64) uint64 { return uint64(size) + 1<<20 }

// A meter receives the library's progress events during one attempt to copy an image. It
// counts bytes, passes events on, and ends the attempt when nothing arrives any more, or
// too much. It has one goroutine, from startMeter to stop.
type meter struct {
	meterOptions

	events chan imagetypes.ProgressProperties // the library sends to it
	found  chan contents
	quit   chan struct{}
	total  chan uint64
}

type meterOptions struct {
	reporter *reporter
	// patience is how long to wait for the next byte; 0 means for ever.
	patience time.Duration
	giveUp   context.CancelCauseFunc
	// arrived is called when a part is complete and the library still works.
	arrived func()
}

func startMeter(options meterOptions) *meter {
	m := &meter{
		meterOptions: options,
		events:       make(chan imagetypes.ProgressProperties),
		found:        make(chan contents),
		quit:         make(chan struct{}),
		total:        make(chan uint64),
	}
	go m.run()
	return m
}

// stop ends the meter, after the library has returned, and returns the number of bytes that
// were fetched.
func (m *meter) stop() uint64 {
	close(m.quit)
	return <-m.total
}

func (m *meter) run() {
	var (
		parts   = parts{}
		layers  map[string]bool
		expired <-chan time.Time
		timer   = time.NewTimer(m.patience)
	)
	defer timer.Stop()
	if m.patience > 0 {
		expired = timer.C
	}
	for {
		select {
		case found := <-m.found:
			layers = found.distinct()
			m.reporter.pass(found.resolved)
		case event := <-m.events:
			news := parts.take(event)
			if news != nil && layers[event.Artifact.Digest.String()] {
				m.reporter.pass(news)
			}
			if digest := event.Artifact.Digest.String(); parts[digest].tooMuch() {
				m.giveUp(fmt.Errorf("%w: %s has %d bytes", errTooMuchCame, digest, parts[digest].size))
			}
			if event.Event == imagetypes.ProgressEventDone {
				m.arrived()
			}
		case <-expired:
			if parts.awaited() {
				m.giveUp(errNothingCame)
			}
		case <-m.quit:
			m.total <- parts.fetched()
			return
		}
		timer.Reset(m.patience)
	}
}

// parts are the state of an image's parts, its layers and its configuration, by digest.
type parts map[string]*part

type part struct {
	offset  uint64
	size    int64 // -1 if it isn't known
	done    bool
	present bool
}

// take turns an event of the library into an Event; nil if there is none to report.
func (p parts) take(event imagetypes.ProgressProperties) Event {
	digest := event.Artifact.Digest.String()
	seen := p[digest]
	if seen == nil {
		seen = &part{size: event.Artifact.Size}
		p[digest] = seen
	}
	seen.offset = max(seen.offset, event.Offset)
	switch event.Event {
	case imagetypes.ProgressEventRead:
		return LayerProgress{Digest: digest, Offset: int64(seen.offset), Size: seen.size}
	case imagetypes.ProgressEventDone, imagetypes.ProgressEventSkipped:
		seen.done, seen.present = true, event.Event == imagetypes.ProgressEventSkipped
		return LayerDone{Digest: digest, Bytes: int64(seen.offset), Present: seen.present}
	}
	return nil
}

// awaited reports whether it is the registry's turn: a part is incomplete, or nothing has
// arrived at all. A complete part is being unpacked, which takes as long as it takes.
func (p parts) awaited() bool {
	for _, part := range p {
		if !part.done && (part.size < 0 || part.offset < uint64(part.size)) {
			return true
		}
	}
	return len(p) == 0
}

func (p *part) tooMuch() bool {
	return p.size >= 0 && p.offset > uint64(p.size)+moreThanSaid(p.size)
}

func (p parts) fetched() uint64 {
	var total uint64
	for _, part := range p {
		total += part.offset
	}
	return total
}
