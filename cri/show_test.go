package cri

import (
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	imagespec "github.com/opencontainers/image-spec/specs-go/v1"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/stele-runtime/stele/eventlog"

	"github.com/stele-runtime/stele/actors/container"
	"github.com/stele-runtime/stele/actors/fault"
	"github.com/stele-runtime/stele/actors/sandbox"
	"github.com/stele-runtime/stele/projections"
)

// street is a desk with sandboxes and containers in every phase, each named after its
// phase.
func street(t *testing.T) *desk {
	failure := *fault.New(fault.Internal, "do", "it", "no")
	exit := func(e container.Exit) container.Event {
		e.At = epoch.Add(time.Minute)
		return container.ContainerExited{Exit: e}
	}
	return newDesk(t, func(d *desk) {
		pod := podConfig(func(c *runtimeapi.PodSandboxConfig) {
			c.Labels = map[string]string{"app": "web", "tier": "front"}
			c.Annotations = map[string]string{"note": "x"}
			c.Linux = &runtimeapi.LinuxPodSandboxConfig{SecurityContext: &runtimeapi.LinuxSandboxSecurityContext{
				NamespaceOptions: &runtimeapi.NamespaceOption{Pid: runtimeapi.NamespaceMode_CONTAINER},
			}}
		})
		all := ready("x", pod)
		named := func(name string, events ...sandbox.Event) {
			own := ready(name, pod)[0]
			d.sandboxEvents(name, append([]sandbox.Event{own}, events...)...)
		}
		named("creating")
		named("unwinding", sandbox.SandboxPrepareFailed{Fault: failure})
		named("ready", all[1:]...)
		named("stopping", append(slices.Clone(all[1:]), sandbox.StopRequested{})...)
		named("stopped", append(slices.Clone(all[1:]), sandbox.StopRequested{}, sandbox.NetworkDetached{}, sandbox.SandboxStopped{})...)
		named("removing", append(slices.Clone(all[1:]), sandbox.StopRequested{}, sandbox.RemoveRequested{}, sandbox.NetworkDetached{}, sandbox.SandboxStopped{})...)

		box := func(name string, more ...container.Event) {
			config := containerConfig(func(c *runtimeapi.ContainerConfig) {
				c.Labels = map[string]string{"name": name}
				c.Image.UserSpecifiedImage = "web"
				c.Linux = &runtimeapi.LinuxContainerConfig{Resources: &runtimeapi.LinuxContainerResources{CpuShares: 7}}
				c.Envs = []*runtimeapi.KeyValue{{Key: "PASSWORD", Value: []byte("secret")}}
			})
			d.containerEvents(name, append(running(name, "ready", config), more...)...)
		}
		d.containerEvents("creating", created("creating", "ready", containerConfig(nil))[:2]...)
		d.containerEvents("created", created("created", "ready", containerConfig(nil))...)
		d.containerEvents("starting", append(created("starting", "stopped", containerConfig(nil)), container.StartRequested{})...)
		box("running")
		box("exited-well", exit(container.Exit{}))
		box("exited-badly", exit(container.Exit{Code: 3}))
		box("exited-oom", exit(container.Exit{Code: 137, Signal: 9, OOMKilled: true}))
		box("exited-unseen", exit(container.Unknown("nobody saw it", epoch)))
		d.containerEvents("exited-at-start", append(created("exited-at-start", "ready", containerConfig(nil)),
			container.StartRequested{}, container.ContainerStartFailed{Fault: failure, At: epoch.Add(time.Minute)})...)
		box("removing-alive", container.RemoveRequested{})
		box("removing-dead", exit(container.Exit{Code: 3}), container.RemoveRequested{})
	})
}

