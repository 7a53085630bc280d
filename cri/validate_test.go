package cri

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/stele-runtime/stele/actors/container"
	"github.com/stele-runtime/stele/actors/fault"
	"github.com/stele-runtime/stele/actors/image"
	"github.com/stele-runtime/stele/actors/sandbox"
	"github.com/stele-runtime/stele/projections"
)

// refused checks that an error is of the kind and names the field.
func refused(t *testing.T, err error, kind fault.Kind, field string) {
	t.Helper()
	if err == nil || fault.KindOf(err) != kind || !strings.Contains(err.Error(), field) {
		t.Errorf("the answer is %v, want a fault of kind %q that names %q", err, kind, field)
	}
}

func podConfig(change func(*runtimeapi.PodSandboxConfig)) *runtimeapi.PodSandboxConfig {
	c := &runtimeapi.PodSandboxConfig{Metadata: &runtimeapi.PodSandboxMetadata{Name: "pod", Namespace: "default", Uid: "u", Attempt: 2}, LogDirectory: "/logs"}
	if change != nil {
		change(c)
	}
	return c
}

func containerConfig(change func(*runtimeapi.ContainerConfig)) *runtimeapi.ContainerConfig {
	c := &runtimeapi.ContainerConfig{
		Metadata: &runtimeapi.ContainerMetadata{Name: "web", Attempt: 1}, Image: &runtimeapi.ImageSpec{Image: "web:1"}, LogPath: "web/0.log",
	}
	if change != nil {
		change(c)
	}
	return c
}

func TestRunPodSandbox(t *testing.T) {
	d := newDesk(t, nil)
	for field, config := range map[string]*runtimeapi.PodSandboxConfig{
		"config: ":                  nil,
		"config.metadata: ":         podConfig(func(c *runtimeapi.PodSandboxConfig) { c.Metadata = nil }),
		"config.metadata.name":      podConfig(func(c *runtimeapi.PodSandboxConfig) { c.Metadata.Name = "" }),
		"config.metadata.namespace": podConfig(func(c *runtimeapi.PodSandboxConfig) { c.Metadata.Namespace = "" }),
		"config.metadata.uid":       podConfig(func(c *runtimeapi.PodSandboxConfig) { c.Metadata.Uid = "" }),
		"config.hostname":           podConfig(func(c *runtimeapi.PodSandboxConfig) { c.Hostname = "bad" }),
	} {
		_, err := d.RunPodSandbox(t.Context(), &runtimeapi.RunPodSandboxRequest{Config: config})
		refused(t, err, fault.Invalid, field)
	}
	_, err := d.RunPodSandbox(t.Context(), &runtimeapi.RunPodSandboxRequest{Config: podConfig(nil), RuntimeHandler: "nobody"})
	refused(t, err, fault.Invalid, "runtime_handler")
	if d.actors.last() != nil {
		t.Fatalf("something was asked: %+v", d.actors.last())
	}

	shared := podConfig(func(c *runtimeapi.PodSandboxConfig) {
		c.Linux = &runtimeapi.LinuxPodSandboxConfig{SecurityContext: &runtimeapi.LinuxSandboxSecurityContext{NamespaceOptions: &runtimeapi.NamespaceOption{
			Network: runtimeapi.NamespaceMode_NODE, Pid: runtimeapi.NamespaceMode_POD,
		}}}
	})
	answer, err := d.RunPodSandbox(t.Context(), &runtimeapi.RunPodSandboxRequest{Config: shared, RuntimeHandler: "other"})
	if err != nil {
		t.Fatal(err)
	}
	run := d.actors.last().(sandbox.Run)
	if string(run.ID) != answer.GetPodSandboxId() || len(run.ID) != 64 || run.Handler != "other" || !run.HostNetwork || !run.SharedPID ||
		run.Name != (sandbox.Name{Name: "pod", Namespace: "default", UID: "u", Attempt: 2}) {
		t.Errorf("asked for %+v", run)
	}
	_, err = d.RunPodSandbox(t.Context(), &runtimeapi.RunPodSandboxRequest{Config: shared})
	again := d.actors.last().(sandbox.Run)
	if err != nil || again.ID == run.ID || again.ConfigDigest != run.ConfigDigest || again.Handler != "runc" {
		t.Errorf("asked again for %+v, %v", again, err)
	}
	_, err = d.RunPodSandbox(t.Context(), &runtimeapi.RunPodSandboxRequest{Config: podConfig(nil)})
	if other := d.actors.last().(sandbox.Run); err != nil || other.ConfigDigest == run.ConfigDigest || other.HostNetwork {
		t.Errorf("another configuration is asked for as %+v, %v", other, err)
	}
}

