package nri

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/containerd/nri/pkg/api"
	"github.com/containerd/nri/pkg/stub"
	specs "github.com/opencontainers/runtime-spec/specs-go"
	"google.golang.org/protobuf/proto"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/stele-runtime/stele/actors/fault"
	"github.com/stele-runtime/stele/executors/spec"
)

// patience is how long anything may take before a test gives up.
const patience = time.Minute

func TestMain(m *testing.M) {
	RouteLibraryLogs(slog.New(slog.DiscardHandler))
	os.Exit(m.Run())
}

// node is the Source of a test.
type node struct {
	mu         sync.Mutex
	containers []string
	updates    []string
	snapshot   func()
	refuse     error
}

func (n *node) Snapshot(_ context.Context, told func(string) bool) (pods []Pod, containers []Container, err error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.snapshot != nil {
		n.snapshot()
	}
	for _, id := range n.containers {
		if told(id) {
			containers = append(containers, Container{ID: id, PodID: "pod", State: Created})
		}
	}
	return []Pod{{ID: "pod", IPs: []string{"10.0.0.1"}}}, containers, nil
}

func (n *node) Update(_ context.Context, id string, r *cri.LinuxContainerResources) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.updates = append(n.updates, id+" "+r.String())
	return n.refuse
}

func (n *node) updated() []string {
	n.mu.Lock()
	defer n.mu.Unlock()
	return slices.Clone(n.updates)
}

// plugin records what it is told.
type plugin struct {
	mu     sync.Mutex
	told   []string
	synced chan []string
	adjust *api.ContainerAdjustment
	update []*api.ContainerUpdate
	ips    []string
}

func (p *plugin) Synchronize(_ context.Context, _ []*api.PodSandbox, containers []*api.Container) ([]*api.ContainerUpdate, error) {
	var ids []string
	for _, c := range containers {
		ids = append(ids, c.GetId())
	}
	p.synced <- ids
	return nil, nil
}

func (p *plugin) CreateContainer(_ context.Context, pod *api.PodSandbox, c *api.Container) (*api.ContainerAdjustment, []*api.ContainerUpdate, error) {
	p.note("create " + c.GetId())
	p.mu.Lock()
	p.ips = pod.GetIps()
	p.mu.Unlock()
	return p.adjust, p.update, nil
}

func (p *plugin) UpdateContainer(_ context.Context, _ *api.PodSandbox, c *api.Container, _ *api.LinuxResources) ([]*api.ContainerUpdate, error) {
	p.note("update " + c.GetId())
	return p.update, nil
}

func (p *plugin) StopContainer(_ context.Context, _ *api.PodSandbox, c *api.Container) ([]*api.ContainerUpdate, error) {
	p.note("stop " + c.GetId())
	return p.update, nil
}

func (p *plugin) RemoveContainer(_ context.Context, _ *api.PodSandbox, c *api.Container) error {
	p.note("remove " + c.GetId())
	return nil
}

func (p *plugin) note(what string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.told = append(p.told, what)
}

func (p *plugin) noted() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.told)
}

type silent struct{}

func (silent) Debugf(context.Context, string, ...any) {}
func (silent) Infof(context.Context, string, ...any)  {}
func (silent) Warnf(context.Context, string, ...any)  {}
func (silent) Errorf(context.Context, string, ...any) {}

// started returns a driver on a socket of its own.
func started(t *testing.T, source Source, change func(*Config)) (*Driver, string) {
	t.Helper()
	dir := t.TempDir()
	c := Config{
		Socket: filepath.Join(dir, "nri.sock"), PluginDir: filepath.Join(dir, "plugins"), PluginConfigDir: filepath.Join(dir, "conf.d"),
		RegistrationTimeout: patience, RequestTimeout: patience, Version: "test", Logger: slog.New(slog.DiscardHandler),
		Limits: Limits{Swap: true, Hugetlb: true, CgroupV2: true}, MemoryMax: spec.MemoryMax,
	}
	if change != nil {
		change(&c)
	}
	d, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	d.Start(source)
	t.Cleanup(d.Close)
	return d, c.Socket
}

// connect connects a plug-in; its Synchronize is under way or over when it returns.
func connect(t *testing.T, socket string, p *plugin) stub.Stub {
	t.Helper()
	s, err := tryConnect(t, socket, p)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func tryConnect(t *testing.T, socket string, p *plugin) (stub.Stub, error) {
	t.Helper()
	p.synced = make(chan []string, 8)
	s, err := stub.New(p, stub.WithPluginName("p"), stub.WithPluginIdx("10"), stub.WithSocketPath(socket), stub.WithOnClose(func() {}), stub.WithLogger(silent{}))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Stop)
	return s, s.Start(t.Context())
}

