package cri

import (
	"context"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/proto"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/stele-runtime/stele/actors/codec"
	"github.com/stele-runtime/stele/actors/container"
	"github.com/stele-runtime/stele/actors/fault"
	"github.com/stele-runtime/stele/actors/id"
	"github.com/stele-runtime/stele/actors/image"
	"github.com/stele-runtime/stele/actors/sandbox"
	"github.com/stele-runtime/stele/cri/streaming"
	"github.com/stele-runtime/stele/eventlog"
	"github.com/stele-runtime/stele/eventlog/memlog"
	"github.com/stele-runtime/stele/executors/streams"
	"github.com/stele-runtime/stele/projections"
)

// actors record what they are asked and answer as a test says.
type actors struct {
	mu    sync.Mutex
	asked []any
	// err is the answer to everything, nil for success.
	err error
	// container answers commands to containers, if it is not nil.
	container func(context.Context, container.Command, func(container.State, container.Event) (bool, error)) error
}

func (a *actors) ask(c any) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.asked = append(a.asked, c)
	return a.err
}

// last returns what was asked last.
func (a *actors) last() any {
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.asked) == 0 {
		return nil
	}
	return a.asked[len(a.asked)-1]
}

func (a *actors) RunSandbox(_ context.Context, c sandbox.Run) (sandbox.State, error) {
	return sandbox.State{ID: c.ID}, a.ask(c)
}

func (a *actors) CreateContainer(_ context.Context, c container.Create) (container.State, error) {
	return container.State{ID: c.ID}, a.ask(c)
}

func (a *actors) Sandbox(_ context.Context, _ id.Sandbox, c sandbox.Command, _ func(sandbox.State, sandbox.Event) (bool, error)) (sandbox.State, error) {
	return sandbox.State{}, a.ask(c)
}

func (a *actors) Container(ctx context.Context, _ id.Container, c container.Command, until func(container.State, container.Event) (bool, error)) (container.State, error) {
	err := a.ask(c)
	if a.container != nil {
		err = a.container(ctx, c, until)
	}
	return container.State{}, err
}

func (a *actors) Image(_ context.Context, ref string, c image.Command, _ func(image.State, image.Event) (bool, error)) (image.State, error) {
	return image.State{Ref: ref, Last: image.Result{ImageID: "id of " + ref}}, a.ask(c)
}

// images are the images of a store.
type images []Image

func (s images) List(context.Context) ([]Image, error) { return s, nil }

func (s images) Resolve(_ context.Context, ref string) (Image, error) {
	for _, i := range s {
		if i.ID == ref || len(i.Tags) > 0 && i.Tags[0] == ref {
			return i, nil
		}
	}
	if ref == "broken" {
		return Image{}, fault.New(fault.Internal, "resolve", ref, "the store is broken")
	}
	return Image{}, fault.New(fault.NotFound, "resolve", ref, "there is none")
}

func (images) Usage(context.Context) (Usage, error) {
	return Usage{At: epoch, ImagePath: "/images", ContainerPath: "/layers", ImageBytes: 1, ImageInodes: 2, ContainerBytes: 3, ContainerInodes: 4}, nil
}

// credentials count what is kept.
type credentials struct{ kept int }

func (c *credentials) Keep(ref, _ string, auth *runtimeapi.AuthConfig) (id.Pull, func()) {
	c.kept++
	return id.Pull(ref + " for " + auth.GetUsername()), func() { c.kept-- }
}

// execs have every command write the same.
type execs struct {
	open  int
	stdio streams.Stdio
}

func (x *execs) Begin(_ context.Context, _ id.Exec, stdio streams.Stdio) func() {
	x.open++
	x.stdio = stdio
	for text, to := range map[string]io.Writer{"out": stdio.Stdout, "err": stdio.Stderr} {
		if to != nil {
			_, _ = io.WriteString(to, text)
		}
	}
	return func() { x.open-- }
}