func TestCreateContainer(t *testing.T) {
	d := newDesk(t, func(d *desk) {
		d.sandboxEvents("pod", ready("pod", podConfig(nil))...)
		d.sandboxEvents("silent", ready("silent", podConfig(func(c *runtimeapi.PodSandboxConfig) { c.LogDirectory = "" }))...)
		d.sandboxEvents("relative", ready("relative", podConfig(func(c *runtimeapi.PodSandboxConfig) { c.LogDirectory = "logs" }))...)
	})
	create := func(pod string, config *runtimeapi.ContainerConfig) (container.Create, error) {
		_, err := d.CreateContainer(t.Context(), &runtimeapi.CreateContainerRequest{PodSandboxId: pod, Config: config})
		c, _ := d.actors.last().(container.Create)
		return c, err
	}
	type config = runtimeapi.ContainerConfig
	for _, c := range []struct {
		field  string
		kind   fault.Kind
		pod    string
		config *config
	}{
		{"config: ", fault.Invalid, "pod", nil},
		{"config.metadata: ", fault.Invalid, "pod", containerConfig(func(c *config) { c.Metadata = nil })},
		{"config.metadata.name", fault.Invalid, "pod", containerConfig(func(c *config) { c.Metadata.Name = "" })},
		{"config.image.image", fault.Invalid, "pod", containerConfig(func(c *config) { c.Image = nil })},
		{"config.image.image", fault.NotFound, "pod", containerConfig(func(c *config) { c.Image.Image = "unknown:1" })},
		{"the store is broken", fault.Internal, "pod", containerConfig(func(c *config) { c.Image.Image = "broken" })},
		{"config.working_dir", fault.Invalid, "pod", containerConfig(func(c *config) { c.WorkingDir = "bad" })},
		{"config.log_path", fault.Invalid, "pod", containerConfig(func(c *config) { c.LogPath = "../0.log" })},
		{"config.log_path", fault.Invalid, "pod", containerConfig(func(c *config) { c.LogPath = "/etc/passwd" })},
		{"config.log_path", fault.Invalid, "pod", containerConfig(func(c *config) { c.LogPath = "web/.." })},
		{"config.log_directory", fault.Invalid, "relative", containerConfig(nil)},
		{"pod_sandbox_id", fault.Invalid, "", containerConfig(nil)},
		{"pod_sandbox_id", fault.NotFound, "nobody", containerConfig(nil)},
	} {
		_, err := create(c.pod, c.config)
		refused(t, err, c.kind, c.field)
	}
	if d.actors.last() != nil {
		t.Fatalf("something was asked: %+v", d.actors.last())
	}
	for _, c := range []struct {
		name, pod       string
		config          *config
		signal, logPath string
	}{
		{"the image's signal", "pod", containerConfig(nil), "SIGQUIT", "/logs/web/0.log"},
		{"the default", "pod", containerConfig(func(c *config) { c.Image.Image = "plain:1" }), "SIGTERM", "/logs/web/0.log"},
		{"the configuration's", "pod", containerConfig(func(c *config) { c.StopSignal = runtimeapi.Signal_SIGNAL_SIGUSR1 }), "SIGUSR1", "/logs/web/0.log"},
		{"no log path", "pod", containerConfig(func(c *config) { c.LogPath = "" }), "SIGQUIT", ""},
		{"no log directory", "silent", containerConfig(nil), "SIGQUIT", ""},
	} {
		asked, err := create(c.pod, c.config)
		if err != nil || asked.StopSignal != c.signal || asked.LogPath != c.logPath || string(asked.Sandbox) != c.pod || asked.Handler != "runc" {
			t.Errorf("%s: asked for %+v, %v", c.name, asked, err)
		}
	}
}

