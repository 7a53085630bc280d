package show

import (
	"bytes"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"google.golang.org/protobuf/proto"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/stele-runtime/stele/actors/codec"
	"github.com/stele-runtime/stele/actors/container"
	"github.com/stele-runtime/stele/actors/fault"
	"github.com/stele-runtime/stele/actors/host"
	"github.com/stele-runtime/stele/actors/id"
	"github.com/stele-runtime/stele/actors/image"
	"github.com/stele-runtime/stele/actors/sandbox"
	"github.com/stele-runtime/stele/timeline"
)

// incident is a pod whose start waited for a pull, whose container ran out of memory, and
// whose network could not be detached while the monitor was lost.
func incident(t *testing.T) *timeline.Timeline {
	t.Helper()
	line, sequence := timeline.New(), uint64(0)
	add := func(after time.Duration, stream, command string, e codec.Encoded, err error) {
		if err != nil {
			t.Fatal(err)
		}
		sequence++
		line.Add(timeline.Record{
			Sequence: sequence, Stream: stream, Time: start.Add(after), SinceBoot: after, BootID: "boot", Type: e.Type, Schema: e.Schema,
			Command: command, Payload: e.Payload,
		})
	}
	inPod := func(after time.Duration, command string, e sandbox.Event) {
		encoded, err := codec.EncodeSandbox(e)
		add(after, "sandbox/"+pod, command, encoded, err)
	}
	inWeb := func(after time.Duration, command string, e container.Event) {
		encoded, err := codec.EncodeContainer(e)
		add(after, "container/"+web, command, encoded, err)
	}
	onNode := func(after time.Duration, e host.Event) {
		encoded, err := codec.EncodeHost(e)
		add(after, "node", "", encoded, err)
	}
	pull := func(after time.Duration, command string, e image.Event) {
		encoded, err := codec.EncodeImage(e)
		add(after, "image/"+id.ImageKey("lab.test/web:v1"), command, encoded, err)
	}
	config, err := proto.Marshal(&runtimeapi.ContainerConfig{
		Image: &runtimeapi.ImageSpec{Image: "sha256:1", UserSpecifiedImage: "lab.test/web:v1"},
		Envs:  []*runtimeapi.KeyValue{{Key: "PASSWORD", Value: []byte("hunter2")}},
		Linux: &runtimeapi.LinuxContainerConfig{Resources: &runtimeapi.LinuxContainerResources{MemoryLimitInBytes: 64 << 20}},
	})
	if err != nil {
		t.Fatal(err)
	}
	const ms, s = time.Millisecond, time.Second
	onNode(0, host.DaemonStarted{Version: "1", PID: 1})
	inPod(s, "sandbox.Run", sandbox.SandboxRequested{ID: pod, Name: sandbox.Name{Name: "web", Namespace: "shop"}, Handler: "runc", At: start.Add(s - ms)})
	inPod(s+12*ms, "", sandbox.SandboxPrepared{})
	inPod(s+36*ms, "", sandbox.NetworkAttached{IPs: []string{"10.86.0.2"}})
	inPod(s+36*ms, "", sandbox.SandboxReady{})
	pull(2*s, "image.RequestPull", image.PullRequested{Ref: "lab.test/web:v1", Pull: "p"})
	pull(42*s, "", image.ImagePulled{Pull: "p", ImageID: "1", Bytes: 300 << 20})
	inPod(43*s, "", sandbox.ContainerAdded{Container: web})
	inWeb(43*s, "container.Create", container.ContainerRequested{ID: id.Container(web), Sandbox: pod, Name: container.Name{Name: "web"}, Config: config, At: start.Add(43 * s)})
	inWeb(43*s+20*ms, "", container.RootfsPrepared{})
	inWeb(43*s+80*ms, "", container.ContainerCreated{Process: container.Process{PID: 4711}})
	inWeb(44*s, "container.Start", container.StartRequested{At: start.Add(44 * s)})
	inWeb(44*s+15*ms, "", container.ContainerStarted{At: start.Add(44*s + 15*ms)})
	onNode(46*s, host.MonitorLost{Reason: "signal: killed"})
	inWeb(47*s, "", container.ContainerExited{Exit: container.Exit{Code: 137, Signal: 9, OOMKilled: true, At: start.Add(47 * s)}})
	inPod(50*s, "sandbox.Stop", sandbox.StopRequested{})
	inPod(51*s, "", sandbox.ContainerStopped{Container: web})
	inPod(52*s, "", sandbox.NetworkDetachFailed{
		Fault:   fault.Fault{Op: "detach network", Reason: "plugin bridge: cannot lock the file of reservations because another process has held it for as long as the plugin was ready to wait:\n\x1b[31mtimeout"},
		RetryAt: start.Add(53 * s),
	})
	inPod(52*s, "", sandbox.SandboxStopped{})
	return line
}

// asked is the answer about a name.
func asked(t *testing.T, line *timeline.Timeline, text string) Inspected {
	t.Helper()
	name, err := timeline.ParseName(text)
	if err != nil {
		t.Fatal(err)
	}
	found, err := line.Find(name)
	if err != nil {
		t.Fatal(err)
	}
	return Inspected{Timeline: line, Found: found, Now: start.Add(time.Minute)}
}

func TestInspect(t *testing.T) {
	line := incident(t)
	whole := asked(t, line, "shop/web")
	golden(t, "inspect_pod", whole.Text)
	golden(t, "inspect_container", asked(t, line, "shop/web/web").Text)
	asJSON := func(to io.Writer) error { return whole.Structured(to, AsJSON) }
	golden(t, "inspect_json", asJSON)
	for name, write := range map[string]func(io.Writer) error{"text": whole.Text, "json": asJSON} {
		var got bytes.Buffer
		if err := write(&got); err != nil {
			t.Fatal(err)
		}
		for _, secret := range []string{"hunter2", "\x1b", "PASSWORD"} {
			if strings.Contains(got.String(), secret) {
				t.Errorf("%s shows %q", name, secret)
			}
		}
		if name == "json" {
			continue
		}
		for l := range strings.Lines(got.String()) {
			if n := utf8.RuneCountInString(strings.TrimSuffix(l, "\n")); n > columns {
				t.Errorf("a line of %d characters: %s", n, l)
			}
		}
		for _, machine := range []string{"0001-01-01", "sha256:", "%!"} {
			if strings.Contains(got.String(), machine) {
				t.Errorf("the text has %q:\n%s", machine, &got)
			}
		}
	}
	if err := whole.Text(broken{}); err == nil {
		t.Error("a broken writer goes unnoticed")
	}
}

type broken struct{}

func (broken) Write([]byte) (int, error) { return 0, fmt.Errorf("broken") }
