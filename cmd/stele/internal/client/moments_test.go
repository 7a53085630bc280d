package client

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/stele-runtime/stele/actors/codec"
	"github.com/stele-runtime/stele/actors/container"
	"github.com/stele-runtime/stele/actors/host"
	"github.com/stele-runtime/stele/actors/id"
	"github.com/stele-runtime/stele/actors/redact"
	"github.com/stele-runtime/stele/actors/sandbox"
	"github.com/stele-runtime/stele/cmd/stele/internal/bundle"
	"github.com/stele-runtime/stele/cmd/stele/internal/record"
	adminv1 "github.com/stele-runtime/stele/proto/admin/v1"
	"github.com/stele-runtime/stele/timeline"
)

var noon = time.Date(2026, 5, 4, 12, 0, 0, 0, time.UTC)

// twoPods is a log of a minute each: the daemon, pod a with a container, pod b.
func twoPods(t *testing.T) []*adminv1.Record {
	t.Helper()
	a := &archive{}
	add := func(stream string, e codec.Encoded, err error) {
		a.add(t, stream, e, err)
		r := a.records[len(a.records)-1]
		r.Time = timestamppb.New(noon.Add(time.Duration(r.Sequence) * time.Minute))
	}
	config, err := proto.Marshal(&runtimeapi.ContainerConfig{Image: &runtimeapi.ImageSpec{Image: "lab.test/app"}, Envs: []*runtimeapi.KeyValue{{Key: "P", Value: []byte("hunter2")}}})
	if err != nil {
		t.Fatal(err)
	}
	e, err := codec.EncodeHost(host.DaemonStarted{})
	add("node", e, err)
	pod := func(name string) {
		e, err := codec.EncodeSandbox(sandbox.SandboxRequested{ID: id.Sandbox(name), Name: sandbox.Name{Namespace: "shop", Name: name}})
		add("sandbox/"+name, e, err)
	}
	pod("a")
	e, err = codec.EncodeContainer(container.ContainerRequested{ID: "c", Sandbox: "a", Name: container.Name{Name: "app"}, Config: config})
	add("container/c", e, err)
	pod("b")
	add("image/"+id.ImageKey("lab.test/app"), codec.Encoded{Type: "image.New.v9", Schema: 1, Payload: []byte("hunter2")}, nil)
	add("image/"+id.ImageKey("lab.test/other"), codec.Encoded{Type: "image.New.v9", Schema: 1}, nil)
	e, err = codec.EncodeContainer(container.RootfsPrepared{})
	add("container/c", e, err)
	return a.records
}