func TestSandboxStates(t *testing.T) {
	d := street(t)
	for name, want := range map[string]runtimeapi.PodSandboxState{
		"ready": runtimeapi.PodSandboxState_SANDBOX_READY, "stopping": runtimeapi.PodSandboxState_SANDBOX_NOTREADY,
		"stopped": runtimeapi.PodSandboxState_SANDBOX_NOTREADY, "removing": runtimeapi.PodSandboxState_SANDBOX_NOTREADY,
	} {
		answer, err := d.PodSandboxStatus(t.Context(), &runtimeapi.PodSandboxStatusRequest{PodSandboxId: name})
		if err != nil || answer.GetStatus().GetState() != want {
			t.Errorf("%s: %v, %v", name, answer.GetStatus().GetState(), err)
		}
	}
	// What has not come to be is not there.
	for _, name := range []string{"creating", "unwinding"} {
		_, err := d.PodSandboxStatus(t.Context(), &runtimeapi.PodSandboxStatusRequest{PodSandboxId: name})
		refused(t, err, fault.NotFound, "pod_sandbox_id")
	}
	answer, err := d.PodSandboxStatus(t.Context(), &runtimeapi.PodSandboxStatusRequest{PodSandboxId: "ready", Verbose: true})
	if err != nil {
		t.Fatal(err)
	}
	s := answer.GetStatus()
	if s.GetNetwork().GetIp() != "10.0.0.2" || len(s.GetNetwork().GetAdditionalIps()) != 1 || s.GetNetwork().GetAdditionalIps()[0].GetIp() != "fd00::2" {
		t.Errorf("addresses: %v", s.GetNetwork())
	}
	if s.GetCreatedAt() != epoch.UnixNano() || s.GetLabels()["app"] != "web" || s.GetAnnotations()["note"] != "x" || s.GetRuntimeHandler() != "runc" ||
		s.GetLinux().GetNamespaces().GetOptions().GetPid() != runtimeapi.NamespaceMode_CONTAINER || s.GetMetadata().GetAttempt() != 2 {
		t.Errorf("status: %v", s)
	}
	// Its containers, but not those that are being created or are another's.
	if n := len(answer.GetContainersStatuses()); n != 9 {
		t.Errorf("%d containers", n)
	}
	verboseWithoutConfig(t, answer.GetInfo())
}

// verboseWithoutConfig checks that info tells the state and no configuration,
// which holds what users put into environments.
func verboseWithoutConfig(t *testing.T, info map[string]string) {
	t.Helper()
	var fields struct{ State map[string]any }
	if err := json.Unmarshal([]byte(info["info"]), &fields); err != nil {
		t.Fatalf("info %v: %v", info, err)
	}
	// A configuration would be in base64, wherever it stood in the state.
	if fields.State["Phase"] == nil || strings.Contains(info["info"], `Config":`) {
		t.Errorf("info: %v", fields)
	}
}

func TestContainerStates(t *testing.T) {
	const (
		created = runtimeapi.ContainerState_CONTAINER_CREATED
		running = runtimeapi.ContainerState_CONTAINER_RUNNING
		exited  = runtimeapi.ContainerState_CONTAINER_EXITED
		unknown = runtimeapi.ContainerState_CONTAINER_UNKNOWN
	)
	d := street(t)
	for name, want := range map[string]struct {
		state  runtimeapi.ContainerState
		code   int32
		reason string
	}{
		"created": {created, 0, ""}, "starting": {created, 0, ""}, "running": {running, 0, ""},
		"exited-well": {exited, 0, "Completed"}, "exited-badly": {exited, 3, "Error"}, "exited-oom": {exited, 137, "OOMKilled"},
		"exited-unseen": {exited, -1, "Unknown"}, "exited-at-start": {exited, 128, "StartError"},
		"removing-alive": {unknown, 0, ""}, "removing-dead": {exited, 3, "Error"},
	} {
		answer, err := d.ContainerStatus(t.Context(), &runtimeapi.ContainerStatusRequest{ContainerId: name, Verbose: true})
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		s := answer.GetStatus()
		if s.GetState() != want.state || s.GetExitCode() != want.code || s.GetReason() != want.reason {
			t.Errorf("%s: %v, %d, %q", name, s.GetState(), s.GetExitCode(), s.GetReason())
		}
		if (s.GetFinishedAt() != 0) != (want.state == exited) {
			t.Errorf("%s: finished at %d", name, s.GetFinishedAt())
		}
		if started := !slices.Contains([]string{"created", "starting", "exited-at-start"}, name); started != (s.GetStartedAt() != 0) {
			t.Errorf("%s: started at %d", name, s.GetStartedAt())
		}
		verboseWithoutConfig(t, answer.GetInfo())
		if strings.Contains(answer.String(), "secret") {
			t.Errorf("%s: the status tells the environment", name)
		}
	}
	_, err := d.ContainerStatus(t.Context(), &runtimeapi.ContainerStatusRequest{ContainerId: "creating"})
	refused(t, err, fault.NotFound, "container_id")

	answer, err := d.ContainerStatus(t.Context(), &runtimeapi.ContainerStatusRequest{ContainerId: "running"})
	if err != nil {
		t.Fatal(err)
	}
	s := answer.GetStatus()
	if s.GetImage().GetImage() != "web" || s.GetImageRef() != "web:1" || s.GetImageId() != "sha256:1" || s.GetLogPath() != "/logs/running" ||
		s.GetStopSignal() != runtimeapi.Signal_SIGNAL_SIGTERM || s.GetResources().GetLinux().GetCpuShares() != 7 || s.GetMetadata().GetName() != "web" ||
		s.GetStartedAt() != epoch.Add(time.Second).UnixNano() || answer.GetInfo() != nil {
		t.Errorf("status: %v", answer)
	}
}