// The kubelet reports the image_ref as imageID, where name@digest is expected.
func TestImageRef(t *testing.T) {
	d := newDesk(t, func(d *desk) { d.sandboxEvents("pod", ready("pod", podConfig(nil))...) })
	both := []string{"lab.test/other@sha256:aa", "lab.test/web@sha256:bb"}
	d.Images = images{{ID: "sha256:1", Tags: []string{"lab.test/web:1"}, Digests: both}, {ID: "sha256:2", Tags: []string{"localhost/built:1"}}}
	for _, c := range []struct{ image, written, ref, shown string }{
		{"sha256:1", "lab.test/web:1", "lab.test/web@sha256:bb", "lab.test/web:1"},
		{"lab.test/web:1", "", "lab.test/web@sha256:bb", "lab.test/web:1"},
		{"sha256:1", "lab.test/web@sha256:bb", "lab.test/web@sha256:bb", "lab.test/web@sha256:bb"},
		{"sha256:1", "web", "lab.test/other@sha256:aa", "web"},
		{"localhost/built:1", "", "sha256:2", "localhost/built:1"}, // from no registry
	} {
		config := containerConfig(func(c1 *runtimeapi.ContainerConfig) {
			c1.Image = &runtimeapi.ImageSpec{Image: c.image, UserSpecifiedImage: c.written}
		})
		if _, err := d.CreateContainer(t.Context(), &runtimeapi.CreateContainerRequest{PodSandboxId: "pod", Config: config}); err != nil {
			t.Fatal(err)
		}
		first := d.actors.last().(container.Create)
		x := &projections.Container{}
		x.State.Request.Image = first.Image
		x.State.Request.Config = first.Config
		x.Shown = projections.ShowContainer(x.Config())
		if s := containerStatus(x); s.GetImageRef() != c.ref || s.GetImageId() != first.Image || s.GetImage().GetImage() != c.shown {
			t.Errorf("%+v: ref %s, id %s, image %s", c, s.GetImageRef(), s.GetImageId(), s.GetImage().GetImage())
		}
		// A repeated request is the same, even if the image has other names by then.
		d.Images = images{{ID: "sha256:1", Tags: []string{"lab.test/web:1"}}, {ID: "sha256:2", Tags: []string{"localhost/built:1"}}}
		if _, err := d.CreateContainer(t.Context(), &runtimeapi.CreateContainerRequest{PodSandboxId: "pod", Config: config}); err != nil {
			t.Fatal(err)
		}
		if again := d.actors.last().(container.Create); again.ConfigDigest != first.ConfigDigest {
			t.Errorf("%+v: a repeated request is another", c)
		}
		d.Images = images{{ID: "sha256:1", Tags: []string{"lab.test/web:1"}, Digests: both}, {ID: "sha256:2", Tags: []string{"localhost/built:1"}}}
	}
}

// The status names a mounted image by its id, which the kubelet's image collection needs.
func TestMountedImageIsNamedByID(t *testing.T) {
	d := newDesk(t, func(d *desk) { d.sandboxEvents("pod", ready("pod", podConfig(nil))...) })
	mount := func(image string) *runtimeapi.Mount {
		return &runtimeapi.Mount{ContainerPath: "/" + image, Image: &runtimeapi.ImageSpec{Image: image}}
	}
	config := containerConfig(func(c *runtimeapi.ContainerConfig) {
		c.Mounts = []*runtimeapi.Mount{{HostPath: "/data"}, mount("plain:1"), mount("sha256:1"), mount("unknown:1")}
		c.Mounts[2].Image.UserSpecifiedImage = "web:latest"
	})
	if _, err := d.CreateContainer(t.Context(), &runtimeapi.CreateContainerRequest{PodSandboxId: "pod", Config: config}); err != nil {
		t.Fatal(err)
	}
	asked := &runtimeapi.ContainerConfig{}
	if err := proto.Unmarshal(d.actors.last().(container.Create).Config, asked); err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, m := range asked.GetMounts() {
		got = append(got, m.GetImage().GetImage()+" for "+m.GetImage().GetUserSpecifiedImage())
	}
	if want := []string{" for ", "sha256:2 for plain:1", "sha256:1 for web:latest", "unknown:1 for "}; !slices.Equal(got, want) {
		t.Errorf("mounted are %q, want %q", got, want)
	}
	config.Mounts[1].Image.Image = "broken"
	_, err := d.CreateContainer(t.Context(), &runtimeapi.CreateContainerRequest{PodSandboxId: "pod", Config: config})
	refused(t, err, fault.Internal, "config.mounts[1].image")
}