// packed is a source that reads records from a bundle.
func packed(t *testing.T, records []*adminv1.Record) *Source {
	t.Helper()
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
	for _, r := range records {
		if err := w.Record(r); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := w.Close(bundle.Manifest{}); err != nil {
		t.Fatal(err)
	}
	return &Source{Bundle: path, Warnings: &strings.Builder{}}
}

func TestUntil(t *testing.T) {
	from := packed(t, twoPods(t))
	for _, c := range []struct {
		to   timeline.Point
		read int
		now  time.Time
		says string
	}{
		{timeline.Point{}, 7, noon.Add(7 * time.Minute), ""},
		{timeline.Point{Sequence: 3}, 3, noon.Add(3 * time.Minute), ""},
		{timeline.Point{Time: noon.Add(150 * time.Second)}, 2, noon.Add(150 * time.Second), ""},
		{timeline.Point{Time: noon.Add(time.Hour)}, 7, noon.Add(time.Hour), ""},
		{timeline.Point{Sequence: 8}, 7, time.Time{}, "the log ends with 7"},
		{timeline.Point{Time: noon}, 0, time.Time{}, "is before the log's first record"},
	} {
		var got []uint64
		now, err := from.Until(t.Context(), c.to, collect(&got, 0, nil))
		if len(got) != c.read || !now.Equal(c.now) || c.says == "" && err != nil || c.says != "" && (err == nil || !strings.Contains(err.Error(), c.says)) {
			t.Errorf("until %v: %d records, %v, %v", c.to, len(got), now, err)
		}
	}
	if _, err := packed(t, nil).Until(t.Context(), timeline.Point{Sequence: 1}, collect(new([]uint64), 0, nil)); err == nil || !strings.Contains(err.Error(), "no records") {
		t.Errorf("of an empty log: %v", err)
	}
	var got []uint64
	if err := from.Events(t.Context(), 6, false, collect(&got, 0, nil)); err != nil || !slices.Equal(got, []uint64{6, 7}) {
		t.Errorf("from 6 on: %v, %v", got, err)
	}
	if err := from.Events(t.Context(), 1, true, collect(&got, 0, nil)); err == nil {
		t.Error("a file is followed")
	}
}

func TestExport(t *testing.T) {
	records := twoPods(t)
	for _, c := range []struct {
		name         string
		since, until time.Duration
		want         []uint64
		says         string
	}{
		{want: []uint64{1, 2, 3, 4, 5, 6, 7}},
		{name: "shop/a", want: []uint64{1, 2, 3, 5, 7}},
		{name: "shop/a/app", want: []uint64{1, 2, 3, 5, 7}},
		{name: "b", want: []uint64{1, 4}},
		{since: 5 * time.Minute, want: []uint64{1, 2, 3, 5, 7}}, // its container has an event
		{until: 2 * time.Minute, want: []uint64{1, 2, 3, 5, 7}},
		{since: 4 * time.Minute, until: 4 * time.Minute, want: []uint64{1, 4}},
		{since: time.Hour, want: []uint64{1}},
		{name: "nobody", says: "nobody"},
	} {
		part := Part{}
		if c.name != "" {
			n, err := timeline.ParseName(c.name)
			if err != nil {
				t.Fatal(err)
			}
			part.Names = []timeline.Name{n}
		}
		if c.since > 0 {
			part.Since = noon.Add(c.since)
		}
		if c.until > 0 {
			part.Until = noon.Add(c.until)
		}
		var got []uint64
		secret := false
		_, _, err := packed(t, records).Export(t.Context(), part, func(r *adminv1.Record) error {
			got = append(got, r.GetSequence())
			secret = secret || bytes.Contains(r.GetPayload(), []byte("hunter2"))
			return nil
		})
		if secret {
			t.Errorf("%+v: a secret leaves", c)
		}
		if !slices.Equal(got, c.want) || (err != nil) != (c.says != "") || err != nil && !strings.Contains(err.Error(), c.says) {
			t.Errorf("%+v: exported are %v, %v", c, got, err)
		}
	}
	with := 0
	if _, _, err := packed(t, records).Export(t.Context(), Part{Environment: true}, func(r *adminv1.Record) error {
		with += bytes.Count(r.GetPayload(), []byte("hunter2"))
		return nil
	}); err != nil || with != 2 {
		t.Errorf("asked for: %d, %v", with, err)
	}
}

// TestCompare: each way in which a daemon can differ from its events is told.
func TestCompare(t *testing.T) {
	line := timeline.New()
	for _, r := range twoPods(t) {
		if !strings.HasPrefix(r.GetStream(), "image") {
			line.Add(record.Model(r))
		}
	}
	told := func(change func(map[string]string)) map[string]string {
		all := map[string]string{}
		for _, p := range line.Pods() {
			state, err := redact.State(p.State)
			if err != nil {
				t.Fatal(err)
			}
			all["sandbox/"+string(p.State.ID)] = string(state)
		}
		for _, c := range line.AllContainers() {
			state, err := redact.State(c.State)
			if err != nil {
				t.Fatal(err)
			}
			all["container/"+string(c.State.ID)] = string(state)
		}
		change(all)
		return all
	}
	for says, change := range map[string]func(map[string]string){
		"": func(map[string]string) {},
		"pod shop/b (sandbox/b) is left by its events, and the daemon has none": func(all map[string]string) { delete(all, "sandbox/b") },
		"the daemon has container/x, and by its events it is gone or never was": func(all map[string]string) { all["container/x"] = "{}" },
		"container shop/a/app (container/c): the daemon has …": func(all map[string]string) {
			all["container/c"] = strings.Replace(all["container/c"], "creating", "created", 1)
		},
	} {
		v := Verdict{}
		got, err := v.compare(line, told(change))
		if err != nil || says == "" && got != "" || !strings.HasPrefix(got, says) {
			t.Errorf("the difference is %q, %v; want %q", got, err, says)
		}
		if says == "" && (v.Pods != 2 || v.Containers != 1) {
			t.Errorf("compared were %+v", v)
		}
	}
}
