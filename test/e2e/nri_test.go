package e2e

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/containerd/nri/pkg/api"
	"google.golang.org/grpc/codes"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// A plug-in is told of every step of a life, in order, with the facts of that moment.
func TestNRILife(t *testing.T) {
	t.Parallel()
	h := New(t, programs, Options{})
	p := addPlugin(h, "10", "watch", &plugin{})
	pod := h.RunPod(h.PodConfig("life"))
	id := pod.Run(h.ContainerConfig("c"))
	h.StopContainer(id, 0)
	h.RemoveContainer(id)
	failing := pod.Run(h.ContainerConfig("own-end", "sh", "-c", "exit 7"))
	h.WaitExit(failing)
	h.Eventually("the plug-in is told of an end that nobody asked for", func() bool {
		return slices.Contains(p.Told(), "StopContainer own-end")
	})
	ended := p.Last("StopContainer")
	if ended.GetExitCode() != 7 || ended.GetState() != api.ContainerState_CONTAINER_STOPPED || ended.GetFinishedAt() == 0 {
		t.Errorf("of the end it is told %v", ended)
	}
	pod.Remove()
	want := []string{
		"RunPodSandbox life",
		"CreateContainer c", "PostCreateContainer c", "StartContainer c", "PostStartContainer c", "StopContainer c", "RemoveContainer c",
		"CreateContainer own-end", "PostCreateContainer own-end", "StartContainer own-end", "PostStartContainer own-end", "StopContainer own-end",
		"StopPodSandbox life", "RemoveContainer own-end", "RemovePodSandbox life",
	}
	if told := p.Told(); !slices.Equal(told, want) {
		t.Errorf("the plug-in is told\n%q\nwant\n%q", told, want)
	}
	run := p.LastPod("RunPodSandbox")
	if run.GetId() != pod.ID || run.GetNamespace() != "e2e" || run.GetUid() != pod.Config.Metadata.Uid || run.GetLabels()["pod"] != "life" ||
		run.GetAnnotations()["note"] != "of life" || run.GetRuntimeHandler() != "runc" || len(run.GetIps()) != 1 || run.GetLinux().GetCgroupParent() != h.CgroupParent {
		t.Errorf("of the pod it is told %v", run)
	}
	network := slices.IndexFunc(run.GetLinux().GetNamespaces(), func(n *api.LinuxNamespace) bool { return n.GetType() == "network" })
	if network < 0 || !strings.HasPrefix(run.GetLinux().GetNamespaces()[network].GetPath(), h.State) {
		t.Errorf("the pod's namespaces are told as %v", run.GetLinux().GetNamespaces())
	}
	created := p.Last("CreateContainer")
	if created.GetId() != failing || created.GetPodSandboxId() != pod.ID || created.GetLabels()["suite"] != "e2e" || created.GetState() != api.ContainerState_CONTAINER_CREATED ||
		!slices.Equal(created.GetArgs(), []string{"sh", "-c", "exit 7"}) || len(created.GetMounts()) == 0 || created.GetLinux().GetCgroupsPath() == "" || created.GetPid() != 0 {
		t.Errorf("of the container it is told %v", created)
	}
	started := p.Last("PostStartContainer")
	if started.GetState() != api.ContainerState_CONTAINER_RUNNING || started.GetPid() == 0 || started.GetStartedAt() == 0 || !slices.Equal(p.LastPod("PostStartContainer").GetIps(), run.GetIps()) {
		t.Errorf("of the start it is told %v", started)
	}
}

// A pod on the node's network has no network to wait for, and none to detach.
func TestNRIHostNetwork(t *testing.T) {
	t.Parallel()
	h := New(t, programs, Options{})
	p := addPlugin(h, "10", "watch", &plugin{})
	config := h.PodConfig("host")
	config.Linux.SecurityContext.NamespaceOptions.Network = runtimeapi.NamespaceMode_NODE
	pod := h.RunPod(config)
	pod.Stop()
	h.Eventually("the plug-in is told of the stop", func() bool { return slices.Contains(p.Told(), "StopPodSandbox host") })
	pod.Stop()
	pod.Remove()
	if told, want := p.Told(), []string{"RunPodSandbox host", "StopPodSandbox host", "RemovePodSandbox host"}; !slices.Equal(told, want) {
		t.Errorf("the plug-in is told %q, want %q", told, want)
	}
}