func TestCodes(t *testing.T) {
	for _, c := range []struct {
		err  error
		code codes.Code
	}{
		{fault.New(fault.Invalid, "", "", ""), codes.InvalidArgument},
		{fault.New(fault.NotFound, "", "", ""), codes.NotFound},
		{fault.New(fault.Exists, "", "", ""), codes.AlreadyExists},
		{fault.New(fault.Precondition, "", "", ""), codes.FailedPrecondition},
		{fault.New(fault.Unavailable, "", "", ""), codes.Unavailable},
		{fault.New(fault.Interrupted, "", "", ""), codes.Unavailable},
		{fault.New(fault.Deadline, "", "", ""), codes.DeadlineExceeded},
		{fault.New(fault.Unauthorized, "", "", ""), codes.Unauthenticated},
		{fault.New(fault.RateLimited, "", "", ""), codes.ResourceExhausted},
		{fault.New(fault.Unsupported, "", "", ""), codes.Unimplemented},
		{fault.New(fault.SignatureRefused, "", "", ""), codes.PermissionDenied},
		{fault.New(fault.Internal, "", "", ""), codes.Internal},
		{fault.New("from the future", "", "", ""), codes.Internal},
		{fmt.Errorf("wrapped: %w", fault.New(fault.NotFound, "", "", "")), codes.NotFound},
		{fmt.Errorf("wrapped: %w", context.Canceled), codes.Canceled},
		{context.DeadlineExceeded, codes.DeadlineExceeded},
		{errors.New("anything"), codes.Internal},
		{status.Error(codes.OutOfRange, "as it is"), codes.OutOfRange},
		{nil, codes.OK},
	} {
		answer, err := Guard{Logger: quiet}.Unary(t.Context(), "request", &grpc.UnaryServerInfo{}, func(context.Context, any) (any, error) { return "answer", c.err })
		if status.Code(err) != c.code || answer != "answer" {
			t.Errorf("%v becomes %v", c.err, err)
		}
		if c.err != nil && !strings.Contains(err.Error(), strings.TrimPrefix(c.err.Error(), "rpc error: ")) {
			t.Errorf("%v loses its words: %v", c.err, err)
		}
	}
}

// Stop and Remove of what is gone succeed; every other call is NotFound.
func TestGone(t *testing.T) {
	d := newDesk(t, func(d *desk) {
		d.sandboxEvents("pod", ready("pod", podConfig(nil))...)
		d.containerEvents("web", running("web", "pod", containerConfig(nil))...)
	})
	calls := func(pod, box string) map[string]error {
		ctx := t.Context()
		answers := map[string]error{}
		_, answers["stop sandbox"] = d.StopPodSandbox(ctx, &runtimeapi.StopPodSandboxRequest{PodSandboxId: pod})
		_, answers["remove sandbox"] = d.RemovePodSandbox(ctx, &runtimeapi.RemovePodSandboxRequest{PodSandboxId: pod})
		_, answers["stop container"] = d.StopContainer(ctx, &runtimeapi.StopContainerRequest{ContainerId: box})
		_, answers["remove container"] = d.RemoveContainer(ctx, &runtimeapi.RemoveContainerRequest{ContainerId: box})
		_, answers["start"] = d.StartContainer(ctx, &runtimeapi.StartContainerRequest{ContainerId: box})
		_, answers["exec"] = d.ExecSync(ctx, &runtimeapi.ExecSyncRequest{ContainerId: box, Cmd: []string{"true"}})
		_, answers["update"] = d.UpdateContainerResources(ctx, &runtimeapi.UpdateContainerResourcesRequest{
			ContainerId: box, Linux: &runtimeapi.LinuxContainerResources{CpuShares: 2},
		})
		_, answers["reopen"] = d.ReopenContainerLog(ctx, &runtimeapi.ReopenContainerLogRequest{ContainerId: box})
		return answers
	}
	check := func(when string, answers map[string]error, converging, others fault.Kind) {
		t.Helper()
		for call, err := range answers {
			want := others
			if strings.HasPrefix(call, "stop") || strings.HasPrefix(call, "remove") {
				want = converging
			}
			if want == "" && err != nil || want != "" && (err == nil || fault.KindOf(err) != want) {
				t.Errorf("%s, %s: %v, want kind %q", when, call, err, want)
			}
		}
	}
	check("unknown", calls("nobody", "nobody"), "", fault.NotFound)
	check("no name", calls("", ""), fault.Invalid, fault.Invalid)
	d.actors.err = fault.New(fault.NotFound, "", "", "gone meanwhile")
	check("gone meanwhile", calls("pod", "web"), "", fault.NotFound)
	d.actors.err = fault.New(fault.Unavailable, "", "", "the log is full")
	check("unavailable", calls("pod", "web"), fault.Unavailable, fault.Unavailable)
	d.actors.err = nil
	_, err := d.PodSandboxStatus(t.Context(), &runtimeapi.PodSandboxStatusRequest{PodSandboxId: "nobody"})
	refused(t, err, fault.NotFound, "pod_sandbox_id")
	_, err = d.ContainerStatus(t.Context(), &runtimeapi.ContainerStatusRequest{ContainerId: "nobody"})
	refused(t, err, fault.NotFound, "container_id")
}

