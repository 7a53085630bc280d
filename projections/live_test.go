package projections

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
	"pgregory.net/rapid"

	"github.com/stele-runtime/stele/actors/codec"
	"github.com/stele-runtime/stele/actors/container"
	"github.com/stele-runtime/stele/actors/entity"
	"github.com/stele-runtime/stele/actors/host"
	"github.com/stele-runtime/stele/actors/id"
	"github.com/stele-runtime/stele/actors/sandbox"
	"github.com/stele-runtime/stele/eventlog"
	"github.com/stele-runtime/stele/eventlog/memlog"
)

// The model is the fold of the streams, whether read from the whole log or from a
// checkpoint and the rest, any number of times.
func TestModelIsFold(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		log := memlog.New(memlog.Options{})
		defer log.Close()
		n := newTown(log)
		for range 3 {
			n.walk(t, 60)
			f := opened(t, log) // from the last checkpoint
			samePast(t, fold(t, log), f.Live.Past())
			whole := newFeed(log, Options{Logger: quiet})
			for r := range log.Read(context.Background(), 1) {
				whole.take(r)
			}
			sameMembers(t, whole.Live)
			if diff := cmp.Diff(answers(whole), answers(f)); diff != "" {
				t.Fatalf("a checkpoint and the rest are not the whole log (-whole +checkpoint):\n%s", diff)
			}
			sameMembers(t, f.Live)
			if len(f.Live.Damaged()) > 0 {
				t.Fatalf("damaged: %v", f.Live.Damaged())
			}
			save(t, f)
		}
	})
}

// sameMembers checks that each sandbox has exactly its containers.
func sameMembers(t *rapid.T, l *Live) {
	want := map[id.Sandbox][]*Container{}
	for _, c := range l.Containers() {
		want[c.State.Sandbox] = append(want[c.State.Sandbox], c)
	}
	for s := range l.members {
		if !slices.Equal(l.ContainersOf(s), want[s]) || want[s] == nil {
			t.Fatalf("sandbox %s has %v, not %v", s, l.ContainersOf(s), want[s])
		}
	}
	if len(l.members) != len(want) {
		t.Fatalf("%d sandboxes have containers, not %d", len(l.members), len(want))
	}
}

func samePast(t *rapid.T, want, got entity.Past) {
	if diff := cmp.Diff(want, got, cmpopts.EquateEmpty()); diff != "" {
		t.Fatalf("the model is not the fold of the streams (-fold +model):\n%s", diff)
	}
}

func TestOrder(t *testing.T) {
	log := newMemlog(t)
	for i, name := range []string{"late", "b", "a"} {
		at := epoch.Add(-time.Duration(i) * time.Second)
		if name == "a" {
			at = epoch.Add(-time.Second)
		}
		if err := newSandbox(name).do(log, runOf(name, at)); err != nil {
			t.Fatal(err)
		}
		if err := newContainer(name).do(log, createOf(name, "s", at)); err != nil {
			t.Fatal(err)
		}
	}
	live := opened(t, log).Live
	var names []string
	for _, s := range live.Sandboxes() {
		names = append(names, string(s.State.ID))
	}
	for _, c := range live.Containers() {
		names = append(names, string(c.State.ID))
	}
	if !slices.Equal(names, []string{"a", "b", "late", "a", "b", "late"}) {
		t.Errorf("listed as %v", names)
	}
	if live.Sandbox("a") == nil || live.Sandbox("c") != nil || live.Container("b") == nil || live.Container("c") != nil {
		t.Error("not found by id, or found what is not there")
	}
}

// What an update set replaces what was asked for, whole, in the model and in the next
// daemon's.
func TestResourcesInForce(t *testing.T) {
	log := newMemlog(t)
	c := newContainer("c")
	create := createOf("c", "s", epoch)
	config, err := proto.Marshal(&runtimeapi.ContainerConfig{WorkingDir: "/srv", Linux: &runtimeapi.LinuxContainerConfig{
		Resources: &runtimeapi.LinuxContainerResources{CpuShares: 2, Unified: map[string]string{"memory.max": "1"}},
	}})
	if err != nil {
		t.Fatal(err)
	}
	create.Config = config
	now, err := proto.Marshal(&runtimeapi.LinuxContainerResources{CpuShares: 2, MemoryLimitInBytes: 1 << 20})
	if err != nil {
		t.Fatal(err)
	}
	f := opened(t, log)
	for _, command := range []container.Command{
		create, container.PrepareRootfsDone{}, container.CreateRuntimeDone{Process: container.Process{PID: 42}},
		container.UpdateResources{Change: []byte{1}}, container.UpdateRuntimeDone{Update: 1, Resources: now},
	} {
		if err := c.do(log, command); err != nil {
			t.Fatal(err)
		}
	}
	for r := range log.Read(context.Background(), 1) {
		f.take(r)
	}
	first := f.Live.Container("c").Config()
	save(t, f)
	for _, got := range []*runtimeapi.ContainerConfig{first, opened(t, log).Live.Container("c").Config()} {
		r := got.GetLinux().GetResources()
		if got.GetWorkingDir() != "/srv" || r.GetMemoryLimitInBytes() != 1<<20 || r.GetCpuShares() != 2 || len(r.GetUnified()) > 0 {
			t.Errorf("the configuration is %v", got)
		}
	}
}