// streamsFake keep what a URL leads to.
type streamsFake struct {
	command streaming.Command
	forward streaming.Forward
	err     error
}

func (s *streamsFake) Exec(c streaming.Command) (string, error) {
	s.command = c
	return "exec", s.err
}

func (s *streamsFake) Attach(c streaming.Command) (string, error) {
	s.command = c
	return "attach", s.err
}

func (s *streamsFake) PortForward(f streaming.Forward) (string, error) {
	s.forward = f
	return "portforward", s.err
}

// processes say what they are asked.
type processes struct{}

func (processes) Attach(_ context.Context, c id.Container, _ streams.Stdio) error {
	return fmt.Errorf("attached to %s", c)
}

func (processes) Dial(_ context.Context, pod id.Sandbox, hostNetwork bool, port uint16) (*net.TCPConn, error) {
	return nil, fmt.Errorf("dialed %d in %s, host network %v", port, pod, hostNetwork)
}

// specs are the OCI specs of containers.
type specs map[id.Container]string

func (s specs) RuntimeSpec(c id.Container) ([]byte, error) {
	if s[c] == "unreadable" {
		return nil, fs.ErrPermission
	}
	if spec, there := s[c]; there {
		return []byte(spec), nil
	}
	return nil, fs.ErrNotExist
}

// figures are what the kernel has: of every container whose id does not begin with "gone".
type figures struct {
	// pods are the members of the last question about pods.
	pods []Members
}

func (*figures) Containers(ctx context.Context, containers []*projections.Container) ([]*runtimeapi.ContainerStats, error) {
	answer := make([]*runtimeapi.ContainerStats, len(containers))
	for i, x := range containers {
		answer[i] = &runtimeapi.ContainerStats{WritableLayer: &runtimeapi.FilesystemUsage{Timestamp: 1}}
		if !strings.HasPrefix(string(x.State.ID), "gone") {
			answer[i].Cpu = &runtimeapi.CpuUsage{Timestamp: 1}
		}
	}
	return answer, ctx.Err()
}

func (f *figures) Pods(ctx context.Context, pods []Members) ([]*runtimeapi.LinuxPodSandboxStats, error) {
	f.pods = pods
	answer := make([]*runtimeapi.LinuxPodSandboxStats, len(pods))
	for i, m := range pods {
		containers, _ := f.Containers(ctx, m.Containers)
		answer[i] = &runtimeapi.LinuxPodSandboxStats{Cpu: &runtimeapi.CpuUsage{Timestamp: 1}, Containers: containers}
	}
	return answer, ctx.Err()
}

func (f *figures) PodMetrics(ctx context.Context, pods []Members) ([]*runtimeapi.PodSandboxMetrics, error) {
	f.pods = pods
	answer := make([]*runtimeapi.PodSandboxMetrics, len(pods))
	for i, m := range pods {
		answer[i] = &runtimeapi.PodSandboxMetrics{PodSandboxId: string(m.Pod.State.ID)}
	}
	return answer, ctx.Err()
}

func (*figures) Descriptors() []*runtimeapi.MetricDescriptor {
	return []*runtimeapi.MetricDescriptor{{Name: "container_last_seen"}}
}

// places are where things would be.
type places struct{}

func (places) Namespaces(s sandbox.State) map[string]string {
	if s.Released || !s.Prepared {
		return nil
	}
	return map[string]string{"network": "/ns/" + string(s.ID) + "/net", "ipc": "/ns/" + string(s.ID) + "/ipc"}
}
func (places) SandboxCgroup(s sandbox.State) string { return "/pods/" + string(s.ID) }
func (places) ContainerCgroup(s container.State) string {
	return "/pods/" + string(s.Sandbox) + "/" + string(s.ID)
}

// validator refuses what is called bad.
type validator struct{}

func (validator) Sandbox(c *runtimeapi.PodSandboxConfig) error {
	if c.GetHostname() == "bad" {
		return invalid("config.hostname", "is bad")
	}
	return nil
}

