package node_test

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stele-runtime/stele/actors/codec"
	"github.com/stele-runtime/stele/actors/container"
	"github.com/stele-runtime/stele/actors/entity"
	"github.com/stele-runtime/stele/actors/fault"
	"github.com/stele-runtime/stele/actors/host"
	"github.com/stele-runtime/stele/actors/id"
	"github.com/stele-runtime/stele/actors/image"
	"github.com/stele-runtime/stele/actors/node"
	"github.com/stele-runtime/stele/actors/sandbox"
	"github.com/stele-runtime/stele/eventlog"
	"github.com/stele-runtime/stele/eventlog/memlog"
)

// drivers carry out effects at once and with success, unless a test says
// otherwise. They check that the log announced each effect, and that no two work
// on one resource.
type drivers struct {
	t   *testing.T
	log *memlog.Log
	// node gets the exits of containers that are killed.
	node *node.Node

	mu sync.Mutex
	// on is called for the effect with that key, before it ends; its error is the
	// effect's.
	on map[string]func(context.Context) error
	// did holds the effects in the order of their beginning, as "owner: key".
	did []string
	// busy holds the resources that are being worked on.
	busy map[string]bool
}

// announcedBy names an event without which the effect must not happen.
var announcedBy = map[string]string{
	"prepare": "sandbox.SandboxRequested.v1", "attach network": "sandbox.SandboxRequested.v1", "start holder": "sandbox.SandboxRequested.v1",
	"stop holder": "sandbox.SandboxRequested.v1", "detach network": "sandbox.SandboxRequested.v1", "release": "sandbox.SandboxRequested.v1",
	"prepare rootfs": "container.ContainerRequested.v1", "create": "container.ContainerRequested.v1", "start": "container.StartRequested.v1",
	"update": "container.ResourcesUpdateRequested.v2", "kill": "container.KillRequested.v2", "delete": "container.ContainerRequested.v1", "release rootfs": "container.ContainerRequested.v1",
}

// effect is what the drivers look at in every effect.
type effect interface {
	Key() string
	Resource() string
}

func (d *drivers) carryOut(ctx context.Context, stream eventlog.Stream, owner string, f effect) error {
	if want := announcedBy[f.Key()]; want != "" && !slices.Contains(types(d.t, d.log, stream), want) {
		d.t.Errorf("%s of %s was begun without %s in the log", f.Key(), stream, want)
	}
	resource := owner + " " + f.Resource()
	d.mu.Lock()
	if d.busy[resource] {
		d.t.Errorf("two effects work on %s", resource)
	}
	d.busy[resource] = true
	d.did = append(d.did, owner+": "+f.Key())
	on := d.on[f.Key()]
	d.mu.Unlock()
	defer func() {
		d.mu.Lock()
		defer d.mu.Unlock()
		delete(d.busy, resource)
	}()
	if on != nil {
		return on(ctx)
	}
	return nil
}

// when makes effects with that key do something else; nil makes them succeed.
func (d *drivers) when(key string, f func(context.Context) error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.on[key] = f
}

// times counts the effects that were begun.
func (d *drivers) times(effect string) (n int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, did := range d.did {
		if did == effect {
			n++
		}
	}
	return n
}

func (d *drivers) Sandbox(ctx context.Context, f sandbox.Effect) sandbox.Command {
	pod := podOf(f)
	err := d.carryOut(ctx, eventlog.Stream("sandbox/"+pod.ID), string(pod.ID), f)
	if err == nil {
		switch f.(type) {
		case sandbox.AttachNetwork:
			return sandbox.AttachNetworkDone{IPs: []string{"10.0.0.2"}}
		case sandbox.StartHolder:
			return sandbox.StartHolderDone{PID: 7}
		}
	}
	return f.Failed(err, time.Now())
}

func podOf(f sandbox.Effect) sandbox.Pod {
	switch f := f.(type) {
	case sandbox.PrepareSandbox:
		return f.Pod
	case sandbox.AttachNetwork:
		return f.Pod
	case sandbox.StartHolder:
		return f.Pod
	case sandbox.StopHolder:
		return f.Pod
	case sandbox.DetachNetwork:
		return f.Pod
	case sandbox.ReleaseSandbox:
		return f.Pod
	}
	panic(fmt.Sprintf("%T is not for drivers", f))
}

