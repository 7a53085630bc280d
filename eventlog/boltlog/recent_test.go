package boltlog

import (
	"testing"

	"github.com/stele-runtime/stele/eventlog"
)

// TestRecentIsSetAtOnce: readers miss nothing while the journal is read again.
func TestRecentIsSetAtOnce(t *testing.T) {
	records := []eventlog.Record{{Sequence: 7, Stream: "s", Version: 1}}
	var r recent
	r.add(records)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for range 20_000 {
			r.set(records, nil)
		}
	}()
	for looking := true; looking; {
		select {
		case <-done:
			looking = false
		default:
		}
		if len(r.all()) != 1 || r.head("s") != 1 {
			t.Fatal("the record was gone for a moment")
		}
	}
	<-done
}