// A machine that panics over a record puts its stream aside and nothing else.
func TestPanicInFold(t *testing.T) {
	log := newMemlog(t)
	for _, name := range []string{"sick", "well"} {
		if err := newSandbox(name).do(log, runOf(name, epoch)); err != nil {
			t.Fatal(err)
		}
	}
	f := newFeed(log, Options{Logger: quiet})
	fold := f.folds["sandbox"]
	f.folds["sandbox"] = func(l *Live, name string, r incoming) (What, error) {
		if name == "sick" {
			panic("out of its mind")
		}
		return fold(l, name, r)
	}
	for r := range log.Read(t.Context(), 1) {
		f.take(r)
	}
	if f.Live.Sandbox("sick") != nil || !strings.Contains(f.Live.Damaged()["sandbox/sick"], "version 1: panic: out of its mind") {
		t.Errorf("damaged: %v", f.Live.Damaged())
	}
	if f.Live.Sandbox("well") == nil {
		t.Error("another stream suffers")
	}
}

// A stream that cannot be followed is put aside alone, with its last good state, until
// nothing is left of what it is about.
func TestDamagedStream(t *testing.T) {
	entry := func(typ string, payload []byte) []eventlog.Entry {
		return []eventlog.Entry{{Type: typ, Schema: 1, Payload: payload}}
	}
	for name, broken := range map[string][]eventlog.Entry{
		"of the future": entry("sandbox.SomethingNew.v1", nil),
		"no message":    entry("sandbox.SandboxLost.v1", []byte{0xff}),
		"other kind":    entry("container.Killed.v1", nil),
	} {
		t.Run(name, func(t *testing.T) {
			log := newMemlog(t)
			sick, well := newSandbox("sick"), newSandbox("well")
			for _, a := range []*sandboxActor{sick, well} {
				if err := a.do(log, runOf(strings.TrimPrefix(string(a.stream), "sandbox/"), epoch)); err != nil {
					t.Fatal(err)
				}
			}
			if _, err := log.Append(t.Context(), eventlog.Append{Stream: sick.stream, Expected: sick.at.Version, Entries: broken}); err != nil {
				t.Fatal(err)
			}
			sick.at.Version++
			for _, a := range []*sandboxActor{sick, well} {
				if err := a.do(log, sandbox.PrepareSandboxDone{}); err != nil {
					t.Fatal(err)
				}
			}
			check := func(when string) {
				f := opened(t, log)
				defer save(t, f)
				s := f.Live.Sandbox("sick")
				if s == nil || s.State.Prepared || s.Damage == "" || len(f.Live.Damaged()) != 1 || f.Live.Damaged()[sick.stream] != s.Damage {
					t.Errorf("%s: the sick stream is %+v; damaged: %v", when, s, f.Live.Damaged())
				}
				if past := f.Live.Past(); past.Damaged[sick.stream] == "" || past.Sandboxes["sick"].Version != 1 {
					t.Errorf("%s: the node boots from %+v", when, past)
				}
				if s := f.Live.Sandbox("well"); s == nil || !s.State.Prepared {
					t.Errorf("%s: the well stream is not followed: %+v", when, s)
				}
			}
			check("from the log")
			check("from a checkpoint")

			closed, err := codec.EncodeHost(host.StreamClosed{Stream: string(sick.stream)})
			if err != nil {
				t.Fatal(err)
			}
			entry := eventlog.Entry{Type: closed.Type, Schema: closed.Schema, Payload: closed.Payload}
			if _, err := log.Append(t.Context(), eventlog.Append{Stream: "node", Entries: []eventlog.Entry{entry}}); err != nil {
				t.Fatal(err)
			}
			for _, when := range []string{"from the log", "from a checkpoint"} {
				f := opened(t, log)
				if f.Live.Sandbox("sick") != nil || len(f.Live.Damaged()) != 0 {
					t.Errorf("%s: after its end, the sick stream is there: %v", when, f.Live.Damaged())
				}
				save(t, f)
			}
		})
	}
}

// holed is a log in which one record is damaged.
type holed struct {
	*memlog.Log
	at eventlog.Sequence
}