func synced(t *testing.T, p *plugin) []string {
	t.Helper()
	select {
	case ids := <-p.synced:
		return ids
	case <-time.After(patience):
		t.Fatal("the plug-in was not synchronized")
		return nil
	}
}

func eventually(t *testing.T, what string, condition func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !condition(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("waited in vain: %s", what)
		}
	}
}

func factsOf(id string) Facts {
	return func() (Pod, Container, error) {
		return Pod{ID: "pod"}, Container{ID: id, PodID: "pod", Config: &cri.ContainerConfig{}, Spec: &specs.Spec{Process: &specs.Process{Env: []string{"A=1", "B=2"}}}}, nil
	}
}

func unasked(t *testing.T) Facts {
	return func() (Pod, Container, error) {
		t.Error("nobody listens, and the facts are asked for")
		return Pod{}, Container{}, nil
	}
}

// Without a plug-in, nothing is looked at.
func TestNobodyListens(t *testing.T) {
	d, _ := started(t, &node{}, nil)
	for _, d := range []*Driver{d, nil} {
		if a, err := d.CreateContainer(t.Context(), "c", unasked(t)); err != nil || a.JSON != "" {
			t.Errorf("%+v, %v", a, err)
		}
		d.PostCreateContainer(t.Context(), "c", unasked(t))
		if err := d.StartContainer(t.Context(), "c", unasked(t)); err != nil {
			t.Error(err)
		}
		d.PostStartContainer(t.Context(), "c", unasked(t))
		change := &cri.LinuxContainerResources{CpuShares: 3}
		if got, err := d.UpdateContainer(t.Context(), "c", change, unasked(t)); err != nil || got != change {
			t.Errorf("%v, %v", got, err)
		}
		d.PostUpdateContainer(t.Context(), "c", unasked(t))
		d.StopContainer(t.Context(), "c", unasked(t))
		d.RemoveContainer(t.Context(), "c", unasked(t))
		pod := func() (Pod, error) { t.Error("asked for"); return Pod{}, nil }
		if err := errors.Join(d.RunPod(t.Context(), "p", nil, pod), d.UpdatePod(t.Context(), "p", nil, nil, pod)); err != nil {
			t.Error(err)
		}
		d.PostUpdatePod(t.Context(), "p", pod)
		d.StopPod(t.Context(), "p", pod)
		d.RemovePod(t.Context(), "p", pod)
		if d.Problem() != nil {
			t.Error(d.Problem())
		}
	}
	if d.told.has("c") || d.told.has("p") {
		t.Errorf("it remembers %v and %v", d.told.pods, d.told.containers)
	}
}

// A container whose creation began before a plug-in was there is in its snapshot, although
// the projections do not have it yet.
func TestSnapshotHasCreations(t *testing.T) {
	n := &node{containers: []string{"begun", "other"}}
	d, socket := started(t, n, nil)
	if _, err := d.CreateContainer(t.Context(), "begun", factsOf("begun")); err != nil {
		t.Fatal(err)
	}
	p := &plugin{}
	connect(t, socket, p)
	if ids := synced(t, p); !slices.Equal(ids, []string{"begun"}) {
		t.Errorf("it is told of %q", ids)
	}
	// Waits until the plug-in is registered.
	if _, err := d.CreateContainer(t.Context(), "later", factsOf("later")); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		d.StopContainer(t.Context(), "begun", factsOf("begun"))
		d.RemoveContainer(t.Context(), "later", factsOf("later"))
		d.RemoveContainer(t.Context(), "begun", factsOf("begun"))
		d.RemoveContainer(t.Context(), "unknown", factsOf("unknown"))
	}
	want := []string{"create later", "stop begun", "stop later", "remove later", "remove begun"}
	if told := p.noted(); !slices.Equal(told, want) {
		t.Errorf("it is told %q, want %q", told, want)
	}
	if !slices.Equal(p.ips, []string{"10.0.0.1"}) {
		t.Errorf("the pod's addresses are %q", p.ips)
	}
}

