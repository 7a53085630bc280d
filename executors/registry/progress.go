package registry

import (
	"time"

	imagetypes "go.podman.io/image/v5/types"
)

// progressInterval is how often the library reports about a part that is arriving.
const progressInterval = 500 * time.Millisecond

// Progress is news of one part (a layer or the configuration) of an image that is
// being pulled.
type Progress struct {
	// Digest names the part.
	Digest string
	// Offset is how many bytes of it have arrived, Size how many there are; Size is
	// -1 if the manifest doesn't say.
	Offset uint64
	Size   int64
	// Done says that all of it has arrived; Present, that it was in the store.
	Done, Present bool
}

// A meter receives the library's progress events, counts bytes and passes the news
// on. It has one goroutine, from startMeter to stop.
type meter struct {
	events chan imagetypes.ProgressProperties
	quit   chan struct{}
	total  chan uint64
}

func startMeter(report func(Progress)) *meter {
	m := &meter{
		events: make(chan imagetypes.ProgressProperties),
		quit:   make(chan struct{}),
		total:  make(chan uint64),
	}
	go m.run(report)
	return m
}

// stop ends the meter, when the library has returned and so sends no more, and gives
// the number of bytes that were fetched.
func (m *meter) stop() uint64 {
	close(m.quit)
	return <-m.total
}

func (m *meter) run(report func(Progress)) {
	fetched := map[string]uint64{}
	for {
		select {
		case event := <-m.events:
			news := Progress{
				Digest:  event.Artifact.Digest.String(),
				Offset:  event.Offset,
				Size:    event.Artifact.Size,
				Done:    event.Event == imagetypes.ProgressEventDone || event.Event == imagetypes.ProgressEventSkipped,
				Present: event.Event == imagetypes.ProgressEventSkipped,
			}
			if !news.Present {
				fetched[news.Digest] = max(fetched[news.Digest], news.Offset)
			}
			if report != nil {
				report(news)
			}
		case <-m.quit:
			var total uint64
			for _, bytes := range fetched {
				total += bytes
			}
			m.total <- total
			return
		}
	}
}