func (h holed) Read(ctx context.Context, from eventlog.Sequence) iter.Seq2[eventlog.Record, error] {
	return h.hole(h.Log.Read(ctx, from))
}

func (h holed) ReadAt(ctx context.Context, sequences []eventlog.Sequence) iter.Seq2[eventlog.Record, error] {
	return h.hole(h.Log.ReadAt(ctx, sequences))
}

func (h holed) hole(records iter.Seq2[eventlog.Record, error]) iter.Seq2[eventlog.Record, error] {
	return func(yield func(eventlog.Record, error) bool) {
		for r, err := range records {
			if r.Sequence == h.at {
				r, err = eventlog.Record{}, &eventlog.DamageError{}
			}
			if !yield(r, err) {
				return
			}
		}
	}
}

// A damaged record puts its stream aside with the stream's next record.
func TestDamagedRecord(t *testing.T) {
	log := newMemlog(t)
	sick, well := newSandbox("sick"), newSandbox("well")
	for _, c := range []sandbox.Command{nil, sandbox.PrepareSandboxDone{}, sandbox.AttachNetworkDone{}} {
		for _, a := range []*sandboxActor{sick, well} {
			do := c
			if do == nil {
				do = runOf(strings.TrimPrefix(string(a.stream), "sandbox/"), epoch)
			}
			if err := a.do(log, do); err != nil {
				t.Fatal(err)
			}
		}
	}
	live := opened(t, holed{log, 3}).Live
	if s := live.Sandbox("sick"); s == nil || s.State.Network.Attached || live.Damaged()[sick.stream] == "" {
		t.Errorf("a stream with a hole is followed: %+v", s)
	}
	if s := live.Sandbox("well"); s == nil || !s.State.Network.Attached {
		t.Error("another stream suffers")
	}
}

// running follows the log until the test ends.
func running(t *testing.T, f *Feed) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = f.Run(ctx)
	}()
	t.Cleanup(func() {
		cancel()
		<-ended
	})
}

func TestAwait(t *testing.T) {
	log := newMemlog(t)
	f := opened(t, log)
	if err := f.Await(t.Context(), 0); err != nil {
		t.Errorf("wait for what was before everything: %v", err)
	}
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	if err := f.Await(gone, 1); !errors.Is(err, context.Canceled) {
		t.Errorf("a caller that went away: %v", err)
	}
	running(t, f)
	for i := range 50 {
		name := fmt.Sprint(i)
		if err := newSandbox(name).do(log, runOf(name, epoch)); err != nil {
			t.Fatal(err)
		}
		if err := f.Await(t.Context(), log.Last()); err != nil {
			t.Fatal(err)
		}
		if f.Live.Sandbox(id.Sandbox(name)) == nil {
			t.Fatalf("sandbox %s is not listed after its record was awaited", name)
		}
	}
}

// When the log ends, nobody waits for ever.
func TestAwaitAtTheEnd(t *testing.T) {
	log := newMemlog(t)
	f := opened(t, log)
	waiting := make(chan error, 1)
	go func() { waiting <- f.Await(context.Background(), 1) }()
	running(t, f)
	_ = log.Close()
	if err := <-waiting; !errors.Is(err, eventlog.ErrClosed) {
		t.Errorf("the end of the log: %v", err)
	}
	if err := f.Await(context.Background(), 0); err != nil {
		t.Errorf("what the models had taken in: %v", err)
	}
}

// Maps are read from a configuration as a decoder reads them, whoever encoded it.
func TestEntries(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		texts := rapid.SampledFrom([]string{"", "a", "b", "io.kubernetes.pod.name", "\u00e9"})
		pairs := rapid.MapOf(texts, texts)
		config := &runtimeapi.ContainerConfig{
			Labels: pairs.Draw(t, "labels"), Annotations: pairs.Draw(t, "annotations"), LogPath: "x", Stdin: true,
			Metadata: &runtimeapi.ContainerMetadata{Name: "c"}, Linux: &runtimeapi.LinuxContainerConfig{},
		}
		encoded, err := proto.Marshal(config)
		if err != nil {
			t.Fatal(err)
		}
		// Entries without a key, without a value, with other fields, and for a key that was
		// there, as other encoders write them.
		for range rapid.IntRange(0, 3).Draw(t, "more") {
			var entry []byte
			for _, field := range rapid.SliceOfN(rapid.SampledFrom([]protowire.Number{1, 2, 3}), 0, 4).Draw(t, "fields") {
				entry = protowire.AppendTag(entry, field, protowire.BytesType)
				entry = protowire.AppendString(entry, texts.Draw(t, "text"))
			}
			encoded = protowire.AppendBytes(protowire.AppendTag(encoded, rapid.SampledFrom([]protowire.Number{boxLabels, boxAnnotations}).Draw(t, "map"), protowire.BytesType), entry)
		}
		want := &runtimeapi.ContainerConfig{}
		if err := proto.Unmarshal(encoded, want); err != nil {
			t.Fatal(err)
		}
		c := &Container{}
		c.State.Request.Config = encoded
		if !maps.Equal(c.Labels(), want.Labels) || !maps.Equal(c.Annotations(), want.Annotations) {
			t.Fatalf("got %v and %v, not %v", c.Labels(), c.Annotations(), want)
		}
	})
	if got := entries([]byte{0x4a, 0x7f, 1}, boxLabels); got != nil {
		t.Errorf("a message that ends early has %v", got)
	}
}

