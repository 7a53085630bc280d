package admin

import (
	"context"
	"errors"
	"iter"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/stele-runtime/stele/actors/codec"
	"github.com/stele-runtime/stele/actors/container"
	"github.com/stele-runtime/stele/actors/entity"
	"github.com/stele-runtime/stele/actors/fault"
	"github.com/stele-runtime/stele/actors/id"
	"github.com/stele-runtime/stele/actors/image"
	"github.com/stele-runtime/stele/actors/sandbox"
	"github.com/stele-runtime/stele/cmd/stele/internal/history"
	"github.com/stele-runtime/stele/eventlog"
	"github.com/stele-runtime/stele/eventlog/boltlog"
	"github.com/stele-runtime/stele/eventlog/memlog"
	"github.com/stele-runtime/stele/executors/handover"
	"github.com/stele-runtime/stele/executors/registry"
	"github.com/stele-runtime/stele/projections"
	"github.com/stele-runtime/stele/projections/names"
	adminv1 "github.com/stele-runtime/stele/proto/admin/v1"
)

var epoch = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

// log is a log in memory with figures.
type log struct {
	*memlog.Log
	// sought: it was read from its beginning.
	sought *bool
}

func (l log) Read(ctx context.Context, from eventlog.Sequence) iter.Seq2[eventlog.Record, error] {
	*l.sought = *l.sought || from <= 1
	return l.Log.Read(ctx, from)
}

func (log) Stats() boltlog.Stats {
	return boltlog.Stats{Records: 5, Commits: 2, CommitTime: time.Second, Appends: 4, WaitTime: time.Minute}
}

// views are what a test puts into them.
type views struct {
	sandboxes  []*projections.Sandbox
	containers []*projections.Container
	pulls      []image.State
}

func (v *views) Sandboxes() []*projections.Sandbox    { return v.sandboxes }
func (v *views) Containers() []*projections.Container { return v.containers }
func (v *views) Pulls() []image.State                 { return v.pulls }
func (v *views) All() (eventlog.Sequence, []*projections.Sandbox, []*projections.Container) {
	return 7, v.sandboxes, v.containers
}

func (v *views) PassedOver() uint64 { return 3 }

// clerks are actors, a registry, transfers and a monitor.
type clerks struct {
	err     error
	asked   image.Command
	context context.Context
}

func (c *clerks) Image(ctx context.Context, _ string, command image.Command, _ func(image.State, image.Event) (bool, error)) (image.State, error) {
	c.asked, c.context = command, ctx
	return image.State{LastLoad: image.LoadResult{Images: []image.Loaded{{Name: "localhost/a:1", ImageID: "1", Digest: "sha256:1"}}}}, c.err
}

func (c *clerks) Status() history.BackupStatus {
	return history.BackupStatus{Paths: []string{"/b"}, SetAside: []string{"/damaged"}, Problem: "no room"}
}

func (c *clerks) Held() time.Duration { return time.Hour }

func (c *clerks) Inspect(_ context.Context, r registry.InspectRequest) (registry.Inspection, error) {
	if r.Image == "docker://lab.test/none" {
		return registry.Inspection{}, &registry.Error{Op: "inspect", Ref: r.Image, Kind: registry.ErrNotFound}
	}
	return registry.Inspection{}, nil
}

func (c *clerks) Transfers() []handover.Transfer {
	return []handover.Transfer{{Pull: "p", Layers: []handover.LayerTransfer{{Digest: "sha256:2", Offset: 3, Size: 4}}}}
}

func (c *clerks) Upgrade(context.Context) error { return c.err }

// desk is the service with all that is around it.
type desk struct {
	*Service
	t      *testing.T
	log    *memlog.Log
	views  *views
	clerks *clerks
	sought bool
}

func newDesk(t *testing.T) *desk {
	d := &desk{t: t, log: memlog.New(memlog.Options{}), views: &views{}, clerks: &clerks{}}
	t.Cleanup(func() { _ = d.log.Close() })
	d.Service = New(Parts{Log: log{d.log, &d.sought}, Views: d.views, Names: names.New(log{d.log, &d.sought}, slog.New(slog.DiscardHandler)), Actors: d.clerks, Registry: d.clerks, Transfers: d.clerks, Monitor: d.clerks, Backups: d.clerks})
	return d
}