func TestShownSignal(t *testing.T) {
	for name, want := range map[string]runtimeapi.Signal{
		"SIGTERM": runtimeapi.Signal_SIGNAL_SIGTERM, "quit": runtimeapi.Signal_SIGNAL_SIGQUIT,
		"SIGRTMIN+3": runtimeapi.Signal_SIGNAL_SIGRTMINPLUS3, "RTMAX-1": runtimeapi.Signal_SIGNAL_SIGRTMAXMINUS1,
		"SIGRTMIN": runtimeapi.Signal_SIGNAL_SIGRTMIN, "": runtimeapi.Signal_SIGNAL_RUNTIME_DEFAULT, "odd": runtimeapi.Signal_SIGNAL_RUNTIME_DEFAULT,
	} {
		if got := shownSignal(name); got != want {
			t.Errorf("%q is shown as %v", name, got)
		}
	}
}

func TestListPodSandbox(t *testing.T) {
	runtime, _ := street(t).serve()
	notReady := &runtimeapi.PodSandboxStateValue{State: runtimeapi.PodSandboxState_SANDBOX_NOTREADY}
	for _, c := range []struct {
		name   string
		filter *runtimeapi.PodSandboxFilter
		want   string
	}{
		{"no filter", nil, "ready removing stopped stopping"},
		{"empty filter", &runtimeapi.PodSandboxFilter{}, "ready removing stopped stopping"},
		{"id", &runtimeapi.PodSandboxFilter{Id: "ready"}, "ready"},
		{"prefix of ids", &runtimeapi.PodSandboxFilter{Id: "stop"}, "stopped stopping"},
		{"unknown id", &runtimeapi.PodSandboxFilter{Id: "x"}, ""},
		{"state", &runtimeapi.PodSandboxFilter{State: notReady}, "removing stopped stopping"},
		{"labels", &runtimeapi.PodSandboxFilter{LabelSelector: map[string]string{"app": "web", "tier": "front"}}, "ready removing stopped stopping"},
		{"other value", &runtimeapi.PodSandboxFilter{LabelSelector: map[string]string{"app": "web", "tier": "back"}}, ""},
		{"other label", &runtimeapi.PodSandboxFilter{LabelSelector: map[string]string{"absent": ""}}, ""},
		{"all parts", &runtimeapi.PodSandboxFilter{Id: "re", State: notReady, LabelSelector: map[string]string{"app": "web"}}, "removing"},
	} {
		answer, err := runtime.ListPodSandbox(t.Context(), &runtimeapi.ListPodSandboxRequest{Filter: c.filter})
		var ids []string
		for _, i := range answer.GetItems() {
			ids = append(ids, i.GetId())
		}
		if err != nil || strings.Join(ids, " ") != c.want {
			t.Errorf("%s: %v, %v", c.name, ids, err)
		}
	}
}