// What is shown is that of the whole configuration, and a container shares its pod's memory,
// whether both were read from the log or from a checkpoint.
func TestShown(t *testing.T) {
	log := newMemlog(t)
	pod, err := proto.Marshal(&runtimeapi.PodSandboxConfig{
		Metadata: &runtimeapi.PodSandboxMetadata{Name: "p", Uid: "u", Namespace: "n", Attempt: 1},
		Labels:   map[string]string{"a": "1"}, Annotations: map[string]string{"b": "2"},
		Linux: &runtimeapi.LinuxPodSandboxConfig{CgroupParent: "/up", SecurityContext: &runtimeapi.LinuxSandboxSecurityContext{
			NamespaceOptions: &runtimeapi.NamespaceOption{Ipc: runtimeapi.NamespaceMode_NODE}, SelinuxOptions: &runtimeapi.SELinuxOption{Level: "s0:c1,c2"},
		}},
	})
	if err != nil {
		t.Fatal(err)
	}
	config, err := proto.Marshal(&runtimeapi.ContainerConfig{
		Metadata: &runtimeapi.ContainerMetadata{Name: "c", Attempt: 2}, Image: &runtimeapi.ImageSpec{Image: "i", UserSpecifiedImage: "name"},
		Labels: map[string]string{"a": "1"}, Annotations: map[string]string{"b": "3"}, Envs: []*runtimeapi.KeyValue{{Key: "K"}},
		Linux: &runtimeapi.LinuxContainerConfig{Resources: &runtimeapi.LinuxContainerResources{CpuShares: 7}},
	})
	if err != nil {
		t.Fatal(err)
	}
	run, create := runOf("s", epoch), createOf("c", "s", epoch)
	run.Config, create.Config, create.SandboxConfig = pod, config, pod
	s, c := newSandbox("s"), newContainer("c")
	if err := errors.Join(s.do(log, run), c.do(log, create)); err != nil {
		t.Fatal(err)
	}
	f := opened(t, log)
	save(t, f)
	for i, live := range []*Live{f.Live, opened(t, log).Live} {
		s, c := live.Sandbox("s"), live.Container("c")
		if want := ShowSandbox(s.Config()); fmt.Sprint(s.Shown) != fmt.Sprint(want) || want.SELinuxLevel != "s0:c1,c2" || want.CgroupParent != "/up" {
			t.Errorf("%d: the sandbox is shown as %v, not %v", i, s.Shown, want)
		}
		if want := ShowContainer(c.Config()); fmt.Sprint(c.Shown) != fmt.Sprint(want) || want.Limits.GetCpuShares() != 7 || want.Image.GetUserSpecifiedImage() != "name" {
			t.Errorf("%d: the container is shown as %v, not %v", i, c.Shown, want)
		}
		if !maps.Equal(s.Labels(), s.Config().Labels) || !maps.Equal(s.Annotations(), s.Config().Annotations) || s.Labels()["a"] != "1" || s.Annotations()["b"] != "2" {
			t.Errorf("%d: the sandbox has the labels %v and the annotations %v", i, s.Labels(), s.Annotations())
		}
		if !maps.Equal(c.Labels(), c.Config().Labels) || !maps.Equal(c.Annotations(), c.Config().Annotations) || c.Labels()["a"] != "1" || c.Annotations()["b"] != "3" {
			t.Errorf("%d: the container has the labels %v and the annotations %v", i, c.Labels(), c.Annotations())
		}
		if len(c.Config().GetEnvs()) != 1 {
			t.Errorf("%d: the configuration is %v", i, c.Config())
		}
		if &s.State.Config[0] != &c.State.Request.SandboxConfig[0] {
			t.Errorf("%d: the pod's configuration is kept twice", i)
		}
	}
}

// Few words are remembered, and long ones never.
func TestWordsAreFew(t *testing.T) {
	w := words{}
	for i := range 3 * wordsKept {
		w.once(fmt.Sprint(i))
		w.once(strings.Repeat("x", longWord) + fmt.Sprint(i))
	}
	if len(w) > wordsKept {
		t.Errorf("%d words are kept", len(w))
	}
}