// live adds a sandbox and its containers to what has not ended.
func (d *desk) live(pod, name string, containers ...string) {
	d.views.sandboxes = append(d.views.sandboxes, &projections.Sandbox{
		Restored: entity.Restored[sandbox.State]{State: sandbox.State{ID: id.Sandbox(pod), Name: sandbox.Name{Name: name}, Phase: sandbox.Removing, Config: []byte("secret")}},
	})
	for _, c := range containers {
		d.views.containers = append(d.views.containers, &projections.Container{
			Restored: entity.Restored[container.State]{State: container.State{ID: id.Container(c), Sandbox: id.Sandbox(pod), Phase: container.Running}},
		})
	}
}

// append adds events to the log.
func (d *desk) append(stream string, encoded ...codec.Encoded) {
	d.t.Helper()
	for i, e := range encoded {
		_, err := d.log.Append(d.t.Context(), eventlog.Append{Stream: eventlog.Stream(stream), Expected: eventlog.Version(i),
			Entries: []eventlog.Entry{{Type: e.Type, Schema: e.Schema, Payload: e.Payload}}})
		if err != nil {
			d.t.Fatal(err)
		}
	}
}

// ended adds a pod to the log that has ended, with a container.
func (d *desk) ended(pod, name, web string) {
	d.t.Helper()
	var pods, webs []codec.Encoded
	for _, e := range []sandbox.Event{sandbox.SandboxRequested{ID: id.Sandbox(pod), Name: sandbox.Name{Name: name}, HostNetwork: true, At: epoch}, sandbox.SandboxRemoved{}} {
		encoded, err := codec.EncodeSandbox(e)
		if err != nil {
			d.t.Fatal(err)
		}
		pods = append(pods, encoded)
	}
	config, err := proto.Marshal(&runtimeapi.PodSandboxConfig{Metadata: &runtimeapi.PodSandboxMetadata{Name: name}})
	if err != nil {
		d.t.Fatal(err)
	}
	encoded, err := codec.EncodeContainer(container.ContainerRequested{ID: id.Container(web), Sandbox: id.Sandbox(pod), SandboxConfig: config, At: epoch})
	if err != nil {
		d.t.Fatal(err)
	}
	d.append("sandbox/"+pod, pods...)
	d.append("container/"+web, append(webs, encoded)...)
}

func (d *desk) inspect(name string) (streams []string, err error) {
	answer, err := d.Inspect(d.t.Context(), &adminv1.InspectRequest{Id: name})
	for _, e := range answer.GetEntities() {
		streams = append(streams, e.GetStream())
	}
	return streams, err
}

// A name is an id prefix or a pod's name. Nothing is listed twice.
func TestInspect(t *testing.T) {
	d := newDesk(t)
	d.live("aa1", "shop", "aa3", "b1")
	d.live("aa2", "shop", "aa4")
	d.live("c1", "other")
	d.ended("e1", "past", "f1")
	for name, want := range map[string]string{
		"aa1":  "sandbox/aa1 container/aa3 container/b1",
		"aa":   "sandbox/aa1 container/aa3 container/b1 sandbox/aa2 container/aa4",
		"shop": "sandbox/aa1 container/aa3 container/b1 sandbox/aa2 container/aa4",
		"aa3":  "container/aa3",
		"c":    "sandbox/c1",
		"e1":   "sandbox/e1 container/f1",
		"past": "sandbox/e1 container/f1",
		"f":    "container/f1",
	} {
		if got, err := d.inspect(name); err != nil || strings.Join(got, " ") != want {
			t.Errorf("%s means %v, %v; want %s", name, got, err, want)
		}
	}
	for name, kind := range map[string]fault.Kind{"": fault.Invalid, "x": fault.NotFound} {
		if _, err := d.inspect(name); fault.KindOf(err) != kind {
			t.Errorf("%q: %v", name, err)
		}
	}
	// The state is shown with what it owes, and without configurations.
	answer, err := d.Inspect(t.Context(), &adminv1.InspectRequest{Id: "c1"})
	if err != nil {
		t.Fatal(err)
	}
	if e := answer.GetEntities()[0]; len(e.GetOwed()) == 0 || !strings.Contains(e.GetStateJson(), `"Phase":"removing"`) || strings.Contains(e.GetStateJson(), `"Config":`) {
		t.Errorf("the entity is %v", e)
	}
}