func TestListContainers(t *testing.T) {
	runtime, _ := street(t).serve()
	exited := &runtimeapi.ContainerStateValue{State: runtimeapi.ContainerState_CONTAINER_EXITED}
	const all = "created exited-at-start exited-badly exited-oom exited-unseen exited-well removing-alive removing-dead running starting"
	for _, c := range []struct {
		name   string
		filter *runtimeapi.ContainerFilter
		want   string
	}{
		{"no filter", nil, all},
		{"prefix of an id", &runtimeapi.ContainerFilter{Id: "exited-w"}, "exited-well"},
		{"sandbox", &runtimeapi.ContainerFilter{PodSandboxId: "stopped"}, "starting"},
		{"prefix of a sandbox", &runtimeapi.ContainerFilter{PodSandboxId: "stop"}, "starting"},
		{"state", &runtimeapi.ContainerFilter{State: exited, Id: "re"}, "removing-dead"},
		{"label", &runtimeapi.ContainerFilter{LabelSelector: map[string]string{"name": "running"}}, "running"},
		{"all parts", &runtimeapi.ContainerFilter{PodSandboxId: "stopped", State: exited}, ""},
	} {
		answer, err := runtime.ListContainers(t.Context(), &runtimeapi.ListContainersRequest{Filter: c.filter})
		var ids []string
		for _, i := range answer.GetContainers() {
			ids = append(ids, i.GetId())
		}
		if err != nil || strings.Join(ids, " ") != c.want {
			t.Errorf("%s: %v, %v", c.name, ids, err)
		}
	}
}

// Ids may be abbreviated as long as they are unique. A whole id is never ambiguous, and
// what is not shown does not count.
func TestTruncatedIDs(t *testing.T) {
	d := newDesk(t, func(d *desk) {
		for _, name := range []string{"ab", "abc", "abd", "x1"} {
			d.sandboxEvents(name, ready(name, podConfig(nil))...)
			d.containerEvents(name, running(name, name, containerConfig(nil))...)
		}
		d.sandboxEvents("x2", ready("x2", podConfig(nil))[:1]...)
		d.containerEvents("x2", running("x2", "x1", containerConfig(nil))[:1]...)
	})
	for given, want := range map[string]string{"ab": "ab", "abc": "abc", "abd": "abd", "x": "x1", "x1": "x1", "a": "", "y": "", "x2": ""} {
		s, sandboxErr := d.sandbox(given)
		c, containerErr := d.container(given)
		if want == "" {
			kind := fault.NotFound
			if given == "a" {
				kind = fault.Invalid
			}
			refused(t, sandboxErr, kind, "pod_sandbox_id")
			refused(t, containerErr, kind, "container_id")
			continue
		}
		if sandboxErr != nil || containerErr != nil || string(s.State.ID) != want || string(c.State.ID) != want {
			t.Errorf("%s: %v, %v", given, sandboxErr, containerErr)
		}
	}
}

func TestImages(t *testing.T) {
	d := newDesk(t, nil)
	ctx := t.Context()
	all, err := d.ListImages(ctx, &runtimeapi.ListImagesRequest{})
	if err != nil || len(all.GetImages()) != 2 {
		t.Fatalf("%v, %v", all, err)
	}
	if i := all.GetImages()[0]; i.GetUid().GetValue() != 7 || i.GetUsername() != "" {
		t.Errorf("a user that is a number: %v", i)
	}
	if i := all.GetImages()[1]; i.GetUid() != nil || i.GetUsername() != "nobody" {
		t.Errorf("a user that is a name: %v", i)
	}
	for ref, want := range map[string]int{"web:1": 1, "unknown:1": 0} {
		filter := &runtimeapi.ImageFilter{Image: &runtimeapi.ImageSpec{Image: ref}}
		some, err := d.ListImages(ctx, &runtimeapi.ListImagesRequest{Filter: filter})
		if err != nil || len(some.GetImages()) != want {
			t.Errorf("list %s: %v, %v", ref, some, err)
		}
		one, err := d.ImageStatus(ctx, &runtimeapi.ImageStatusRequest{Image: &runtimeapi.ImageSpec{Image: ref}, Verbose: true})
		if err != nil || (one.GetImage() != nil) != (want == 1) || (one.GetInfo()["info"] != "") != (want == 1) {
			t.Errorf("status of %s: %v, %v", ref, one, err)
		}
	}
	broken := &runtimeapi.ImageSpec{Image: "broken"}
	_, err = d.ImageStatus(ctx, &runtimeapi.ImageStatusRequest{Image: broken})
	refused(t, err, fault.Internal, "the store is broken")
	_, err = d.ListImages(ctx, &runtimeapi.ListImagesRequest{Filter: &runtimeapi.ImageFilter{Image: broken}})
	refused(t, err, fault.Internal, "the store is broken")
	_, err = d.ImageStatus(ctx, &runtimeapi.ImageStatusRequest{})
	refused(t, err, fault.Invalid, "image.image")
	_, err = d.RemoveImage(ctx, &runtimeapi.RemoveImageRequest{})
	refused(t, err, fault.Invalid, "image.image")
	d.actors.err = fault.New(fault.NotFound, "", "", "gone")
	if _, err = d.RemoveImage(ctx, &runtimeapi.RemoveImageRequest{Image: broken}); err != nil {
		t.Errorf("an image that is gone: %v", err)
	}
	fs, err := d.ImageFsInfo(ctx, &runtimeapi.ImageFsInfoRequest{})
	if err != nil || fs.GetImageFilesystems()[0].GetUsedBytes().GetValue() != 1 || fs.GetContainerFilesystems()[0].GetInodesUsed().GetValue() != 4 ||
		fs.GetContainerFilesystems()[0].GetFsId().GetMountpoint() != "/layers" {
		t.Errorf("%v, %v", fs, err)
	}
}