func (d *drivers) Container(ctx context.Context, f container.Effect) container.Command {
	spec := specOf(f)
	err := d.carryOut(ctx, eventlog.Stream("container/"+spec.ID), string(spec.ID), f)
	if err == nil {
		switch f.(type) {
		case container.CreateRuntime:
			return container.CreateRuntimeDone{Process: container.Process{PID: 42}}
		case container.Kill:
			go func() {
				_ = d.node.Exited(context.Background(), string(spec.ID), container.Process{}, container.Exit{Code: 137, At: time.Now()})
			}()
		}
	}
	return f.Failed(err, time.Now())
}

func specOf(f container.Effect) container.Spec {
	switch f := f.(type) {
	case container.PrepareRootfs:
		return f.Spec
	case container.CreateRuntime:
		return f.Spec
	case container.StartRuntime:
		return f.Spec
	case container.SignalStop:
		return f.Spec
	case container.Kill:
		return f.Spec
	case container.Execute:
		return f.Spec
	case container.UpdateRuntime:
		return f.Spec
	case container.RotateLog:
		return f.Spec
	case container.DeleteRuntime:
		return f.Spec
	case container.ReleaseRootfs:
		return f.Spec
	}
	return container.Spec{}
}

func (d *drivers) Image(ctx context.Context, f image.Effect) image.Command {
	err := d.carryOut(ctx, "", "image", f)
	if fetch, is := f.(image.FetchImage); is && err == nil {
		return image.FetchImageDone{Pull: fetch.Pull, ImageID: "of " + fetch.Ref}
	}
	return f.Failed(err, time.Now())
}

const thisBoot = "boot-1"

// newDrivers returns drivers with a log of their own, which is of this boot.
func newDrivers(t *testing.T) *drivers {
	return driversWith(t, memlog.New(memlog.Options{BootID: thisBoot}))
}

func driversWith(t *testing.T, log *memlog.Log) *drivers {
	t.Cleanup(func() { _ = log.Close() })
	return &drivers{t: t, log: log, on: map[string]func(context.Context) error{}, busy: map[string]bool{}}
}

// newNode returns a node that is not booted. It is closed at the end of the test.
func newNode(t *testing.T, d *drivers, await func(context.Context, eventlog.Sequence) error) *node.Node {
	t.Helper()
	n, err := node.New(node.Config{
		Log: d.log, Executor: d, Await: await, Logger: slog.New(slog.NewTextHandler(io.Discard, nil)),
	})
	if err != nil {
		t.Fatal(err)
	}
	d.node = n
	t.Cleanup(func() { n.Close(t.Context()) })
	return n
}

// booted returns a node that has the log's past, on the boot that is named.
func booted(t *testing.T, d *drivers, bootID string) *node.Node {
	t.Helper()
	past := restore(t, d.log)
	n := newNode(t, d, nil)
	if err := n.Boot(t.Context(), past, startOf(bootID)); err != nil {
		t.Fatal(err)
	}
	return n
}

func startOf(bootID string) host.StartDaemon { return host.StartDaemon{BootID: bootID, At: time.Now()} }

// fresh returns a node with an empty past, and its drivers.
func fresh(t *testing.T) (*node.Node, *drivers) {
	t.Helper()
	d := newDrivers(t)
	return booted(t, d, thisBoot), d
}

