package projections

import (
	"iter"
	"strings"
	"sync"

	"github.com/stele-runtime/stele/actors/codec"
	"github.com/stele-runtime/stele/eventlog"
)

// incoming is a record, with its event if that was decoded ahead.
type incoming struct {
	eventlog.Record
	event any // nil: it has yet to be decoded
}

// eventOf is the record's event.
func eventOf[E any](r incoming, decode func(string, uint32, []byte) (E, error)) (E, error) {
	if event, is := r.event.(E); is {
		return event, nil
	}
	return decode(r.Type, r.Schema, r.Payload)
}

const (
	// aheadBatch is how many records are handed over together, aheadBatches how many of these wait.
	aheadBatch, aheadBatches = 64, 4
)

// arrived is an incoming record, or what is in its place.
type arrived struct {
	incoming
	err error
}

// ahead reads and decodes records in a goroutine of its own, which ends with the iteration.
func ahead(records iter.Seq2[eventlog.Record, error]) iter.Seq2[incoming, error] {
	return func(yield func(incoming, error) bool) {
		batches, left := make(chan []arrived, aheadBatches), make(chan struct{})
		var reading sync.WaitGroup
		defer reading.Wait()
		defer close(left)
		reading.Go(func() {
			defer close(batches)
			batch := make([]arrived, 0, aheadBatch)
			for record, err := range records {
				batch = append(batch, arrived{incoming{record, nil}, err})
				if err == nil {
					batch[len(batch)-1].event = decoded(&record)
				}
				if len(batch) == aheadBatch {
					select {
					case batches <- batch:
					case <-left:
						return
					}
					batch = make([]arrived, 0, aheadBatch)
				}
			}
			select {
			case batches <- batch:
			case <-left:
			}
		})
		for batch := range batches {
			for _, a := range batch {
				if !yield(a.incoming, a.err) {
					return
				}
			}
		}
	}
}

// decoded is the event of a record of a sandbox or a container, which most are. It is nil if it
// cannot be decoded: who folds the record finds out why.
func decoded(r *eventlog.Record) (event any) {
	defer func() {
		if recover() != nil {
			event = nil
		}
	}()
	var err error
	switch kind, _, _ := strings.Cut(string(r.Stream), "/"); kind {
	case "sandbox":
		event, err = codec.DecodeSandbox(r.Type, r.Schema, r.Payload)
	case "container":
		event, err = codec.DecodeContainer(r.Type, r.Schema, r.Payload)
	}
	if err != nil {
		return nil
	}
	return event
}