// What plug-ins ask for is in the container, in its status, and in its history.
func TestNRIAdjusts(t *testing.T) {
	t.Parallel()
	h := New(t, programs, Options{})
	shared := filepath.Join(h.Share, "seen")
	if err := os.WriteFile(shared, []byte("from the node"), 0o644); err != nil {
		t.Fatal(err)
	}
	marker := filepath.Join(h.Share, "hook-ran")
	addPlugin(h, "10", "first", &plugin{Create: func(_ *api.PodSandbox, _ *api.Container) (*api.ContainerAdjustment, []*api.ContainerUpdate, error) {
		a := &api.ContainerAdjustment{}
		a.AddEnv("GREETING", "hello")
		a.AddEnv("FROM_CONFIG", "plugin")
		a.RemoveEnv("UNWANTED")
		a.AddMount(&api.Mount{Source: shared, Destination: "/seen", Type: "bind", Options: []string{"bind", "ro"}})
		a.AddAnnotation("nri/by", "first")
		a.AddHooks(&api.Hooks{CreateRuntime: []*api.Hook{{Path: "/bin/sh", Args: []string{"sh", "-c", "echo ran > " + marker}}}})
		return a, nil, nil
	}})
	addPlugin(h, "20", "second", &plugin{Create: func(_ *api.PodSandbox, c *api.Container) (*api.ContainerAdjustment, []*api.ContainerUpdate, error) {
		if !slices.Contains(c.GetEnv(), "GREETING=hello") {
			return nil, nil, fmt.Errorf("what the first plug-in changed is not seen: %v", c.GetEnv())
		}
		a := &api.ContainerAdjustment{}
		a.AddDevice(&api.LinuxDevice{Path: "/dev/adjusted", Type: "c", Major: 1, Minor: 3})
		a.AddRlimit("RLIMIT_NOFILE", 456, 123)
		a.SetLinuxMemoryLimit(96 << 20)
		a.SetLinuxCPUShares(256)
		a.SetLinuxCPUSetCPUs("0")
		score := 321
		a.SetLinuxOomScoreAdj(&score)
		return a, nil, nil
	}})
	pod := h.RunPod(h.PodConfig("adjusted"))
	config := h.ContainerConfig("c")
	config.Envs = []*runtimeapi.KeyValue{{Key: "FROM_CONFIG", Value: []byte("config")}, {Key: "UNWANTED", Value: []byte("x")}}
	config.Linux.Resources = &runtimeapi.LinuxContainerResources{MemoryLimitInBytes: 64 << 20, CpuPeriod: 100_000, CpuQuota: 50_000}
	id := pod.Run(config)
	for command, want := range map[string]string{
		"echo $GREETING $FROM_CONFIG [$UNWANTED]": "hello plugin []",
		"cat /seen": "from the node",
		"test -c /dev/adjusted && echo > /dev/adjusted": "",
		"ulimit -Sn; ulimit -Hn":                        "123\n456",
		"cat /proc/1/oom_score_adj":                     "321",
	} {
		if got := h.Exec(id, "sh", "-c", command); got != want && !strings.HasPrefix(command, "ulimit") {
			t.Errorf("%s gives %q, want %q", command, got, want)
		}
	}
	limits, err := os.ReadFile(fmt.Sprintf("/proc/%d/limits", h.ContainerPID(id)))
	if err != nil || !strings.Contains(strings.Join(strings.Fields(string(limits)), " "), "Max open files 123 456") {
		t.Errorf("the limits are %s, %v", limits, err)
	}
	if ran, err := os.ReadFile(marker); err != nil || string(ran) != "ran\n" {
		t.Errorf("the hook: %q, %v", ran, err)
	}
	if got := memoryLimit(t, h.ContainerPID(id)); got != fmt.Sprint(96<<20) {
		t.Errorf("the limit of memory is %s", got)
	}
	history := h.Stele("events", "-o", "wide", id)
	for _, word := range []string{`nri_plugins`, "10-first", "20-second", `"/seen"`, `"GREETING"`, "[redacted]"} {
		if !strings.Contains(history, word) {
			t.Errorf("the history has no %s:\n%s", word, history)
		}
	}
	if shown := h.Stele("inspect", id); !strings.Contains(shown, "20-second") || strings.Contains(shown, "hello") {
		t.Errorf("the state is shown as\n%s", shown)
	}
}