func TestExecSync(t *testing.T) {
	d := newDesk(t, func(d *desk) {
		d.sandboxEvents("pod", ready("pod", podConfig(nil))...)
		d.containerEvents("web", running("web", "pod", containerConfig(nil))...)
	})
	exec := func(timeout int64, cmd ...string) (*runtimeapi.ExecSyncResponse, error) {
		return d.ExecSync(t.Context(), &runtimeapi.ExecSyncRequest{ContainerId: "web", Cmd: cmd, Timeout: timeout})
	}
	_, err := exec(1)
	refused(t, err, fault.Invalid, "cmd")
	_, err = exec(-1, "true")
	refused(t, err, fault.Invalid, "timeout")

	// ends makes the command end in some way, after the end of another one.
	ends := func(how func(c container.RunExec) container.Event) {
		d.actors.container = func(_ context.Context, c container.Command, until func(container.State, container.Event) (bool, error)) error {
			for _, e := range []container.Event{nil, container.ExecEnded{Exec: "another", Code: 9}, how(c.(container.RunExec))} {
				if done, err := until(container.State{}, e); done {
					return err
				}
			}
			t.Error("the call waits on after the command's end")
			return nil
		}
	}
	ends(func(c container.RunExec) container.Event { return container.ExecEnded{Exec: c.Exec, Code: 3} })
	answer, err := exec(5, "false")
	if err != nil || answer.GetExitCode() != 3 || string(answer.GetStdout()) != "out" || string(answer.GetStderr()) != "err" {
		t.Errorf("the answer is %v, %v", answer, err)
	}
	if c := d.actors.last().(container.RunExec); c.Timeout != 5*time.Second || len(c.Command) != 1 || c.Command[0] != "false" {
		t.Errorf("asked for %+v", c)
	}
	if _, err := exec(math.MaxInt64, "false"); err != nil {
		t.Error(err)
	}
	if c := d.actors.last().(container.RunExec); c.Timeout != maxSeconds*time.Second {
		t.Errorf("the longest timeout is %v", c.Timeout)
	}
	ends(func(c container.RunExec) container.Event { return container.ExecEnded{Exec: c.Exec, TimedOut: true} })
	_, err = exec(5, "sleep")
	refused(t, err, fault.Deadline, "timeout")
	ends(func(c container.RunExec) container.Event {
		return container.ExecFailed{Exec: c.Exec, Fault: *fault.New(fault.Interrupted, "exec", "", "no such program")}
	})
	_, err = exec(0, "nothing")
	refused(t, err, fault.Interrupted, "no such program")
	if d.execs.open != 0 {
		t.Errorf("%d outputs were not collected", d.execs.open)
	}
}

// A caller that leaves withdraws its stop; one that has its answer does not.
func TestStopWithdrawn(t *testing.T) {
	d := newDesk(t, func(d *desk) {
		d.sandboxEvents("pod", ready("pod", podConfig(nil))...)
		d.containerEvents("web", running("web", "pod", containerConfig(nil))...)
	})
	stop := func(ctx context.Context, timeout int64) error {
		_, err := d.StopContainer(ctx, &runtimeapi.StopContainerRequest{ContainerId: "web", Timeout: timeout})
		return err
	}
	if err := stop(t.Context(), -7); err != nil {
		t.Error(err)
	}
	if c := d.actors.last().(container.Stop); c.Grace != 0 {
		t.Errorf("a negative timeout is a grace of %v", c.Grace)
	}
	if err := stop(t.Context(), math.MaxInt64); err != nil {
		t.Error(err)
	}
	if c := d.actors.last().(container.Stop); c.Grace != maxSeconds*time.Second {
		t.Errorf("the longest timeout is a grace of %v", c.Grace)
	}
	ctx, cancel := context.WithCancel(t.Context())
	d.actors.container = func(ctx context.Context, c container.Command, _ func(container.State, container.Event) (bool, error)) error {
		if _, is := c.(container.Stop); is {
			cancel()
			return context.Cause(ctx)
		}
		return ctx.Err()
	}
	if err := stop(ctx, 30); !errors.Is(err, context.Canceled) {
		t.Errorf("the caller that left got %v", err)
	}
	d.actors.mu.Lock()
	defer d.actors.mu.Unlock()
	asked := d.actors.asked[len(d.actors.asked)-2:]
	first, withdrawn := asked[0].(container.Stop), asked[1].(container.WithdrawStop)
	if first.Request == "" || first.Request != withdrawn.Request || first.Grace != 30*time.Second {
		t.Errorf("asked for %+v, then %+v", first, withdrawn)
	}
}