// Every container reaches a plug-in once, by its snapshot or by the hook, whenever it
// connects.
func TestNoneIsLost(t *testing.T) {
	n := &node{}
	d, socket := started(t, n, nil)
	const many = 200
	begun, made := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(made)
		for i := range many {
			id := string(rune('a'+i%26)) + strings.Repeat("x", i/26)
			n.mu.Lock()
			n.containers = append(n.containers, id)
			n.mu.Unlock()
			if _, err := d.CreateContainer(context.Background(), id, factsOf(id)); err != nil {
				t.Error(err)
			}
			if i == 20 {
				close(begun)
			}
		}
	}()
	<-begun
	p := &plugin{}
	connect(t, socket, p)
	ids := synced(t, p)
	<-made
	for _, told := range p.noted() {
		ids = append(ids, strings.TrimPrefix(told, "create "))
	}
	slices.Sort(ids)
	if unique := slices.Compact(slices.Clone(ids)); len(unique) != many || len(ids) != many {
		t.Errorf("it is told of %d containers, of %d different ones, want %d", len(ids), len(unique), many)
	}
}

func TestUpdates(t *testing.T) {
	n := &node{}
	d, socket := started(t, n, nil)
	update := func(id string) *api.ContainerUpdate {
		u := &api.ContainerUpdate{}
		u.SetContainerId(id)
		u.SetLinuxMemoryLimit(5)
		return u
	}
	p := &plugin{}
	s := connect(t, socket, p)
	synced(t, p)
	if failed, err := s.UpdateContainers([]*api.ContainerUpdate{update("asked")}); err != nil || len(failed) > 0 {
		t.Errorf("%v, %v", failed, err)
	}
	p.update = []*api.ContainerUpdate{update("beside")}
	if _, err := d.CreateContainer(t.Context(), "c", factsOf("c")); err != nil {
		t.Error(err)
	}
	p.update = []*api.ContainerUpdate{update("after")}
	d.StopContainer(t.Context(), "c", factsOf("c"))
	eventually(t, "the update after a stop", func() bool { return len(n.updated()) == 3 })
	if got, want := n.updated(), []string{"asked memory_limit_in_bytes:5", "beside memory_limit_in_bytes:5", "after memory_limit_in_bytes:5"}; !slices.Equal(got, want) {
		t.Errorf("updated were %q, want %q", got, want)
	}

	n.mu.Lock()
	n.refuse = fault.New(fault.Invalid, "update", "x", "too low")
	n.mu.Unlock()
	if _, err := s.UpdateContainers([]*api.ContainerUpdate{update("x")}); err == nil || !strings.Contains(err.Error(), "too low") {
		t.Errorf("a refused update ends with %v", err)
	}
	p.update = []*api.ContainerUpdate{update("x")}
	if _, err := d.CreateContainer(t.Context(), "c", factsOf("c")); err == nil || !strings.Contains(err.Error(), "too low") {
		t.Errorf("a creation whose update is refused ends with %v", err)
	}
	p.update[0].SetIgnoreFailure()
	if _, err := d.CreateContainer(t.Context(), "c", factsOf("c")); err != nil {
		t.Errorf("a creation whose update may fail ends with %v", err)
	}
}

// A plug-in changes a change, and others beside it; one that it leaves alone stays whole.
func TestUpdateIsChanged(t *testing.T) {
	n := &node{}
	d, socket := started(t, n, nil)
	p := &plugin{}
	connect(t, socket, p)
	synced(t, p)
	asked := &cri.LinuxContainerResources{CpuShares: 7, MemoryLimitInBytes: 100, OomScoreAdj: 9, CpusetCpus: "0"}
	if got, err := d.UpdateContainer(t.Context(), "c", asked, factsOf("c")); err != nil || !proto.Equal(got, asked) {
		t.Errorf("unchanged it is %v, %v", got, err)
	}
	own, other := &api.ContainerUpdate{}, &api.ContainerUpdate{}
	own.SetContainerId("c")
	own.SetLinuxCPUShares(70)
	other.SetContainerId("other")
	other.SetLinuxCPUSetCPUs("1")
	p.update = []*api.ContainerUpdate{own, other}
	want := &cri.LinuxContainerResources{CpuShares: 70, MemoryLimitInBytes: 100, OomScoreAdj: 9, CpusetCpus: "0"}
	if got, err := d.UpdateContainer(t.Context(), "c", asked, factsOf("c")); err != nil || !proto.Equal(got, want) {
		t.Errorf("changed it is %v, %v, want %v", got, err, want)
	}
	if got := n.updated(); !slices.Equal(got, []string{`other cpuset_cpus:"1"`}) {
		t.Errorf("beside it, %q were updated", got)
	}
}