// memoryLimit is a process's limit of memory, as its cgroup has it.
func memoryLimit(t testing.TB, pid int) string {
	t.Helper()
	dir, v2 := cgroupOf(t, pid, "memory")
	file := "memory.limit_in_bytes"
	if v2 {
		file = "memory.max"
	}
	got, err := os.ReadFile(filepath.Join(dir, file))
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(got))
}

// A refusal ends what it is about, with the plug-in's name, and nothing is left of it.
func TestNRIRefuses(t *testing.T) {
	t.Parallel()
	h := New(t, programs, Options{})
	p := addPlugin(h, "10", "stern", &plugin{})

	p.Run = func(*api.PodSandbox) error { return errors.New("no pods today") }
	_, err := h.TryRunPod(h.PodConfig("refused"))
	h.Refused(err, codes.FailedPrecondition, "10-stern", "no pods today")
	if told, want := p.Told(), []string{"RunPodSandbox refused", "StopPodSandbox refused", "RemovePodSandbox refused"}; !slices.Equal(told, want) {
		t.Errorf("the plug-in is told %q, want %q", told, want)
	}
	p.Run = nil
	pod := h.RunPod(h.PodConfig("pod"))

	p.Forget()
	p.Create = func(*api.PodSandbox, *api.Container) (*api.ContainerAdjustment, []*api.ContainerUpdate, error) {
		return nil, nil, errors.New("no containers today")
	}
	_, err = pod.TryCreate(h.ContainerConfig("c"))
	h.Refused(err, codes.FailedPrecondition, "10-stern", "no containers today")
	if told, want := p.Told(), []string{"CreateContainer c", "StopContainer c", "RemoveContainer c"}; !slices.Equal(told, want) {
		t.Errorf("the plug-in is told %q, want %q", told, want)
	}
	p.Create = nil

	id := pod.Create(h.ContainerConfig("c"))
	p.Start = func(*api.Container) error { return errors.New("no starts today") }
	_, err = h.Runtime.StartContainer(h.Context(), &runtimeapi.StartContainerRequest{ContainerId: id})
	h.Refused(err, codes.FailedPrecondition, "10-stern", "no starts today")
	if status := h.WaitExit(id); status.Reason != "StartError" || !strings.Contains(status.Message, "no starts today") {
		t.Errorf("its status is %v", status)
	}

	// An error about an end changes nothing.
	p.StopPod = func(*api.PodSandbox) error { return errors.New("stay") }
	pod.Remove()
}