func TestStatus(t *testing.T) {
	d := newDesk(t, nil)
	conditions := func() map[string]*runtimeapi.RuntimeCondition {
		answer, err := d.Status(t.Context(), &runtimeapi.StatusRequest{Verbose: true})
		if err != nil || answer.GetInfo()["config"] != `{"x":1}` || len(answer.GetRuntimeHandlers()) != 2 {
			t.Errorf("%v, %v", answer, err)
		}
		all := map[string]*runtimeapi.RuntimeCondition{}
		for _, c := range answer.GetStatus().GetConditions() {
			all[c.GetType()] = c
		}
		return all
	}
	if c := conditions(); !c[runtimeapi.RuntimeReady].GetStatus() || !c[runtimeapi.NetworkReady].GetStatus() {
		t.Errorf("conditions %v", c)
	}
	d.Health.Log = func() error { return &eventlog.DegradedError{Cause: errors.New("no journal")} }
	d.Health.Confinement = func() error { return &eventlog.DegradedError{Cause: errors.New("unconfined")} }
	c := conditions()
	if r := c[runtimeapi.RuntimeReady]; !r.GetStatus() || r.GetReason() != "Degraded" || !strings.Contains(r.GetMessage(), "no journal") || !strings.Contains(r.GetMessage(), "unconfined") {
		t.Errorf("with a slow log: %v", c)
	}
	d.Health.Network = func() error { return errors.New("no configuration in /etc/cni/net.d") }
	c = conditions()
	if n := c[runtimeapi.NetworkReady]; n.GetStatus() || n.GetReason() != "NetworkPluginNotReady" || n.GetMessage() == "" || !c[runtimeapi.RuntimeReady].GetStatus() {
		t.Errorf("without a network: %v", c)
	}
	d.Health.Monitor = func() error { return errors.New("the monitor is gone") }
	if r := conditions()[runtimeapi.RuntimeReady]; r.GetStatus() || r.GetReason() != "MonitorUnavailable" {
		t.Errorf("without a monitor: %v", r)
	}
	version, err := d.Version(t.Context(), &runtimeapi.VersionRequest{})
	if err != nil || version.GetRuntimeName() != "stele" || version.GetRuntimeVersion() != "1.2.3" || version.GetRuntimeApiVersion() != "v1" {
		t.Errorf("%v, %v", version, err)
	}
	config, err := d.RuntimeConfig(t.Context(), &runtimeapi.RuntimeConfigRequest{})
	if err != nil || config.GetLinux().GetCgroupDriver() != runtimeapi.CgroupDriver_CGROUPFS {
		t.Errorf("%v, %v", config, err)
	}
}

// The kubelet takes the first status of a name for the current attempt. A timestamp would
// make it treat the statuses as events.
func TestContainersOfSandboxNewestFirst(t *testing.T) {
	d := newDesk(t, func(d *desk) {
		d.sandboxEvents("pod", ready("pod", podConfig(nil))...)
		for attempt, name := range []string{"c-first", "a-second", "b-third", "d-same-moment"} {
			events := running(name, "pod", containerConfig(nil))
			requested := events[0].(container.ContainerRequested)
			requested.At = epoch.Add(time.Duration(min(attempt, 2)) * time.Second)
			requested.Name.Attempt = uint32(attempt)
			events[0] = requested
			d.containerEvents(name, events...)
		}
	})
	answer, err := d.PodSandboxStatus(t.Context(), &runtimeapi.PodSandboxStatusRequest{PodSandboxId: "pod"})
	if err != nil {
		t.Fatal(err)
	}
	var ids []string
	for _, c := range answer.GetContainersStatuses() {
		ids = append(ids, c.GetId())
	}
	if got := strings.Join(ids, " "); got != "d-same-moment b-third a-second c-first" || answer.GetTimestamp() != 0 {
		t.Errorf("containers %s, timestamp %d", got, answer.GetTimestamp())
	}
}