// What the index has is found without reading the whole log, and is the same.
func TestInspectRemembered(t *testing.T) {
	d := newDesk(t)
	d.ended("e1", "past", "f1")
	d.ended("e2", "past", "f2")
	removed, err := codec.EncodeContainer(container.ContainerRemoved{})
	if err != nil {
		t.Fatal(err)
	}
	for _, stream := range []eventlog.Stream{"container/f1", "container/f2"} {
		_, err := d.log.Append(t.Context(), eventlog.Append{Stream: stream, Expected: 1,
			Entries: []eventlog.Entry{{Type: removed.Type, Schema: removed.Schema, Payload: removed.Payload}}})
		if err != nil {
			t.Fatal(err)
		}
	}
	before, err := d.inspect("past")
	if err != nil || !d.sought {
		t.Fatal(before, err)
	}
	if err := names.New(d.log, slog.New(slog.DiscardHandler)).Follow(t.Context()); err != nil {
		t.Fatal(err)
	}
	d.sought = false
	for name, want := range map[string]string{
		"past": strings.Join(before, " "), "e": strings.Join(before, " "),
		"e1": "sandbox/e1 container/f1", "f2": "container/f2",
	} {
		if got, err := d.inspect(name); err != nil || strings.Join(got, " ") != want || d.sought {
			t.Errorf("%s means %v, %v; want %s; the whole log was read: %t", name, got, err, want, d.sought)
		}
	}
	if _, err := d.inspect("x"); fault.KindOf(err) != fault.NotFound || d.sought {
		t.Errorf("what never was: %v; the whole log was read: %t", err, d.sought)
	}
	// What the index does not have yet is found all the same, and what lives with what has ended
	// only if that is wanted.
	d.ended("e3", "past", "f3")
	d.live("aa", "past")
	for ended, want := range map[bool]string{false: "sandbox/aa", true: "sandbox/aa " + strings.Join(before, " ") + " sandbox/e3 container/f3"} {
		answer, err := d.Inspect(t.Context(), &adminv1.InspectRequest{Id: "past", Ended: ended})
		var got []string
		for _, e := range answer.GetEntities() {
			got = append(got, e.GetStream())
		}
		if err != nil || strings.Join(got, " ") != want {
			t.Errorf("ended %t: %v, %v; want %s", ended, got, err, want)
		}
	}
}

// Of what retention removed from the log it is said that it was there, and why it went.
func TestInspectDropped(t *testing.T) {
	d := newDesk(t)
	d.ended("e1", "past", "f1")
	d.ended("e2", "other", "f2")
	x := names.New(d.log, slog.New(slog.DiscardHandler))
	if err := x.Follow(t.Context()); err != nil {
		t.Fatal(err)
	}
	for stream, version := range map[eventlog.Stream]eventlog.Version{"sandbox/e1": 2, "container/f1": 1} {
		if err := d.log.Trim(t.Context(), eventlog.Trim{Stream: stream, Through: version, Rule: "age", Whole: true}); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"past", "e1", "f1"} {
		_, err := d.inspect(name)
		if fault.KindOf(err) != fault.NotFound || !strings.Contains(err.Error(), "/past") || !strings.Contains(err.Error(), "is not in the log any more: 3 records were dropped at ") ||
			!strings.Contains(err.Error(), ": for their age") {
			t.Errorf("%s: %v", name, err)
		}
		answer, err := d.Inspect(t.Context(), &adminv1.InspectRequest{Id: name, Ended: true})
		if err != nil || len(answer.GetEntities()) > 0 || !strings.Contains(answer.GetGone(), "is not in the log any more: 3 records were dropped") {
			t.Errorf("%s, among what has ended: %v, %v", name, answer, err)
		}
	}
	if answer, err := d.Inspect(t.Context(), &adminv1.InspectRequest{Id: "never", Ended: true}); err != nil || answer.GetGone() != "" || len(answer.GetEntities()) > 0 {
		t.Errorf("what never was: %v, %v", answer, err)
	}
	if got, err := d.inspect("other"); err != nil || strings.Join(got, " ") != "sandbox/e2 container/f2" {
		t.Errorf("what is there is %v, %v", got, err)
	}
}