func (validator) Container(c *runtimeapi.ContainerConfig, _ *runtimeapi.PodSandboxConfig) error {
	if c.GetWorkingDir() == "bad" {
		return invalid("config.working_dir", "is bad")
	}
	return nil
}

func (validator) UpdateSandbox(*runtimeapi.UpdatePodSandboxResourcesRequest) error { return nil }

func (validator) Update(_ *runtimeapi.ContainerConfig, change *runtimeapi.UpdateContainerResourcesRequest) error {
	if change.GetLinux() == nil {
		return invalid("linux", "is missing")
	}
	return nil
}

// userModes gives no pod anything.
type userModes struct{}

func (userModes) Sandbox(_ id.Sandbox, _ string, c *runtimeapi.PodSandboxConfig) (*runtimeapi.PodSandboxConfig, func(bool), error) {
	return c, func(bool) {}, nil
}

func (userModes) Container(c *runtimeapi.ContainerConfig, _ *runtimeapi.PodSandboxConfig) *runtimeapi.ContainerConfig {
	return c
}

var (
	epoch = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	quiet = slog.New(slog.NewTextHandler(io.Discard, nil))
)

// desk is a service with all that is around it.
type desk struct {
	*Service
	actors      *actors
	credentials *credentials
	execs       *execs
	streams     *streamsFake
	specs       specs
	figures     *figures
	log         *memlog.Log
	feed        *projections.Feed
	t           testing.TB
}

// newDesk returns a service over what the records hold that write appends.
func newDesk(t testing.TB, write func(*desk)) *desk {
	t.Helper()
	d := &desk{actors: &actors{}, credentials: &credentials{}, execs: &execs{}, streams: &streamsFake{}, specs: specs{}, figures: &figures{}, log: memlog.New(memlog.Options{}), t: t}
	t.Cleanup(func() { _ = d.log.Close() })
	if write != nil {
		write(d)
	}
	feed, err := projections.Open(t.Context(), d.log, projections.Options{Logger: quiet})
	if err != nil {
		t.Fatal(err)
	}
	d.feed = feed
	well := func() error { return nil }
	d.Service = New(Parts{
		Actors: d.actors, Views: feed.Live, PodEvents: feed.PodEvents,
		Images:      images{{ID: "sha256:1", Tags: []string{"web:1"}, StopSignal: "SIGQUIT", UID: new(int64(7))}, {ID: "sha256:2", Tags: []string{"plain:1"}, Username: "nobody"}},
		Credentials: d.credentials, Execs: d.execs, Streams: d.streams, Processes: processes{}, Specs: d.specs, Places: places{}, Stats: d.figures, Validator: validator{}, UserModes: userModes{}, Plugins: plugins{},
		Health: Health{Log: well, Monitor: well, Network: well, Confinement: well, Plugins: well, Handler: func(string) error { return nil }},
		Handlers: func() []*runtimeapi.RuntimeHandler {
			return []*runtimeapi.RuntimeHandler{{Name: "runc"}, {Name: "other"}}
		},
		DefaultHandler: "runc", DaemonVersion: "1.2.3", CgroupDriver: runtimeapi.CgroupDriver_CGROUPFS,
		Info: func() map[string]any { return map[string]any{"config": map[string]int{"x": 1}} }, Logger: quiet,
	})
	return d
}

// sandboxEvents and containerEvents append to a stream, behind what is there.
func (d *desk) sandboxEvents(name string, events ...sandbox.Event) {
	d.t.Helper()
	for _, e := range events {
		encoded, err := codec.EncodeSandbox(e)
		d.append(eventlog.Stream("sandbox/"+name), encoded, err)
	}
}

func (d *desk) containerEvents(name string, events ...container.Event) {
	d.t.Helper()
	for _, e := range events {
		encoded, err := codec.EncodeContainer(e)
		d.append(eventlog.Stream("container/"+name), encoded, err)
	}
}