// The kubelet shows a version that is not semantic as "Unknown".
func TestSemanticVersion(t *testing.T) {
	for version, want := range map[string]string{
		"1.2.3": "1.2.3", "v1.2.3": "1.2.3", "v1.2.3-4-gabc1234-dirty": "1.2.3-4-gabc1234-dirty", "1.2.3-rc.1+linux": "1.2.3-rc.1+linux",
		"dev": "0.0.0+dev", "unknown": "0.0.0+unknown", "1cdf7cd": "0.0.0+1cdf7cd", "0012345-dirty": "0.0.0+0012345-dirty",
		"": "0.0.0", "v1.2": "0.0.0+v1-2", "1.02.3": "0.0.0+1-02-3", "1.2.3\n": "0.0.0+1-2-3", "é": "0.0.0",
	} {
		d := newDesk(t, nil)
		d.DaemonVersion = version
		answer, err := d.Service.Version(t.Context(), &runtimeapi.VersionRequest{})
		if err != nil || answer.GetRuntimeVersion() != want {
			t.Errorf("%q is shown as %q, %v; want %q", version, answer.GetRuntimeVersion(), err, want)
		}
	}
}

// Scripts read these fields in verbose statuses, whatever the runtime. No value of an
// environment variable is shown.
func TestInfoForScripts(t *testing.T) {
	d := street(t)
	d.specs["running"] = `{"ociVersion":"1.2.0","process":{"env":["TOKEN=secret"]}}`
	read := func(name string) (i containerInfo) {
		t.Helper()
		answer, err := d.ContainerStatus(t.Context(), &runtimeapi.ContainerStatusRequest{ContainerId: name, Verbose: true})
		if err != nil {
			t.Fatal(err)
		}
		info := answer.GetInfo()["info"]
		if err := json.Unmarshal([]byte(info), &i); err != nil || strings.Contains(info, "secret") || strings.Contains(info, "c2VjcmV0") {
			t.Errorf("%v in %s", err, info)
		}
		return i
	}
	for name, spec := range map[string]bool{"running": true, "exited-well": false} {
		i := read(name)
		if i.PID != 42 || (i.RuntimeSpec != nil) != spec || spec && !strings.Contains(string(i.RuntimeSpec), `"ociVersion":"1.2.0"`) ||
			i.SandboxID != "ready" || i.Removing || i.Privileged || i.Image != "web" || i.ImageID != "sha256:1" || i.LogPath != "/logs/"+name ||
			i.CgroupPath != "/pods/ready/"+name || i.NetNS != "/ns/ready/net" || (i.Exit == nil) != spec || len(i.Owed) != 0 {
			t.Errorf("%s: %+v", name, i)
		}
		if envs := i.Config.GetEnvs(); i.Config.GetMetadata().GetName() != "web" || len(envs) != 1 || envs[0].GetKey() != "PASSWORD" || len(envs[0].GetValue()) > 0 {
			t.Errorf("%s: the configuration is %v", name, i.Config)
		}
	}
	if i := read("exited-oom"); i.Exit.Code != 137 || i.Exit.Signal != 9 || !i.Exit.OOMKilled || !i.Exit.At.Equal(epoch.Add(time.Minute)) {
		t.Errorf("it ended with %+v", i.Exit)
	}
	if i := read("removing-alive"); !i.Removing || len(i.Owed) != 1 || i.Owed[0].Effect != "delete" || i.Owed[0].NotBefore != nil {
		t.Errorf("what is being removed is %+v", i)
	}
	d.specs["running"] = "unreadable"
	_, err := d.ContainerStatus(t.Context(), &runtimeapi.ContainerStatusRequest{ContainerId: "running", Verbose: true})
	refused(t, err, fault.Internal, "runtime spec of container running")
}