// Hostile and impossible adjustments end a creation, with the plug-in's name and the field.
func TestNRIBadAdjustments(t *testing.T) {
	t.Parallel()
	h := New(t, programs, Options{})
	p := addPlugin(h, "10", "evil", &plugin{})
	pod := h.RunPod(h.PodConfig("bad"))
	for name, bad := range map[string]struct {
		change func(*api.ContainerAdjustment)
		words  []string
	}{
		"zero byte in a variable": {func(a *api.ContainerAdjustment) { a.AddEnv("A", "x\x00y") }, []string{"env[0].value", `x\x00y`}},
		"variable without a name": {func(a *api.ContainerAdjustment) { a.AddEnv("", "x") }, []string{"env[0].key"}},
		"variable with a =":       {func(a *api.ContainerAdjustment) { a.AddEnv("A=B", "x") }, []string{"env[0].key", "A=B"}},
		"relative mount":          {func(a *api.ContainerAdjustment) { a.AddMount(&api.Mount{Destination: "x", Source: "/", Type: "bind"}) }, []string{"mounts[0].destination", `"x"`}},
		"mount outside": {func(a *api.ContainerAdjustment) {
			a.AddMount(&api.Mount{Destination: "/../../x", Source: "/", Type: "bind"})
		}, []string{"mounts[0].destination"}},
		"zero byte in a mount": {func(a *api.ContainerAdjustment) {
			a.AddMount(&api.Mount{Destination: "/x\x00", Source: "/", Type: "bind"})
		}, []string{"mounts[0].destination"}},
		"mount of nothing": {func(a *api.ContainerAdjustment) {
			a.AddMount(&api.Mount{Destination: "/x", Source: "/not/there", Type: "bind", Options: []string{"bind"}})
		}, []string{"/not/there"}},
		"relative hook":      {func(a *api.ContainerAdjustment) { a.AddHooks(&api.Hooks{Poststop: []*api.Hook{{Path: "x"}}}) }, []string{"hooks", `"x"`}},
		"relative device":    {func(a *api.ContainerAdjustment) { a.AddDevice(&api.LinuxDevice{Path: "x", Type: "c"}) }, []string{"linux.devices[0].path"}},
		"unknown namespace":  {func(a *api.ContainerAdjustment) { a.AddOrReplaceNamespace(&api.LinuxNamespace{Type: "colour"}) }, []string{"linux.namespaces", "colour"}},
		"unknown rlimit":     {func(a *api.ContainerAdjustment) { a.AddRlimit("RLIMIT_FUN", 1, 1) }, []string{"RLIMIT_FUN"}},
		"soft above hard":    {func(a *api.ContainerAdjustment) { a.AddRlimit("RLIMIT_NOFILE", 1, 2) }, []string{"rlimits[0]"}},
		"little memory":      {func(a *api.ContainerAdjustment) { a.SetLinuxMemoryLimit(1) }, []string{"linux.resources.memory.limit", "1 is too low"}},
		"negative memory":    {func(a *api.ContainerAdjustment) { a.SetLinuxMemoryLimit(-5) }, []string{"linux.resources.memory.limit"}},
		"unknown CPUs":       {func(a *api.ContainerAdjustment) { a.SetLinuxCPUSetCPUs("999") }, []string{"cpuset"}},
		"class of block I/O": {func(a *api.ContainerAdjustment) { a.SetLinuxBlockIOClass("gold") }, []string{"linux.resources.blockio_class", "gold"}},
		"CDI device":         {func(a *api.ContainerAdjustment) { a.AddCDIDevice(&api.CDIDevice{Name: "vendor.com/x=y"}) }, []string{"CDI"}},
		"too large":          {func(a *api.ContainerAdjustment) { a.AddEnv("A", strings.Repeat("x", 300<<10)) }, []string{"bytes"}},
		"cgroup outside":     {func(a *api.ContainerAdjustment) { a.SetLinuxCgroupsPath("/a/../../b") }, []string{"linux.cgroups_path"}},
	} {
		t.Run(name, func(t *testing.T) {
			h := h.In(t)
			p.Create = func(*api.PodSandbox, *api.Container) (*api.ContainerAdjustment, []*api.ContainerUpdate, error) {
				a := &api.ContainerAdjustment{}
				bad.change(a)
				return a, nil, nil
			}
			_, err := pod.TryCreate(h.ContainerConfig("c"))
			if err == nil {
				t.Fatal("the container was created")
			}
			for _, word := range append(bad.words, "10-evil") {
				if !strings.Contains(err.Error(), word) {
					t.Errorf("got %v, want a message with %q", err, word)
				}
			}
		})
	}
	p.Create = nil
	pod.Run(h.ContainerConfig("c"))
}

// Two plug-ins that want the same thing otherwise are both named.
func TestNRIConflict(t *testing.T) {
	t.Parallel()
	h := New(t, programs, Options{})
	for index, name := range map[string]string{"10": "one", "20": "other"} {
		addPlugin(h, index, name, &plugin{Create: func(*api.PodSandbox, *api.Container) (*api.ContainerAdjustment, []*api.ContainerUpdate, error) {
			a := &api.ContainerAdjustment{}
			a.AddEnv("COLOUR", name)
			return a, nil, nil
		}})
	}
	pod := h.RunPod(h.PodConfig("conflict"))
	_, err := pod.TryCreate(h.ContainerConfig("c"))
	h.Refused(err, codes.FailedPrecondition, "10-one", "20-other", "COLOUR")
}

