package show

import (
	"bytes"
	"flag"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/stele-runtime/stele/actors/codec"
	"github.com/stele-runtime/stele/actors/container"
	"github.com/stele-runtime/stele/actors/fault"
	"github.com/stele-runtime/stele/actors/id"
	"github.com/stele-runtime/stele/actors/image"
	"github.com/stele-runtime/stele/actors/sandbox"
	adminv1 "github.com/stele-runtime/stele/proto/admin/v1"
)

var update = flag.Bool("update", false, "write the golden files anew")

// golden compares what is written with a file, to the letter.
func golden(t *testing.T, name string, write func(io.Writer) error) {
	t.Helper()
	var got bytes.Buffer
	if err := write(&got); err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	path := filepath.Join("testdata", name+".txt")
	if *update {
		if err := os.WriteFile(path, got.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got.Bytes(), want) {
		t.Errorf("%s is\n%s\nwant\n%s", name, got.Bytes(), want)
	}
}

const (
	pod  = "1111111111111111aaaa"
	web  = "2222222222222222bbbb"
	side = "3333333333333333cccc"
)

var (
	start = time.Date(2026, 5, 4, 3, 2, 1, 987654321, time.UTC)
	// elsewhere is a zone that no machine is in by chance.
	elsewhere = time.FixedZone("elsewhere", 5*3600+30*60)
)

// history is the log of a pod with two containers, and more than the pod.
func history(t *testing.T) []*adminv1.Record {
	t.Helper()
	var records []*adminv1.Record
	versions := map[string]uint64{}
	add := func(stream string, e codec.Encoded, err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		versions[stream]++
		n := uint64(len(records) + 1)
		records = append(records, &adminv1.Record{
			Sequence: n, Stream: stream, Version: versions[stream], Time: timestamppb.New(start.Add(time.Duration(n) * time.Millisecond)),
			SinceBoot: durationpb.New(time.Duration(n) * time.Second), BootId: "boot", Type: e.Type, Schema: e.Schema, Payload: e.Payload,
			Command: "Test", Cause: n - 1,
		})
	}
	addSandbox := func(e sandbox.Event) {
		encoded, err := codec.EncodeSandbox(e)
		add("sandbox/"+pod, encoded, err)
	}
	addContainer := func(name string, e container.Event) {
		encoded, err := codec.EncodeContainer(e)
		add("container/"+name, encoded, err)
	}
	config, err := proto.Marshal(&runtimeapi.ContainerConfig{
		Metadata: &runtimeapi.ContainerMetadata{Name: "web"}, Envs: []*runtimeapi.KeyValue{{Key: "PASSWORD", Value: []byte("hunter2")}},
	})
	if err != nil {
		t.Fatal(err)
	}
	addSandbox(sandbox.SandboxRequested{ID: pod, Name: sandbox.Name{Name: "shop", Namespace: "default", UID: "u"}, Handler: "runc", At: start})
	addSandbox(sandbox.NetworkAttached{IPs: []string{"10.0.0.2", "fd00::2"}})
	addContainer(web, container.ContainerRequested{ID: web, Sandbox: pod, Name: container.Name{Name: "web"}, Handler: "runc", Config: config, Image: "sha256:1", At: start})
	addContainer(side, container.ContainerRequested{ID: side, Sandbox: "another", Name: container.Name{Name: "side"}, At: start})
	addContainer(web, container.ContainerStartFailed{Fault: *fault.New(fault.Internal, "start runtime", web, "no such program:\n\x1b[31mred"), At: start})
	pull, err := codec.EncodeImage(image.PullRequested{Ref: "https://me:hunter2@lab.test/app", Pull: "p", At: start})
	add("image/"+id.ImageKey("https://me:hunter2@lab.test/app"), pull, err)
	add("node", codec.Encoded{Type: "node.FromTheFuture.v9", Schema: 1}, nil)
	return records
}

func TestEvents(t *testing.T) {
	for name, e := range map[string]Events{
		"events_words":       {},
		"events":             {Format: EventsWide},
		"events_json":        {Format: EventsJSON},
		"events_configs":     {Format: EventsWide, Details: []codec.Detail{codec.Configs}},
		"events_environment": {Format: EventsWide, Details: []codec.Detail{codec.Configs, codec.Environment}},
	} {
		e.Zone = elsewhere
		golden(t, name, func(to io.Writer) error {
			e.To = to
			for _, r := range history(t) {
				if err := e.Record(r); err != nil {
					return err
				}
			}
			return nil
		})
		// Values of the environment are in base64; no other password is shown.
		content, err := os.ReadFile(filepath.Join("testdata", name+".txt"))
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(string(content), "hunter2") || strings.Contains(string(content), "aHVudGVyMg") != (name == "events_environment") {
			t.Errorf("%s shows a password, or does not show what was asked for", name)
		}
	}
}

func TestSelection(t *testing.T) {
	for _, c := range []struct {
		names []string
		want  []uint64
	}{
		{nil, []uint64{1, 2, 3, 4, 5, 6, 7}},
		{[]string{pod[:4]}, []uint64{1, 2, 3, 5}}, // with its container, and no other's
		{[]string{web[:12]}, []uint64{3, 5}},
		{[]string{"node"}, []uint64{7}},
		{[]string{"container/" + side, "node"}, []uint64{4, 7}},
		{[]string{"9"}, nil},
	} {
		about := Select(c.names...)
		var got []uint64
		for _, r := range history(t) {
			if about.Has(r) {
				got = append(got, r.GetSequence())
			}
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("%v selects %v, want %v", c.names, got, c.want)
		}
	}
}

func TestLogStats(t *testing.T) {
	golden(t, "log_stats", func(to io.Writer) error {
		return LogStats(to, &adminv1.LogStatsResponse{LastSequence: 7, Records: 3, Commits: 2, CommitTime: durationpb.New(1500 * time.Millisecond)})
	})
}

func TestImageTables(t *testing.T) {
	golden(t, "images", func(to io.Writer) error {
		return Images(to, []*runtimeapi.Image{
			{Id: "sha256:0123456789abcdef0123456789abcdef", RepoTags: []string{"lab.test/web:1", "lab.test/web:latest"}, RepoDigests: []string{"lab.test/web@sha256:1"}, Size: 12345678},
			{Id: "cafe", RepoDigests: []string{"lab.test/model@sha256:cafe"}, Size: 12, Pinned: true},
			{Id: "beef"},
		})
	})
	golden(t, "no_images", func(to io.Writer) error { return Images(to, nil) })
	golden(t, "loaded", func(to io.Writer) error {
		return Loaded(to, []*adminv1.LoadedImage{{Name: "localhost/a:1", ImageId: "1"}, {Name: "localhost/b:1", ImageId: "2"}})
	})
	golden(t, "pulls", func(to io.Writer) error {
		for _, p := range []*adminv1.Pull{
			{Ref: "new", RequestedAt: timestamppb.New(start), Bytes: -1},
			{Ref: "web", RequestedAt: timestamppb.New(start), Name: "lab.test/web", Digest: "sha256:1", Layers: 3, LayersFetched: 1, Bytes: 1000,
				Transfers: []*adminv1.LayerTransfer{{Digest: "sha256:2", Offset: 10, Size: 500}, {Digest: "sha256:3", Offset: 7, Size: -1}}},
		} {
			if err := Pull(to, p, elsewhere); err != nil {
				return err
			}
		}
		return nil
	})
}

// A broken pipe is an error.
func TestBrokenPipe(t *testing.T) {
	_, to := io.Pipe()
	to.Close()
	for name, err := range map[string]error{
		"events":  (&Events{To: to, Zone: elsewhere}).Record(history(t)[0]),
		"json":    (&Events{To: to, Zone: elsewhere, Format: EventsJSON}).Record(history(t)[0]),
		"images":  Images(to, nil),
		"loaded":  Loaded(to, []*adminv1.LoadedImage{{}}),
		"pull":    Pull(to, &adminv1.Pull{}, elsewhere),
		"logs":    LogStats(to, &adminv1.LogStatsResponse{}),
		"nothing": JSON(to, "{}"),
	} {
		if err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}