func (d *desk) append(stream eventlog.Stream, e codec.Encoded, err error) {
	d.t.Helper()
	var version eventlog.Version
	for r := range d.log.ReadStream(d.t.Context(), stream, 1) {
		version = r.Version
	}
	if err == nil {
		_, err = d.log.Append(d.t.Context(), eventlog.Append{Stream: stream, Expected: version, Entries: []eventlog.Entry{{Type: e.Type, Schema: e.Schema, Payload: e.Payload}}})
	}
	if err != nil {
		d.t.Fatal(err)
	}
}

// ready are the events of a sandbox that is ready.
func ready(name string, config *runtimeapi.PodSandboxConfig) []sandbox.Event {
	encoded, _ := proto.Marshal(config)
	return []sandbox.Event{
		sandbox.SandboxRequested{ID: id.Sandbox(name), Name: sandbox.Name{Name: name}, Handler: "runc", Config: encoded, At: epoch},
		sandbox.SandboxPrepared{},
		sandbox.NetworkAttached{IPs: []string{"10.0.0.2", "fd00::2"}},
		sandbox.SandboxReady{},
	}
}

// created are the events of a container that was created.
func created(name, in string, config *runtimeapi.ContainerConfig) []container.Event {
	encoded, _ := proto.Marshal(config)
	return []container.Event{
		container.ContainerRequested{ID: id.Container(name), Sandbox: id.Sandbox(in), Config: encoded, Image: "sha256:1", LogPath: "/logs/" + name, StopSignal: "SIGTERM", At: epoch},
		container.RootfsPrepared{},
		container.ContainerCreated{Process: container.Process{PID: 42}, User: container.User{UID: 1000, GID: 2000, Groups: []uint32{2000, 3000}}},
	}
}

func running(name, in string, config *runtimeapi.ContainerConfig) []container.Event {
	return append(created(name, in, config), container.StartRequested{}, container.ContainerStarted{At: epoch.Add(time.Second)})
}

// follow has the projections follow the log.
func (d *desk) follow() {
	d.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = d.feed.Run(ctx)
	}()
	d.t.Cleanup(func() {
		cancel()
		<-done
	})
}

// settle waits until the projections have read the whole log.
func (d *desk) settle() {
	d.t.Helper()
	if err := d.feed.Await(d.t.Context(), d.log.Last()); err != nil {
		d.t.Fatal(err)
	}
}

// serve serves the services on a socket, and returns clients with gRPC's default limits.
func (d *desk) serve(options ...grpc.DialOption) (runtimeapi.RuntimeServiceClient, runtimeapi.ImageServiceClient) {
	d.t.Helper()
	listener, err := net.Listen("unix", filepath.Join(d.t.TempDir(), "s"))
	if err != nil {
		d.t.Fatal(err)
	}
	guard := Guard{Logger: quiet}
	server := grpc.NewServer(grpc.MaxSendMsgSize(MessageMost), grpc.UnaryInterceptor(guard.Unary), grpc.StreamInterceptor(guard.Stream))
	runtimeapi.RegisterRuntimeServiceServer(server, d)
	runtimeapi.RegisterImageServiceServer(server, d)
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	d.t.Cleanup(func() {
		server.Stop()
		<-served
	})
	conn, err := grpc.NewClient("unix://"+listener.Addr().String(), append(options, grpc.WithTransportCredentials(insecure.NewCredentials()))...)
	if err != nil {
		d.t.Fatal(err)
	}
	d.t.Cleanup(func() { _ = conn.Close() })
	return runtimeapi.NewRuntimeServiceClient(conn), runtimeapi.NewImageServiceClient(conn)
}

// plugins refuse nothing.
type plugins struct{}

func (plugins) UpdatePod(context.Context, sandbox.State, *runtimeapi.LinuxContainerResources, *runtimeapi.LinuxContainerResources) error {
	return nil
}