// A plug-in that hangs is dropped, and the creation goes on without it.
func TestNRIHang(t *testing.T) {
	t.Parallel()
	h := New(t, programs, Options{NRI: `nri_plugin_request_timeout = "300ms"`})
	release := make(chan struct{})
	defer close(release)
	p := addPlugin(h, "10", "slow", &plugin{Create: func(*api.PodSandbox, *api.Container) (*api.ContainerAdjustment, []*api.ContainerUpdate, error) {
		<-release
		return nil, nil, nil
	}})
	other := addPlugin(h, "20", "quick", &plugin{Create: func(*api.PodSandbox, *api.Container) (*api.ContainerAdjustment, []*api.ContainerUpdate, error) {
		a := &api.ContainerAdjustment{}
		a.AddEnv("BY", "quick")
		return a, nil, nil
	}})
	pod := h.RunPod(h.PodConfig("hang"))
	id := pod.Run(h.ContainerConfig("c"))
	if got := h.Exec(id, "sh", "-c", "echo $BY"); got != "quick" {
		t.Errorf("the other plug-in's variable is %q", got)
	}
	if told := p.Told(); slices.Contains(told, "StartContainer c") || !slices.Contains(other.Told(), "StartContainer c") {
		t.Errorf("the dropped plug-in is told %q, the other one %q", told, other.Told())
	}
	if !strings.Contains(h.Daemon.Log(), "closing plugin 10-slow") {
		t.Error("the log does not say that the plug-in was dropped")
	}
}