// Every way to name a pod or a container works on what lives and on what has ended.
func TestInspectNames(t *testing.T) {
	d := newDesk(t)
	d.live("aa", "web", "c1", "c2")
	d.views.sandboxes[0].State.Name.Namespace = "shop"
	for i, c := range d.views.containers {
		c.State.Name = container.Name{Name: "app", Attempt: uint32(i)}
	}
	for name, want := range map[string]string{
		"shop/web": "sandbox/aa container/c1 container/c2", "shop/web@0": "sandbox/aa container/c1 container/c2", "sandbox/aa": "sandbox/aa container/c1 container/c2",
		"shop/web/app": "container/c1 container/c2", "shop/web/app@1": "container/c2",
	} {
		if got, err := d.inspect(name); err != nil || strings.Join(got, " ") != want {
			t.Errorf("%s means %v, %v; want %s", name, got, err, want)
		}
	}
	for _, name := range []string{"shop/web@1", "other/web", "shop/web/side"} {
		if _, err := d.inspect(name); fault.KindOf(err) != fault.NotFound {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, name := range []string{"a/b/c/d", "web@x", "/", strings.Repeat("x", 513)} {
		if _, err := d.inspect(name); fault.KindOf(err) != fault.Invalid {
			t.Errorf("%.20s: %v", name, err)
		}
	}
}

// Everything that has not ended is told as of one record, or nothing if more is asked for.
func TestInspectAll(t *testing.T) {
	d := newDesk(t)
	d.live("aa", "web", "c1", "c2")
	d.ended("e1", "past", "f1")
	got, err := d.Inspect(t.Context(), &adminv1.InspectRequest{All: true})
	if err != nil || got.GetSequence() != 7 || len(got.GetEntities()) != 3 || got.GetEntities()[0].GetStream() != "sandbox/aa" {
		t.Errorf("%v, %v", got, err)
	}
	if _, err := d.Inspect(t.Context(), &adminv1.InspectRequest{All: true, Id: "aa"}); fault.KindOf(err) != fault.Invalid {
		t.Errorf("all and one: %v", err)
	}
}

// Streams are read alone, and their records come in the order of the log.
func TestEventsOfStreams(t *testing.T) {
	d := newDesk(t)
	d.ended("e1", "past", "f1")
	d.ended("e2", "other", "f2")
	d.sought = false
	got, err := d.events(&adminv1.EventsRequest{Streams: []string{"sandbox/e1", "container/f1", "sandbox/e1", "none"}}, 100)
	if err != nil || !slices.IsSorted(got) || len(got) != 3 {
		t.Errorf("%v, %v", got, err)
	}
	if got, err := d.events(&adminv1.EventsRequest{Streams: []string{"container/f1"}, From: got[2]}, 100); err != nil || len(got) != 1 {
		t.Errorf("from the last on: %v, %v", got, err)
	}
	if got, err := d.events(&adminv1.EventsRequest{From: 2, Most: 2}, 100); err != nil || !slices.Equal(got, []uint64{2, 3}) {
		t.Errorf("two from the second on: %v, %v", got, err)
	}
}

// A canceled call does not read the whole log.
func TestInspectGivenUp(t *testing.T) {
	d := newDesk(t)
	d.ended("e1", "past", "f1")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := d.Inspect(ctx, &adminv1.InspectRequest{Id: "e1"}); !errors.Is(err, context.Canceled) {
		t.Errorf("given up with %v", err)
	}
}

// receiver is the other end of a stream; it gives up after some records.
type receiver struct {
	grpc.ServerStream
	ctx    context.Context
	most   int
	cancel context.CancelFunc
	got    []*adminv1.EventsResponse
}

func (r *receiver) Context() context.Context { return r.ctx }

func (r *receiver) Send(e *adminv1.EventsResponse) error {
	if r.got = append(r.got, e); len(r.got) == r.most {
		r.cancel()
	}
	return nil
}

func (d *desk) events(req *adminv1.EventsRequest, most int) (sequences []uint64, err error) {
	r := &receiver{most: most}
	r.ctx, r.cancel = context.WithCancel(d.t.Context())
	defer r.cancel()
	err = d.Events(req, r)
	for _, e := range r.got {
		sequences = append(sequences, e.GetRecord().GetSequence())
	}
	return sequences, err
}

func TestEvents(t *testing.T) {
	d := newDesk(t)
	d.ended("e1", "past", "f1")
	for _, c := range []struct {
		name string
		req  *adminv1.EventsRequest
		most int
		want []uint64
	}{
		{"all", &adminv1.EventsRequest{}, 0, []uint64{1, 2, 3}},
		{"from", &adminv1.EventsRequest{From: 2}, 0, []uint64{2, 3}},
		{"streams", &adminv1.EventsRequest{Streams: []string{"container/f1"}}, 0, []uint64{3}},
		{"followed until the caller leaves", &adminv1.EventsRequest{Follow: true}, 3, []uint64{1, 2, 3}},
	} {
		if got, err := d.events(c.req, c.most); err != nil || !slices.Equal(got, c.want) {
			t.Errorf("%s: %v, %v", c.name, got, err)
		}
	}
	if err := d.log.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := d.events(&adminv1.EventsRequest{}, 0); err == nil || !strings.HasPrefix(err.Error(), "read the event log: ") {
		t.Errorf("a log that is closed: %v", err)
	}
}

// A load continues after its caller leaves.
func TestLoadImage(t *testing.T) {
	d := newDesk(t)
	for source, want := range map[string]string{
		"":         `load image: source: "" is not TRANSPORT:PATH`,
		":/x":      `load image: source: ":/x" is not TRANSPORT:PATH`,
		"oci:here": `load image: source: the path of "oci:here" is not absolute`,
	} {
		if _, err := d.LoadImage(t.Context(), &adminv1.LoadImageRequest{Source: source}); err == nil || err.Error() != want || fault.KindOf(err) != fault.Invalid {
			t.Errorf("%q: %v", source, err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	answer, err := d.LoadImage(ctx, &adminv1.LoadImageRequest{Source: "oci:/x", Name: "a:1"})
	if err != nil || len(answer.GetImages()) != 1 || answer.GetImages()[0].GetDigest() != "sha256:1" || answer.GetImages()[0].GetImageId() != "1" {
		t.Errorf("%v, %v", answer, err)
	}
	if asked := d.clerks.asked.(image.RequestLoad); asked.Ref != "oci:/x" || asked.Name != "a:1" || asked.Load == "" || d.clerks.context.Err() != nil {
		t.Errorf("asked for %+v, with %v", asked, d.clerks.context.Err())
	}
	d.clerks.err = fault.New(fault.NotFound, "load", "oci:/x", "no such directory")
	if _, err := d.LoadImage(t.Context(), &adminv1.LoadImageRequest{Source: "oci:/x"}); fault.KindOf(err) != fault.NotFound {
		t.Errorf("a failed load: %v", err)
	}
}

func TestInspectImage(t *testing.T) {
	d := newDesk(t)
	for name, kind := range map[string]fault.Kind{"": fault.Invalid, "docker://lab.test/none": fault.NotFound} {
		if _, err := d.InspectImage(t.Context(), &adminv1.InspectImageRequest{Image: name}); fault.KindOf(err) != kind {
			t.Errorf("%q: %v", name, err)
		}
	}
	answer, err := d.InspectImage(t.Context(), &adminv1.InspectImageRequest{Image: "docker://lab.test/app"})
	if err != nil || !strings.HasPrefix(answer.GetInspectionJson(), "{") {
		t.Errorf("%v, %v", answer, err)
	}
}

func TestPulls(t *testing.T) {
	d := newDesk(t)
	d.views.pulls = []image.State{{Ref: "app", Pulls: map[id.Pull]image.Pull{
		"p": {RequestedAt: epoch, Resolved: image.Resolved{Name: "lab.test/app", Digest: "sha256:1", Layers: 2}, Fetched: 1},
	}}}
	answer, err := d.Pulls(t.Context(), &adminv1.PullsRequest{})
	if err != nil || len(answer.GetPulls()) != 1 {
		t.Fatalf("%v, %v", answer, err)
	}
	p := answer.GetPulls()[0]
	if p.GetRef() != "app" || p.GetName() != "lab.test/app" || p.GetLayers() != 2 || p.GetLayersFetched() != 1 || p.GetBytes() != -1 ||
		len(p.GetTransfers()) != 1 || p.GetTransfers()[0].GetOffset() != 3 || !p.GetRequestedAt().AsTime().Equal(epoch) {
		t.Errorf("the pull is %v", p)
	}
}

func TestLogStats(t *testing.T) {
	d := newDesk(t)
	d.ended("e1", "past", "f1")
	s, err := d.LogStats(t.Context(), &adminv1.LogStatsRequest{})
	if err != nil || s.GetLastSequence() != 3 || s.GetRecords() != 5 || s.GetHeldTime().AsDuration() != time.Hour || s.GetProblem() != "" ||
		s.GetPassedOver() != 3 || len(s.GetBackups()) != 1 || len(s.GetSetAside()) != 1 || s.GetBackupProblem() != "no room" {
		t.Errorf("%v, %v", s, err)
	}
	d.log.Fail(errors.New("the disk is full"))
	if s, _ := d.LogStats(t.Context(), &adminv1.LogStatsRequest{}); !strings.Contains(s.GetProblem(), "the disk is full") {
		t.Errorf("the problem is %q", s.GetProblem())
	}
}

func TestUpgradeMonitor(t *testing.T) {
	d := newDesk(t)
	if _, err := d.UpgradeMonitor(t.Context(), &adminv1.UpgradeMonitorRequest{}); err != nil {
		t.Error(err)
	}
	d.clerks.err = errors.New("no")
	if _, err := d.UpgradeMonitor(t.Context(), &adminv1.UpgradeMonitorRequest{}); err == nil {
		t.Error("no error")
	}
}
