package projections

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"pgregory.net/rapid"

	"github.com/stele-runtime/stele/actors/codec"
	"github.com/stele-runtime/stele/actors/container"
	"github.com/stele-runtime/stele/actors/entity"
	"github.com/stele-runtime/stele/actors/host"
	"github.com/stele-runtime/stele/actors/id"
	"github.com/stele-runtime/stele/actors/image"
	"github.com/stele-runtime/stele/actors/sandbox"
	"github.com/stele-runtime/stele/eventlog"
	"github.com/stele-runtime/stele/eventlog/memlog"
)

var (
	quiet = slog.New(slog.NewTextHandler(io.Discard, nil))
	epoch = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
)

// actor is a machine with its stream: it decides commands and appends the events, as
// actors/entity does.
type actor[S, C, E any] struct {
	stream eventlog.Stream
	at     entity.Restored[S]
	decide func(S, C) ([]E, error)
	evolve func(S, E) S
	ended  func(S) bool
	encode func(E) (codec.Encoded, error)
}

func (a *actor[S, C, E]) do(log eventlog.Log, c C) error {
	// An ended stream gets no more events.
	if a.at.Version > 0 && a.ended(a.at.State) {
		return nil
	}
	events, err := a.decide(a.at.State, c)
	if err != nil || len(events) == 0 {
		return nil // refused, or nothing to do
	}
	request := eventlog.Append{Stream: a.stream, Expected: a.at.Version, Volatile: true}
	for _, e := range events {
		encoded, err := a.encode(e)
		if err != nil {
			return err
		}
		request.Entries = append(request.Entries, eventlog.Entry{Type: encoded.Type, Schema: encoded.Schema, Payload: encoded.Payload})
	}
	records, err := log.Append(context.Background(), request)
	for i, r := range records {
		a.at = entity.As(r, a.evolve(a.at.State, events[i]))
	}
	return err
}

type (
	sandboxActor   = actor[sandbox.State, sandbox.Command, sandbox.Event]
	containerActor = actor[container.State, container.Command, container.Event]
	imageActor     = actor[image.State, image.Command, image.Event]
	hostActor      = actor[host.State, host.Command, host.Event]
)

func newSandbox(name string) *sandboxActor {
	return &sandboxActor{
		stream: eventlog.Stream("sandbox/" + name),
		decide: sandbox.Decide, evolve: sandbox.Evolve, ended: sandbox.Ended, encode: codec.EncodeSandbox,
	}
}

func newContainer(name string) *containerActor {
	return &containerActor{
		stream: eventlog.Stream("container/" + name),
		decide: container.Decide, evolve: container.Evolve, ended: container.Ended, encode: codec.EncodeContainer,
	}
}

// town is a node's machines with their common log.
type town struct {
	log        *memlog.Log
	sandboxes  []*sandboxActor
	containers []*containerActor
	images     []*imageActor
	host       *hostActor
}

func newTown(log *memlog.Log) *town {
	n := &town{log: log, host: &hostActor{
		stream: "node", decide: host.Decide, evolve: host.Evolve,
		ended: func(host.State) bool { return false }, encode: codec.EncodeHost,
	}}
	for i := range 3 {
		n.sandboxes = append(n.sandboxes, newSandbox(fmt.Sprint("s", i)))
		n.containers = append(n.containers, newContainer(fmt.Sprint("c", i)))
		n.images = append(n.images, newImage(fmt.Sprint("i", i)))
	}
	return n
}

var errBroken = errors.New("broken")

