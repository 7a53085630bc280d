package client

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"

	"google.golang.org/grpc"

	"github.com/stele-runtime/stele/actors/codec"
	"github.com/stele-runtime/stele/actors/container"
	"github.com/stele-runtime/stele/actors/id"
	"github.com/stele-runtime/stele/actors/sandbox"

	adminv1 "github.com/stele-runtime/stele/proto/admin/v1"
	"github.com/stele-runtime/stele/timeline"
)

// archive serves streams; the whole log it only gives from its end.
type archive struct {
	adminv1.UnimplementedAdminServiceServer
	records []*adminv1.Record
	// asked are the streams of every call.
	asked []string
}

func (a *archive) add(t *testing.T, stream string, e codec.Encoded, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	a.records = append(a.records, &adminv1.Record{Sequence: uint64(len(a.records) + 1), Stream: stream, Type: e.Type, Schema: e.Schema, Payload: e.Payload})
}

func (a *archive) Inspect(_ context.Context, req *adminv1.InspectRequest) (*adminv1.InspectResponse, error) {
	if req.GetId() != "shop/web/app" {
		return nil, errors.New("nothing has that name")
	}
	return &adminv1.InspectResponse{Entities: []*adminv1.Entity{{Stream: "container/c2"}}}, nil
}

func (a *archive) LogStats(context.Context, *adminv1.LogStatsRequest) (*adminv1.LogStatsResponse, error) {
	return &adminv1.LogStatsResponse{LastSequence: 5000}, nil
}

func (a *archive) Events(req *adminv1.EventsRequest, to grpc.ServerStreamingServer[adminv1.EventsResponse]) error {
	if len(req.GetStreams()) == 0 && req.GetFrom() != 3000 {
		return errors.New("the whole log was asked for")
	}
	a.asked = append(a.asked, req.GetStreams()...)
	for _, r := range a.records {
		if slices.Contains(req.GetStreams(), r.GetStream()) {
			if err := to.Send(&adminv1.EventsResponse{Record: r}); err != nil {
				return err
			}
		}
	}
	return nil
}

// TestTimeline: of a container its pod is read, too, its siblings and its image, each once,
// and nothing else.
func TestTimeline(t *testing.T) {
	a := &archive{}
	requested := func(id container.Name, c string, image string) {
		e, err := codec.EncodeContainer(container.ContainerRequested{Name: id, Sandbox: "p", Image: image})
		a.add(t, "container/"+c, e, err)
	}
	e, err := codec.EncodeSandbox(sandbox.SandboxRequested{ID: "p", Name: sandbox.Name{Namespace: "shop", Name: "web"}})
	a.add(t, "sandbox/p", e, err)
	e, err = codec.EncodeSandbox(sandbox.ContainerAdded{Container: "c1"})
	a.add(t, "sandbox/p", e, err)
	requested(container.Name{Name: "app"}, "c1", "no name of a stream")
	e, err = codec.EncodeSandbox(sandbox.ContainerAdded{Container: "c2"})
	a.add(t, "sandbox/p", e, err)
	requested(container.Name{Name: "app", Attempt: 1}, "c2", "lab.test/app")
	from, _ := serving(t, a)
	name, err := timeline.ParseName("shop/web/app")
	if err != nil {
		t.Fatal(err)
	}
	line, _, err := from.Timeline(t.Context(), Query{Names: []timeline.Name{name}})
	if err != nil {
		t.Fatal(err)
	}
	found, err := line.Find(name)
	if err != nil || found.Container == nil || found.Container.State.ID != "c2" || len(line.Containers(found.Pod)) != 2 {
		t.Errorf("found %+v, %v", found, err)
	}
	slices.Sort(a.asked)
	if want := []string{"container/c1", "container/c2", "image/" + id.ImageKey("no name of a stream"), "image/" + id.ImageKey("lab.test/app"), "node", "sandbox/p"}; !slices.Equal(a.asked, want) {
		t.Errorf("read were %q, want %q", a.asked, want)
	}
	if name, err = timeline.ParseName("other"); err != nil {
		t.Fatal(err)
	}
	if _, _, err := from.Timeline(t.Context(), Query{Names: []timeline.Name{name}}); err == nil || !strings.Contains(err.Error(), "nothing has that name") {
		t.Errorf("an unknown name: %v", err)
	}
}
