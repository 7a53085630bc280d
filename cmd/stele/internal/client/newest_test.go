package client

import (
	"path/filepath"
	"testing"

	"google.golang.org/grpc"

	"github.com/stele-runtime/stele/cmd/stele/internal/places"
	"github.com/stele-runtime/stele/eventlog"
	"github.com/stele-runtime/stele/eventlog/boltlog"
	adminv1 "github.com/stele-runtime/stele/proto/admin/v1"
	"github.com/stele-runtime/stele/timeline"
)

// whole serves the end of a log with 5000 records.
type whole struct {
	archive
	from uint64
}

func (w *whole) Events(req *adminv1.EventsRequest, to grpc.ServerStreamingServer[adminv1.EventsResponse]) error {
	w.from = req.GetFrom()
	return to.Send(&adminv1.EventsResponse{Record: &adminv1.Record{Sequence: 5000, Stream: "node"}})
}

// TestNewest: of the whole node no more than asked for is read, from a daemon and from a
// log.
func TestNewest(t *testing.T) {
	w := &whole{}
	from, _ := serving(t, w)
	for most, want := range map[uint64]uint64{1: 5000, 100: 4901, 5000: 1, 90_000: 1} {
		if _, now, err := from.Newest(t.Context(), most, timeline.Point{}); err != nil || w.from != want || now.IsZero() {
			t.Errorf("the newest %d are read from %d on (%v), want %d", most, w.from, err, want)
		}
	}
	root := t.TempDir()
	log, err := boltlog.Open(boltlog.Options{Path: filepath.Join(root, places.EventsFile)})
	if err != nil {
		t.Fatal(err)
	}
	for i := range 7 {
		_, err := log.Append(t.Context(), eventlog.Append{Stream: "other", Expected: eventlog.Version(i), Entries: []eventlog.Entry{{Type: "node.X.v1", Schema: 1}}})
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := log.Close(); err != nil {
		t.Fatal(err)
	}
	stopped := Source{Root: root}
	for most, want := range map[uint64]int{1: 1, 3: 3, 7: 7, 100: 7} {
		// Records of unknown streams are counted.
		if line, now, err := stopped.Newest(t.Context(), most, timeline.Point{}); err != nil || line.Skipped != want || !now.Equal(line.Last) {
			t.Errorf("the newest %d: %d, %v", most, line.Skipped, err)
		}
	}
	stopped.Root = filepath.Join(root, "none")
	if _, _, err := stopped.Newest(t.Context(), 1, timeline.Point{}); err == nil {
		t.Error("a log that is not there has records")
	}
}