// walk makes random things happen.
func (n *town) walk(t *rapid.T, steps int) {
	for range rapid.IntRange(0, steps).Draw(t, "steps") {
		i := rapid.IntRange(0, 2).Draw(t, "which")
		now := epoch.Add(time.Duration(rapid.IntRange(0, 1000).Draw(t, "second")) * time.Second)
		var failure error
		if rapid.IntRange(0, 4).Draw(t, "fails") == 0 {
			failure = errBroken
		}
		var err error
		switch rapid.SampledFrom([]string{"sandbox", "sandbox", "container", "container", "image", "node"}).Draw(t, "kind") {
		case "sandbox":
			commands := sandboxCommands(i, now, failure)
			if n.sandboxes[i].at.Version == 0 {
				commands = commands[:1]
			}
			err = n.sandboxes[i].do(n.log, rapid.SampledFrom(commands).Draw(t, "command"))
		case "container":
			commands := containerCommands(i, now, failure)
			if n.containers[i].at.Version == 0 {
				commands = commands[:1]
			}
			err = n.containers[i].do(n.log, rapid.SampledFrom(commands).Draw(t, "command"))
		case "image":
			err = n.images[i].do(n.log, rapid.SampledFrom([]image.Command{
				image.RequestPull{Ref: fmt.Sprint("ref", i), Pull: "p", At: now}, image.Remove{Ref: fmt.Sprint("ref", i)},
				image.FetchImageDone{Pull: "p", ImageID: "id", Err: failure}, image.DeleteImageDone{Err: failure},
			}).Draw(t, "command"))
		case "node":
			err = n.host.do(n.log, rapid.SampledFrom([]host.Command{
				host.StartDaemon{BootID: fmt.Sprint("boot", i), At: now}, host.StopDaemon{At: now}, host.ReportNetwork{Network: "n"},
			}).Draw(t, "command"))
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

// sandboxCommands are the commands that a sandbox can get; the first is the only one
// before it exists.
func sandboxCommands(i int, now time.Time, err error) []sandbox.Command {
	c := id.Container(fmt.Sprint("c", i))
	resources, _ := proto.Marshal(&runtimeapi.LinuxPodSandboxConfig{Resources: &runtimeapi.LinuxContainerResources{CpuShares: now.Unix()}})
	return []sandbox.Command{
		runOf(fmt.Sprint("s", i), now), sandbox.PrepareSandboxDone{Err: err}, sandbox.AttachNetworkDone{IPs: []string{"10.0.0.2"}, Err: err},
		sandbox.StartHolderDone{PID: 7, Err: err}, sandbox.AddContainer{Container: c}, sandbox.ForgetContainer{Container: c},
		sandbox.UpdateResources{Resources: resources},
		sandbox.Stop{}, sandbox.Remove{}, sandbox.NodeRebooted{}, sandbox.StopContainerDone{Container: c, Err: err, At: now},
		sandbox.RemoveContainerDone{Container: c, Err: err, At: now}, sandbox.StopHolderDone{Err: err, At: now},
		sandbox.DetachNetworkDone{Err: err, At: now}, sandbox.ReleaseSandboxDone{Err: err, At: now},
	}
}

func containerCommands(i int, now time.Time, err error) []container.Command {
	resources, _ := proto.Marshal(&runtimeapi.LinuxContainerResources{CpuShares: int64(i) + 2})
	return []container.Command{
		createOf(fmt.Sprint("c", i), fmt.Sprint("s", i), now), container.PrepareRootfsDone{Err: err},
		container.CreateRuntimeDone{Process: container.Process{PID: 42}, Err: err}, container.Start{},
		container.StartRuntimeDone{Err: err, At: now}, container.Stop{Request: "r", Grace: time.Second, At: now}, container.WithdrawStop{Request: "r"},
		container.RecordExit{Exit: container.Exit{Code: i, At: now}}, container.RunExec{Exec: "x", Command: []string{"true"}},
		container.ExecuteDone{Exec: "x", Err: err}, container.ReopenLog{}, container.RotateLogDone{Reopen: 1, Err: err},
		container.UpdateResources{Change: []byte{1}}, container.UpdateRuntimeDone{Update: 1, Resources: resources, Err: err},
		container.KillDone{Err: err, At: now}, container.Remove{}, container.DeleteRuntimeDone{Err: err, At: now}, container.ReleaseRootfsDone{Err: err, At: now},
	}
}

func runOf(name string, at time.Time) sandbox.Run {
	config, _ := proto.Marshal(&runtimeapi.PodSandboxConfig{Hostname: name})
	return sandbox.Run{ID: id.Sandbox(name), Name: sandbox.Name{Name: name}, Config: config, SharedPID: true, At: at}
}

func createOf(name, in string, at time.Time) container.Create {
	config, _ := proto.Marshal(&runtimeapi.ContainerConfig{WorkingDir: name})
	return container.Create{ID: id.Container(name), Sandbox: id.Sandbox(in), Config: config, At: at}
}

// fold reads each stream on its own and returns what has not ended.
func fold(t fatal, log eventlog.Reader) entity.Past {
	past := entity.Past{
		Sandboxes:  map[id.Sandbox]entity.Restored[sandbox.State]{},
		Containers: map[id.Container]entity.Restored[container.State]{},
		Images:     map[string]entity.Restored[image.State]{},
	}
	streams := map[eventlog.Stream]bool{}
	for r, err := range log.Read(context.Background(), 1) {
		if err != nil {
			t.Fatal(err)
		}
		streams[r.Stream] = true
	}
	for stream := range streams {
		kind, name, _ := strings.Cut(string(stream), "/")
		switch kind {
		case "sandbox":
			if at := stateOf(t, log, stream, codec.DecodeSandbox, sandbox.Evolve); !sandbox.Ended(at.State) {
				past.Sandboxes[id.Sandbox(name)] = at
			}
		case "container":
			if at := stateOf(t, log, stream, codec.DecodeContainer, container.Evolve); !container.Ended(at.State) {
				past.Containers[id.Container(name)] = at
			}
		case "image":
			if at := stateOf(t, log, stream, codec.DecodeImage, image.Evolve); !image.Ended(at.State) {
				past.Images[at.State.Ref] = at
			}
		case "node":
			past.Host = stateOf(t, log, stream, codec.DecodeHost, host.Evolve)
		}
	}
	return past
}

type fatal interface{ Fatal(args ...any) }

func stateOf[S, E any](t fatal, log eventlog.Reader, stream eventlog.Stream, decode func(string, uint32, []byte) (E, error), evolve func(S, E) S) (at entity.Restored[S]) {
	for r, err := range log.ReadStream(context.Background(), stream, 1) {
		if err != nil {
			t.Fatal(err)
		}
		e, err := decode(r.Type, r.Schema, r.Payload)
		if err != nil {
			t.Fatal(err)
		}
		at = entity.As(r, evolve(at.State, e))
	}
	return at
}

// opened returns a feed that is complete and not running.
func opened(t fatal, log eventlog.Log) *Feed {
	f, err := Open(context.Background(), log, Options{Logger: quiet})
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// save saves a checkpoint of a feed that is not running.
func save(t fatal, f *Feed) {
	f.checkpoint()
	if err := f.saver.save(context.Background(), <-f.saver.drafts); err != nil {
		t.Fatal(err)
	}
}

// await waits until something is so.
func await(t *testing.T, so func() bool) {
	t.Helper()
	for !so() {
		if t.Context().Err() != nil {
			t.Fatal(t.Context().Err())
		}
		time.Sleep(time.Millisecond)
	}
}

// answers are what the models answer, apart from Past.
func answers(f *Feed) map[string]any {
	l := f.Live
	all := map[string]any{"sequence": l.Sequence(), "damaged": l.Damaged()}
	for _, s := range l.Sandboxes() {
		all["sandbox "+string(s.State.ID)] = fmt.Sprint(s.State.Phase, s.Version, s.Config().GetHostname(), s.Config().GetLinux().GetResources().GetCpuShares())
	}
	for _, c := range l.Containers() {
		all["container "+string(c.State.ID)] = fmt.Sprint(c.State.Phase, c.Version, c.Config().GetWorkingDir(), c.Shown.Limits.String(), c.Config().GetLinux().GetResources().GetCpuShares())
	}
	for _, p := range l.Pulls() {
		all["pull "+p.Ref] = len(p.Pulls)
	}
	for _, e := range f.History.Ended() {
		all["ended "+string(e.Stream)] = e
	}
	return all
}

func newMemlog(t testing.TB) *memlog.Log {
	log := memlog.New(memlog.Options{})
	t.Cleanup(func() { _ = log.Close() })
	return log
}