// restore reads a log as projections do.
func restore(t *testing.T, log eventlog.Reader) entity.Past {
	t.Helper()
	past := entity.Past{
		Sandboxes:  map[id.Sandbox]entity.Restored[sandbox.State]{},
		Containers: map[id.Container]entity.Restored[container.State]{},
		Images:     map[string]entity.Restored[image.State]{},
	}
	for r, err := range log.Read(t.Context(), 1) {
		if err != nil {
			t.Fatal(err)
		}
		kind, name, _ := strings.Cut(string(r.Stream), "/")
		switch kind {
		case "sandbox":
			e, err := codec.DecodeSandbox(r.Type, r.Schema, r.Payload)
			past.Sandboxes[id.Sandbox(name)] = entity.As(r, sandbox.Evolve(past.Sandboxes[id.Sandbox(name)].State, must(t, e, err)))
		case "container":
			e, err := codec.DecodeContainer(r.Type, r.Schema, r.Payload)
			past.Containers[id.Container(name)] = entity.As(r, container.Evolve(past.Containers[id.Container(name)].State, must(t, e, err)))
		case "image":
			e, err := codec.DecodeImage(r.Type, r.Schema, r.Payload)
			past.Images[name] = entity.As(r, image.Evolve(past.Images[name].State, must(t, e, err)))
		}
	}
	past.Host = hostOf(t, log)
	maps.DeleteFunc(past.Sandboxes, func(_ id.Sandbox, at entity.Restored[sandbox.State]) bool { return sandbox.Ended(at.State) })
	maps.DeleteFunc(past.Containers, func(_ id.Container, at entity.Restored[container.State]) bool { return container.Ended(at.State) })
	maps.DeleteFunc(past.Images, func(_ string, at entity.Restored[image.State]) bool { return image.Ended(at.State) })
	return past
}

// hostOf reads the node's own stream.
func hostOf(t *testing.T, log eventlog.Reader) (at entity.Restored[host.State]) {
	t.Helper()
	for r, err := range log.ReadStream(t.Context(), node.HostStream, 1) {
		if err != nil {
			t.Fatal(err)
		}
		e, err := codec.DecodeHost(r.Type, r.Schema, r.Payload)
		at = entity.As(r, host.Evolve(at.State, must(t, e, err)))
	}
	return at
}

func must[T any](t *testing.T, v T, err error) T {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// types are the names of a stream's events; of all events if the stream is empty.
func types(t *testing.T, log eventlog.Reader, stream eventlog.Stream) []string {
	records := log.ReadStream(context.Background(), stream, 1)
	if stream == "" {
		records = log.Read(context.Background(), 1)
	}
	var names []string
	for r, err := range records {
		if err != nil {
			t.Error(err)
			break
		}
		names = append(names, r.Type)
	}
	return names
}

func runOf(name string) sandbox.Run {
	return sandbox.Run{
		ID: id.Sandbox("s-" + name), Name: sandbox.Name{Name: name, Namespace: "default", UID: "u"},
		ConfigDigest: "config", At: time.Now(),
	}
}

func createOf(s id.Sandbox, name string) container.Create {
	return container.Create{
		ID: id.Container("c-" + name), Sandbox: s, Name: container.Name{Name: name},
		ConfigDigest: "config", StopSignal: "SIGTERM", At: time.Now(),
	}
}

// run runs a sandbox and fails the test if it can't.
func run(t *testing.T, n *node.Node, r sandbox.Run) sandbox.State {
	t.Helper()
	s, err := n.RunSandbox(t.Context(), r)
	return must(t, s, err)
}

// create creates a container and fails the test if it can't.
func create(t *testing.T, n *node.Node, c container.Create) container.State {
	t.Helper()
	s, err := n.CreateContainer(t.Context(), c)
	return must(t, s, err)
}

func stop(t *testing.T, n *node.Node, s id.Sandbox) {
	t.Helper()
	state, err := n.Sandbox(t.Context(), s, sandbox.Stop{}, sandbox.StopAnswer)
	must(t, state, err)
}

func remove(t *testing.T, n *node.Node, s id.Sandbox) {
	t.Helper()
	state, err := n.Sandbox(t.Context(), s, sandbox.Remove{}, sandbox.RemoveAnswer)
	must(t, state, err)
}

func wantKind(t *testing.T, err error, kind fault.Kind) {
	t.Helper()
	if err == nil || fault.KindOf(err) != kind {
		t.Fatalf("the answer is %v, want a fault of kind %q", err, kind)
	}
}

// eventually waits until a condition holds that nothing announces; the test's own
// timeout ends the wait.
func eventually(t *testing.T, so func() bool) {
	t.Helper()
	for !so() {
		select {
		case <-t.Context().Done():
			return
		case <-time.After(time.Millisecond):
		}
	}
}

// blocked returns an action that signals its begin and ends with release or ctx.
func blocked() (action func(context.Context) error, begun chan struct{}, release chan struct{}) {
	begun, release = make(chan struct{}, 100), make(chan struct{})
	return func(ctx context.Context) error {
		begun <- struct{}{}
		select {
		case <-release:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}, begun, release
}