func TestPullImage(t *testing.T) {
	d := newDesk(t, nil)
	_, err := d.PullImage(t.Context(), &runtimeapi.PullImageRequest{Image: &runtimeapi.ImageSpec{}})
	refused(t, err, fault.Invalid, "image.image")
	// A reference stays in the log for ever.
	secret := &runtimeapi.ImageSpec{Image: "https://me:hunter2@lab.test/web:1?token=hunter2"}
	_, err = d.PullImage(t.Context(), &runtimeapi.PullImageRequest{Image: secret})
	refused(t, err, fault.Invalid, "image.image: \"https://[redacted]@lab.test/web:1?[redacted]\"")
	_, err = d.RemoveImage(t.Context(), &runtimeapi.RemoveImageRequest{Image: secret})
	refused(t, err, fault.Invalid, "image.image: \"https://[redacted]@lab.test/web:1?[redacted]\"")
	if d.actors.last() != nil {
		t.Errorf("asked for %+v", d.actors.last())
	}
	answer, err := d.PullImage(t.Context(), &runtimeapi.PullImageRequest{
		Image: &runtimeapi.ImageSpec{Image: "web:1"}, Auth: &runtimeapi.AuthConfig{Username: "me", Password: "secret"}, SandboxConfig: podConfig(nil),
	})
	if err != nil || answer.GetImageRef() != "id of web:1" {
		t.Errorf("the answer is %v, %v", answer, err)
	}
	asked := d.actors.last().(image.RequestPull)
	if asked.Pull != "web:1 for me" || asked.Ref != "web:1" || len(asked.SandboxConfig) == 0 || strings.Contains(fmt.Sprint(asked), "secret") {
		t.Errorf("asked for %+v", asked)
	}
	d.actors.err = fault.New(fault.Unauthorized, "", "", "no")
	_, err = d.PullImage(t.Context(), &runtimeapi.PullImageRequest{Image: &runtimeapi.ImageSpec{Image: "web:1"}})
	refused(t, err, fault.Unauthorized, "no")
	if d.credentials.kept != 0 {
		t.Error("credentials are kept after the pull")
	}
}

// The kubelet draws a new file on the node for the container's last words with each
// request: one that it repeats is the same all the same.
func TestRepeatedRequest(t *testing.T) {
	d := newDesk(t, func(d *desk) { d.sandboxEvents("pod", ready("pod", podConfig(nil))...) })
	asked := func(words, data string) container.Create {
		t.Helper()
		config := containerConfig(func(c *runtimeapi.ContainerConfig) {
			c.Annotations = map[string]string{terminationPath: "/dev/termination-log"}
			c.Mounts = []*runtimeapi.Mount{
				{ContainerPath: "/dev/termination-log", HostPath: words},
				{ContainerPath: "/data", HostPath: data},
			}
		})
		if _, err := d.CreateContainer(t.Context(), &runtimeapi.CreateContainerRequest{PodSandboxId: "pod", Config: config}); err != nil {
			t.Fatal(err)
		}
		return d.actors.last().(container.Create)
	}
	first, again, other := asked("/pods/u/1", "/data"), asked("/pods/u/2", "/data"), asked("/pods/u/1", "/other")
	if first.ConfigDigest != again.ConfigDigest || first.ConfigDigest == other.ConfigDigest {
		t.Errorf("digests %s, %s and %s", first.ConfigDigest, again.ConfigDigest, other.ConfigDigest)
	}
	if bytes.Equal(first.Config, again.Config) {
		t.Error("the configuration lost the file")
	}
}