// A variable that a plug-in takes away is away, although the library forgets it.
func TestRemovedVariable(t *testing.T) {
	d, socket := started(t, &node{}, nil)
	p := &plugin{adjust: &api.ContainerAdjustment{}}
	p.adjust.RemoveEnv("A")
	connect(t, socket, p)
	synced(t, p)
	_, c, _ := factsOf("c")()
	made, err := d.CreateContainer(t.Context(), "c", func() (Pod, Container, error) { return Pod{}, c, nil })
	if err != nil || !slices.Equal(c.Spec.Process.Env, []string{"B=2"}) || made.JSON != `{"env":[{"key":"-A"}]}` || !slices.Equal(made.Plugins, []string{"10-p"}) {
		t.Errorf("the environment is %q; %+v, %v", c.Spec.Process.Env, made, err)
	}
}

// A folder that cannot be used is a problem that the node's status tells. With the validator
// enabled, nothing may pass without it.
func TestUnusableFolder(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "no-index"), []byte("#!/bin/sh\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	d, _ := started(t, &node{}, func(c *Config) { c.PluginDir = dir })
	var degraded interface{ Degraded() bool }
	if err := d.Problem(); !errors.As(err, &degraded) || !strings.Contains(err.Error(), dir) {
		t.Errorf("the problem is %v", err)
	}
	if _, err := d.CreateContainer(t.Context(), "c", unasked(t)); err != nil {
		t.Errorf("a creation without plug-ins ends with %v", err)
	}
	d, _ = started(t, &node{}, func(c *Config) { c.PluginDir, c.Validator.Enable = dir, true })
	if _, err := d.CreateContainer(t.Context(), "c", unasked(t)); err == nil || !strings.Contains(err.Error(), "validator") {
		t.Errorf("a creation without the validator ends with %v", err)
	}
}

// A socket that is served stays its server's; one that a dead daemon left is taken.
func TestServedSocket(t *testing.T) {
	first, socket := started(t, &node{}, nil)
	second, _ := started(t, &node{}, func(c *Config) { c.Socket = socket })
	if err := second.Problem(); err == nil || !strings.Contains(err.Error(), socket) {
		t.Errorf("the second driver's problem is %v", err)
	}
	p := &plugin{}
	connect(t, socket, p)
	synced(t, p)
	if _, err := first.CreateContainer(t.Context(), "c", factsOf("c")); err != nil || len(p.noted()) != 1 {
		t.Errorf("the first driver's plug-in is told %q, %v", p.noted(), err)
	}
	left := filepath.Join(t.TempDir(), "left.sock")
	if err := os.WriteFile(left, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	third, _ := started(t, &node{}, func(c *Config) { c.Socket = left })
	if err := third.Problem(); err != nil {
		t.Errorf("a socket that is left is a problem: %v", err)
	}
}

// A panic while a plug-in is told what exists costs only that plug-in.
func TestPanicInSnapshot(t *testing.T) {
	n := &node{}
	_, socket := started(t, n, nil)
	n.mu.Lock()
	asked := make(chan struct{})
	n.snapshot = func() {
		close(asked)
		panic("oops")
	}
	n.mu.Unlock()
	_, _ = tryConnect(t, socket, &plugin{}) // It may be dropped before it hears that it is registered.
	<-asked
	n.mu.Lock()
	n.snapshot = nil
	n.mu.Unlock()
	p := &plugin{}
	connect(t, socket, p)
	synced(t, p)
}

// Hooks wait for the plug-ins of the folder, and no longer than their caller.
func TestHooksWaitForTheStart(t *testing.T) {
	d, err := New(Config{Socket: filepath.Join(t.TempDir(), "s"), RegistrationTimeout: patience, RequestTimeout: patience, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := d.CreateContainer(gone, "c", unasked(t)); !strings.Contains(err.Error(), "canceled") {
		t.Errorf("a hook before the start ends with %v", err)
	}
	d.Start(&node{})
	d.Close()
}

// BenchmarkNobodyListens is what the hooks of a container's life cost without a plug-in.
func BenchmarkNobodyListens(b *testing.B) {
	d, err := New(Config{Socket: filepath.Join(b.TempDir(), "s"), RegistrationTimeout: patience, RequestTimeout: patience, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		b.Fatal(err)
	}
	d.Start(&node{})
	defer d.Close()
	facts := factsOf("c")
	b.ReportAllocs()
	for b.Loop() {
		if _, err := d.CreateContainer(b.Context(), "c", facts); err != nil {
			b.Fatal(err)
		}
		d.PostCreateContainer(b.Context(), "c", facts)
		_ = d.StartContainer(b.Context(), "c", facts)
		d.PostStartContainer(b.Context(), "c", facts)
		d.StopContainer(b.Context(), "c", facts)
		d.RemoveContainer(b.Context(), "c", facts)
	}
}
