package client

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/stele-runtime/stele/cmd/stele/internal/bundle"
	adminv1 "github.com/stele-runtime/stele/proto/admin/v1"
)

// thinned is a daemon whose log lacks records between its two.
type thinned struct {
	adminv1.UnimplementedAdminServiceServer
	records []*adminv1.Record
}

func (d *thinned) Events(_ *adminv1.EventsRequest, to grpc.ServerStreamingServer[adminv1.EventsResponse]) error {
	gap := &adminv1.Gap{
		First: 2, Last: 4, Records: 3, Rules: map[string]uint64{"settled": 3},
		Since: timestamppb.New(noon), Until: timestamppb.New(noon),
	}
	for _, e := range []*adminv1.EventsResponse{{Record: d.records[0]}, {Gap: gap}, {Record: d.records[len(d.records)-1]}} {
		if err := to.Send(e); err != nil {
			return err
		}
	}
	return nil
}

// TestExportOfGaps: a file says what was not in the log any more when it was made, to whoever reads
// it later.
func TestExportOfGaps(t *testing.T) {
	const want = "3 records were dropped at 4 May 12:00:00 UTC: of what was over and leaves no trace"
	from, warnings := serving(t, &thinned{records: twoPods(t)})
	var got []uint64
	_, dropped, err := from.Export(t.Context(), Part{}, collect(&got, 0, nil))
	if err != nil || dropped.String() != want || len(got) != 2 || strings.Count(warnings.String(), want) != 1 {
		t.Errorf("%v, %v, %v; warned of %q", got, dropped, err, warnings)
	}
	path := filepath.Join(t.TempDir(), "x.stele")
	file, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	w, err := bundle.NewWriter(file)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Close(bundle.Manifest{Dropped: dropped.String()}); err != nil {
		t.Fatal(err)
	}
	said := &strings.Builder{}
	read := &Source{Bundle: path, Warnings: said}
	if err := read.Events(t.Context(), 1, false, collect(new([]uint64), 0, nil)); err != nil || !strings.Contains(said.String(), want) {
		t.Errorf("%v; reading it says %q", err, said)
	}
}