func TestSandboxInfoForScripts(t *testing.T) {
	d := street(t)
	answer, err := d.PodSandboxStatus(t.Context(), &runtimeapi.PodSandboxStatusRequest{PodSandboxId: "ready", Verbose: true})
	if err != nil {
		t.Fatal(err)
	}
	var i sandboxInfo
	if err := json.Unmarshal([]byte(answer.GetInfo()["info"]), &i); err != nil {
		t.Fatal(err)
	}
	namespaces := []namespaceInfo{{"ipc", "/ns/ready/ipc"}, {"network", "/ns/ready/net"}}
	if i.PID != 0 || i.RuntimeHandler != "runc" || i.NetNS != "/ns/ready/net" || i.CgroupPath != "/pods/ready" || len(i.Owed) != 0 ||
		i.Config.GetMetadata().GetUid() != "u" || !slices.Equal(i.RuntimeSpec.Linux.Namespaces, namespaces) || i.RuntimeSpec.Linux.CgroupsPath != "/pods/ready" {
		t.Errorf("got %+v", i)
	}
	answer, err = d.PodSandboxStatus(t.Context(), &runtimeapi.PodSandboxStatusRequest{PodSandboxId: "stopping", Verbose: true})
	if err != nil || !strings.Contains(answer.GetInfo()["info"], `"owed":[{"effect":"detach network"}`) {
		t.Errorf("%v, %v", answer.GetInfo(), err)
	}
}

func TestImageInfoForScripts(t *testing.T) {
	d := newDesk(t, nil)
	config := &imagespec.Image{
		Platform: imagespec.Platform{Architecture: "amd64"},
		Config:   imagespec.ImageConfig{Env: []string{"PATH=/bin", "TOKEN=secret"}, Entrypoint: []string{"/web"}},
		History:  []imagespec.History{{CreatedBy: "ENV TOKEN=secret"}},
	}
	d.Images = images{{ID: "web", Labels: map[string]string{"a": "b"}, StopSignal: "SIGQUIT", Config: config}, {ID: "artifact"}}
	for id, want := range map[string]string{
		"web":      `{"labels":{"a":"b"},"stopSignal":"SIGQUIT","imageSpec":{"architecture":"amd64","config":{"Entrypoint":["/web"],"Env":["PATH=[redacted]","TOKEN=[redacted]"]},"os":"","rootfs":{"diff_ids":null,"type":""}}}`,
		"artifact": `{}`,
	} {
		answer, err := d.ImageStatus(t.Context(), &runtimeapi.ImageStatusRequest{Image: &runtimeapi.ImageSpec{Image: id}, Verbose: true})
		if err != nil || answer.GetInfo()["info"] != want {
			t.Errorf("%s: %s, %v", id, answer.GetInfo()["info"], err)
		}
	}
}

// The kubelet refuses pods with a strict policy for supplementary groups unless the
// runtime reports the feature and the users of containers.
func TestContainerUser(t *testing.T) {
	d := street(t)
	status, err := d.Status(t.Context(), &runtimeapi.StatusRequest{})
	if f := status.GetFeatures(); err != nil || !f.GetSupplementalGroupsPolicy() || !f.GetMountOptions() || f.GetUserNamespacesHostNetwork() {
		t.Errorf("features %v, %v", status.GetFeatures(), err)
	}
	for _, name := range []string{"created", "running", "exited-well"} {
		answer, err := d.ContainerStatus(t.Context(), &runtimeapi.ContainerStatusRequest{ContainerId: name})
		user := answer.GetStatus().GetUser().GetLinux()
		if err != nil || user.GetUid() != 1000 || user.GetGid() != 2000 || !slices.Equal(user.GetSupplementalGroups(), []int64{2000, 3000}) {
			t.Errorf("%s runs as %v, %v", name, user, err)
		}
	}
}

// What became of something whose history cannot be read is not known, and is said so.
func TestDamagedIsUnknown(t *testing.T) {
	c := &projections.Container{Shown: projections.ContainerShown{Image: &runtimeapi.ImageSpec{}}, Damage: "version 7: unknown"}
	c.State.Phase = container.Running
	status := containerStatus(c)
	if status.State != runtimeapi.ContainerState_CONTAINER_UNKNOWN || !strings.Contains(status.Message, c.Damage) {
		t.Errorf("container: %v", status)
	}
	s := &projections.Sandbox{Damage: "version 7: unknown"}
	s.State.Phase = sandbox.Ready
	if sandboxState(s) != runtimeapi.PodSandboxState_SANDBOX_NOTREADY {
		t.Error("the sandbox is ready")
	}
}