// Plug-ins of the folder are started, with their configurations. One that dies in the middle
// of a request, and one that hangs when a pod is stopped, hold up nothing.
func TestNRIFolder(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	plugins, configs := filepath.Join(dir, "plugins"), filepath.Join(dir, "conf.d")
	for _, d := range []string{plugins, configs} {
		if err := os.Mkdir(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for name, config := range map[string]string{
		"10-good": `{"env": ["BY=folder"]}`, "20-dies": `{"env": ["X=x"], "die": "CreateContainer"}`, "30-hangs": `{"hang": "StopPodSandbox"}`,
	} {
		if err := os.Link(programs.NRIPlugin, filepath.Join(plugins, name)); err != nil {
			copied, failed := os.ReadFile(programs.NRIPlugin)
			if failed != nil {
				t.Fatal(failed)
			}
			if err := os.WriteFile(filepath.Join(plugins, name), copied, 0o755); err != nil {
				t.Fatal(err)
			}
		}
		if err := os.WriteFile(filepath.Join(configs, name+".conf"), []byte(config), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	h := New(t, programs, Options{NRI: fmt.Sprintf("nri_plugin_dir = %q\nnri_plugin_config_dir = %q\nnri_disable_connections = true\nnri_plugin_request_timeout = \"1s\"", plugins, configs)})
	pod := h.RunPod(h.PodConfig("folder"))
	id := pod.Run(h.ContainerConfig("c"))
	if got := h.Exec(id, "sh", "-c", "echo $BY$X"); got != "folder" {
		t.Errorf("the plug-ins' variables are %q", got)
	}
	pod.Remove()
	for _, name := range []string{"20-dies", "30-hangs"} {
		if !strings.Contains(h.Daemon.Log(), "closing plugin "+name) {
			t.Errorf("the log does not say that %s was dropped", name)
		}
	}
	if _, err := os.Stat(h.NRISocket); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the socket is there although connections are disabled: %v", err)
	}
}

// A plug-in that connects late, again, or to the next daemon, is told what is there.
func TestNRISynchronize(t *testing.T) {
	t.Parallel()
	h := New(t, programs, Options{})
	pod := h.RunPod(h.PodConfig("pod"))
	running := pod.Run(h.ContainerConfig("running"))
	pod.Create(h.ContainerConfig("created"))
	ended := pod.Run(h.ContainerConfig("ended", "true"))
	h.WaitExit(ended)
	const want = "container created CREATED, container running RUNNING, pod pod"
	p := addPlugin(h, "10", "late", &plugin{})
	if got := p.Synced(); got != want {
		t.Errorf("it is told of %s, want %s", got, want)
	}
	p.mu.Lock()
	synced := p.containers["running"]
	p.mu.Unlock()
	if synced.GetId() != running || synced.GetPid() != uint32(h.ContainerPID(running)) || len(synced.GetArgs()) == 0 || synced.GetStartedAt() == 0 {
		t.Errorf("of the running container it is told %v", synced)
	}

	p.stub.Stop()
	connectPlugin(h, "10", "late", p)
	if got := p.Synced(); got != want {
		t.Errorf("connected again, it is told of %s, want %s", got, want)
	}
	p.stub.Stop()
	h.Daemon.Kill9()
	h.Daemon.Start()
	connectPlugin(h, "10", "late", p)
	if got := p.Synced(); got != want {
		t.Errorf("by the next daemon it is told of %s, want %s", got, want)
	}
	// What is in the snapshot has its end.
	p.Forget()
	h.StopContainer(running, 0)
	h.Eventually("the plug-in is told of the end", func() bool { return slices.Contains(p.Told(), "StopContainer running") })
	h.RemoveContainer(ended)
	if slices.Contains(p.Told(), "RemoveContainer ended") {
		t.Error("it is told of a container that it never heard of")
	}
}

// A daemon dies after the runtime made a container: the next one undoes that. The kubelet makes
// another, for which the plug-ins that there are now are asked.
func TestNRICrashInCreation(t *testing.T) {
	t.Parallel()
	h := New(t, programs, Options{NRI: `nri_plugin_request_timeout = "30s"`})
	made, release := make(chan struct{}, 1), make(chan struct{})
	colour := "red"
	p := &plugin{
		Create: func(*api.PodSandbox, *api.Container) (*api.ContainerAdjustment, []*api.ContainerUpdate, error) {
			a := &api.ContainerAdjustment{}
			a.AddEnv("COLOUR", colour)
			return a, nil, nil
		},
		PostCreated: func(*api.Container) {
			made <- struct{}{}
			<-release
		},
	}
	addPlugin(h, "10", "painter", p)
	pod := h.RunPod(h.PodConfig("crash"))
	config := h.ContainerConfig("c")
	gone := make(chan error, 1)
	go func() {
		_, err := h.Runtime.CreateContainer(context.Background(), &runtimeapi.CreateContainerRequest{PodSandboxId: pod.ID, Config: config, SandboxConfig: pod.Config})
		gone <- err
	}()
	<-made
	h.Daemon.Kill9()
	close(release)
	<-gone
	p.stub.Stop()
	h.Daemon.Start()
	// Without a plug-in, the next daemon wants no adjustment. The kubelet asks until it gets
	// a container.
	var id string
	h.Eventually("the container is created", func() bool {
		var err error
		id, err = pod.TryCreate(config)
		return err == nil
	})
	h.StartContainer(id)
	if got := h.Exec(id, "sh", "-c", "echo [$COLOUR]"); got != "[]" {
		t.Errorf("the container has the colour %s of a plug-in that is gone", got)
	}
	if got := h.Stele("events", "-o", "wide", id); strings.Contains(got, "10-painter") {
		t.Errorf("its history tells an adjustment that it does not have:\n%s", got)
	}
}

// The validator refuses what the configuration forbids, and misses required plug-ins.
func TestNRIValidator(t *testing.T) {
	t.Parallel()
	h := New(t, programs, Options{NRI: `
[nri.default_validator]
nri_enable_default_validator = true
nri_validator_reject_oci_hook_adjustment = true
nri_validator_required_plugins = ["needed"]
nri_validator_tolerate_missing_plugins_annotation = "may.miss"
`})
	pod := h.RunPod(h.PodConfig("validated"))
	_, err := pod.TryCreate(h.ContainerConfig("c"))
	h.Refused(err, codes.FailedPrecondition, `required plugin "needed"`)
	config := h.PodConfig("tolerant")
	config.Annotations["may.miss"] = "true"
	h.RunPod(config).Run(h.ContainerConfig("c"))
	addPlugin(h, "10", "needed", &plugin{Create: func(_ *api.PodSandbox, c *api.Container) (*api.ContainerAdjustment, []*api.ContainerUpdate, error) {
		a := &api.ContainerAdjustment{}
		if c.GetName() == "hooked" {
			a.AddHooks(&api.Hooks{Poststop: []*api.Hook{{Path: "/bin/true"}}})
		}
		return a, nil, nil
	}})
	_, err = pod.TryCreate(h.ContainerConfig("hooked"))
	h.Refused(err, codes.FailedPrecondition, "10-needed", "hook")
	pod.Run(h.ContainerConfig("c"))
}

// A socket that another process serves stays its own; the daemon says so, and goes on.
func TestNRISocketTaken(t *testing.T) {
	t.Parallel()
	first := New(t, programs, Options{})
	p := addPlugin(first, "10", "first", &plugin{})
	second := New(t, programs, Options{Configure: func(h *Harness) string {
		return fmt.Sprintf("[image]\nregistries_conf = %q\nregistries_conf_dir = %q\nsignature_policy = %q\n[nri]\nnri_listen = %q\n",
			h.Registry.RegistriesConf, h.Registry.RegistriesConfDir, filepath.Join(filepath.Dir(first.Root), "policy.json"), first.NRISocket)
	}})
	second.RunPod(second.PodConfig("second")).Run(second.ContainerConfig("c"))
	status, err := second.Runtime.Status(second.Context(), &runtimeapi.StatusRequest{})
	if err != nil || !status.Status.Conditions[0].Status || !strings.Contains(status.Status.Conditions[0].Message, first.NRISocket) {
		t.Errorf("its status is %v, %v", status, err)
	}
	first.RunPod(first.PodConfig("pod"))
	if told := p.Told(); !slices.Equal(told, []string{"RunPodSandbox pod"}) {
		t.Errorf("the first one's plug-in is told %q", told)
	}
}

// limited is a running container that a plug-in may update.
type limited struct {
	*Harness
	pod    *Pod
	id     string
	plugin *plugin
}

// newLimited runs a container with a limit of 64 MiB that the plug-in makes 80 MiB.
func newLimited(t *testing.T) limited {
	t.Helper()
	h := New(t, programs, Options{})
	c := limited{Harness: h, plugin: addPlugin(h, "10", "limiter", &plugin{}), pod: h.RunPod(h.PodConfig("updates"))}
	config := h.ContainerConfig("c")
	config.Linux.Resources = &runtimeapi.LinuxContainerResources{MemoryLimitInBytes: 64 << 20}
	c.plugin.Create = func(*api.PodSandbox, *api.Container) (*api.ContainerAdjustment, []*api.ContainerUpdate, error) {
		a := &api.ContainerAdjustment{}
		a.SetLinuxMemoryLimit(80 << 20)
		return a, nil, nil
	}
	c.id = c.pod.Run(config)
	c.plugin.Create = nil
	c.plugin.Forget()
	c.has("created", 80<<20)
	return c
}

// has checks the limit of memory, in the status and in the cgroup.
func (c limited) has(when string, bytes int64) {
	c.t.Helper()
	if got := c.ContainerStatus(c.id).GetResources().GetLinux().GetMemoryLimitInBytes(); got != bytes {
		c.t.Errorf("%s, the status has a limit of %d, want %d", when, got, bytes)
	}
	if got := memoryLimit(c.t, c.ContainerPID(c.id)); got != fmt.Sprint(bytes) {
		c.t.Errorf("%s, the cgroup has a limit of %s, want %d", when, got, bytes)
	}
}

// limit is a plug-in's wish for another limit of memory.
func (c limited) limit(bytes int64) *api.ContainerUpdate {
	u := &api.ContainerUpdate{}
	u.SetContainerId(c.id)
	u.SetLinuxMemoryLimit(bytes)
	return u
}

// update is the kubelet's.
func (c limited) update(bytes int64) error {
	_, err := c.Runtime.UpdateContainerResources(c.Context(), &runtimeapi.UpdateContainerResourcesRequest{
		ContainerId: c.id, Linux: &runtimeapi.LinuxContainerResources{MemoryLimitInBytes: bytes},
	})
	return err
}

// Plug-ins change an update, or refuse it. The status shows what is in force.
func TestNRIUpdates(t *testing.T) {
	t.Parallel()
	c := newLimited(t)
	p := c.plugin
	p.Update = func(_ *api.Container, r *api.LinuxResources) ([]*api.ContainerUpdate, error) {
		if got := r.GetMemory().GetLimit().GetValue(); got != 96<<20 {
			return nil, fmt.Errorf("asked about a limit of %d", got)
		}
		return []*api.ContainerUpdate{c.limit(112 << 20)}, nil
	}
	if err := c.update(96 << 20); err != nil {
		t.Fatal(err)
	}
	c.has("updated and changed", 112<<20)
	if told, want := p.Told(), []string{"UpdateContainer c", "PostUpdateContainer c"}; !slices.Equal(told, want) {
		t.Errorf("the plug-in is told %q, want %q", told, want)
	}
	if told := p.Last("PostUpdateContainer"); told.GetState() != api.ContainerState_CONTAINER_RUNNING || told.GetLinux().GetResources().GetMemory().GetLimit().GetValue() != 112<<20 {
		t.Errorf("after the update it is told %v", told)
	}
	p.Update = func(*api.Container, *api.LinuxResources) ([]*api.ContainerUpdate, error) {
		return nil, errors.New("no more")
	}
	c.Refused(c.update(96<<20), codes.FailedPrecondition, "10-limiter", "no more")
	c.has("refused", 112<<20)
}

// Plug-ins want updates by themselves, or with another container's creation. They are part of
// the history, and another daemon knows of them.
func TestNRIPluginUpdates(t *testing.T) {
	t.Parallel()
	c := newLimited(t)
	p := c.plugin
	if failed, err := p.stub.UpdateContainers([]*api.ContainerUpdate{c.limit(128 << 20)}); err != nil || len(failed) > 0 {
		t.Errorf("the plug-in's own update: %v, %v", failed, err)
	}
	c.has("updated by the plug-in", 128<<20)
	if told := p.Told(); len(told) > 0 {
		t.Errorf("about its own update it is told %q", told)
	}
	if history := c.Stele("events", "-o", "wide", c.id); !strings.Contains(history, "by_plugin=true") {
		t.Errorf("the history does not say who wanted it:\n%s", history)
	}
	for name, bad := range map[string]*api.ContainerUpdate{"too low": c.limit(4096), "unknown": {ContainerId: "nobody", Linux: c.limit(1 << 30).Linux}} {
		if _, err := p.stub.UpdateContainers([]*api.ContainerUpdate{bad}); err == nil || !strings.Contains(err.Error(), bad.ContainerId) {
			t.Errorf("%s: the update ends with %v", name, err)
		}
	}
	c.has("updated in vain", 128<<20)

	p.Create = func(*api.PodSandbox, *api.Container) (*api.ContainerAdjustment, []*api.ContainerUpdate, error) {
		return nil, []*api.ContainerUpdate{c.limit(144 << 20)}, nil
	}
	c.pod.Create(c.ContainerConfig("beside"))
	c.has("updated with another's creation", 144<<20)
	c.Daemon.Kill9()
	c.Daemon.Start()
	c.has("with the next daemon", 144<<20)
}

// Plug-ins are told of a pod's new limits, and can refuse them.
func TestNRIPodUpdate(t *testing.T) {
	t.Parallel()
	h := New(t, programs, Options{})
	p := addPlugin(h, "10", "limiter", &plugin{})
	pod := h.RunPod(h.PodConfig("resized"))
	p.Forget()
	update := func() error {
		_, err := h.Runtime.UpdatePodSandboxResources(h.Context(), &runtimeapi.UpdatePodSandboxResourcesRequest{
			PodSandboxId: pod.ID, Resources: &runtimeapi.LinuxContainerResources{CpuShares: 77},
		})
		return err
	}
	p.UpdatePod = func(r *api.LinuxResources) error {
		return fmt.Errorf("%d shares are too many", r.GetCpu().GetShares().GetValue())
	}
	h.Refused(update(), codes.FailedPrecondition, "10-limiter", "77 shares are too many")
	p.UpdatePod = nil
	if err := update(); err != nil {
		t.Fatal(err)
	}
	h.Eventually("the plug-in is told afterwards", func() bool { return slices.Contains(p.Told(), "PostUpdatePodSandbox resized") })
	if told, want := p.Told(), []string{"UpdatePodSandbox resized", "UpdatePodSandbox resized", "PostUpdatePodSandbox resized"}; !slices.Equal(told, want) {
		t.Errorf("the plug-in is told %q, want %q", told, want)
	}
	if got := p.LastPod("PostUpdatePodSandbox").GetLinux().GetPodResources().GetCpu().GetShares().GetValue(); got != 77 {
		t.Errorf("it is told of %d shares", got)
	}
}
