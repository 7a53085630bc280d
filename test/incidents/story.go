package incidents

import (
	"fmt"
	"strings"
	"time"

	"google.golang.org/protobuf/proto"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/stele-runtime/stele/actors/codec"
	"github.com/stele-runtime/stele/actors/container"
	"github.com/stele-runtime/stele/actors/host"
	"github.com/stele-runtime/stele/actors/id"
	"github.com/stele-runtime/stele/actors/image"
	"github.com/stele-runtime/stele/actors/sandbox"
	"github.com/stele-runtime/stele/timeline"
)

// Epoch is when the incidents begin.
var Epoch = time.Date(2026, 5, 4, 3, 0, 0, 0, time.UTC)

const ms = time.Millisecond

// story writes records, each some time after the one before it.
type story struct {
	now      time.Duration
	boot     string
	records  []timeline.Record
	versions map[string]uint64
}

func begin() *story {
	s := &story{boot: "boot-1", versions: map[string]uint64{}}
	s.node(0, host.DaemonStarted{BootID: s.boot, Version: "1.4.0", PID: 812, At: Epoch})
	s.node(40*ms, host.MonitorStarted{Version: "1.4.0", PID: 820})
	return s
}

func (s *story) add(after time.Duration, stream, command string, e codec.Encoded, err error) {
	if err != nil {
		panic(err) // an event of ours that does not encode
	}
	s.now += after
	s.versions[stream]++
	s.records = append(s.records, timeline.Record{
		Sequence: uint64(len(s.records) + 1), Version: s.versions[stream], Stream: stream, Time: Epoch.Add(s.now), SinceBoot: time.Hour + s.now,
		BootID: s.boot, Type: e.Type, Schema: e.Schema, Command: command, Payload: e.Payload,
	})
}

// at is the time of the event that comes that long after the last one.
func (s *story) at(after time.Duration) time.Time { return Epoch.Add(s.now + after) }

func (s *story) pod(after time.Duration, pod id.Sandbox, e sandbox.Event) {
	encoded, err := codec.EncodeSandbox(e)
	command := ""
	switch e.(type) {
	case sandbox.SandboxRequested:
		command = "sandbox.Run"
	case sandbox.StopRequested:
		command = "sandbox.Stop"
	case sandbox.RemoveRequested:
		command = "sandbox.Remove"
	}
	s.add(after, "sandbox/"+string(pod), command, encoded, err)
}

func (s *story) container(after time.Duration, c id.Container, e container.Event) {
	encoded, err := codec.EncodeContainer(e)
	command := ""
	switch e.(type) {
	case container.ContainerRequested:
		command = "container.Create"
	case container.StartRequested:
		command = "container.Start"
	}
	s.add(after, "container/"+string(c), command, encoded, err)
}

func (s *story) image(after time.Duration, ref string, e image.Event) {
	encoded, err := codec.EncodeImage(e)
	command := ""
	if _, is := e.(image.PullRequested); is {
		command = "image.RequestPull"
	}
	s.add(after, "image/"+id.ImageKey(ref), command, encoded, err)
}

func (s *story) node(after time.Duration, e host.Event) {
	encoded, err := codec.EncodeHost(e)
	s.add(after, "node", "", encoded, err)
}

// hexID is an id as Stele makes them.
func hexID(kind string, n int) string {
	digits := fmt.Sprintf("%s%08x", kind, uint32(n+1)*2654435761)
	return digits + strings.Repeat("0", 64-len(digits))
}

func (s *story) requested(pod id.Sandbox, name sandbox.Name) {
	s.pod(300*ms, pod, sandbox.SandboxRequested{ID: pod, Name: name, Handler: "runc", At: s.at(299 * ms)})
}

func (s *story) ready(pod id.Sandbox, name sandbox.Name, ip string) {
	s.requested(pod, name)
	s.pod(12*ms, pod, sandbox.SandboxPrepared{})
	s.pod(24*ms, pod, sandbox.NetworkAttached{IPs: []string{ip}})
	s.pod(0, pod, sandbox.SandboxReady{})
}

// start pulls nothing, creates a container and starts it.
func (s *story) start(pod id.Sandbox, c id.Container, name container.Name, ref string, limit int64) {
	config, err := proto.Marshal(&runtimeapi.ContainerConfig{
		Image: &runtimeapi.ImageSpec{Image: "sha256:1", UserSpecifiedImage: ref},
		Envs:  []*runtimeapi.KeyValue{{Key: "PASSWORD", Value: []byte("hunter2")}},
		Linux: &runtimeapi.LinuxContainerConfig{Resources: &runtimeapi.LinuxContainerResources{MemoryLimitInBytes: limit}},
	})
	if err != nil {
		panic(err)
	}
	s.pod(10*ms, pod, sandbox.ContainerAdded{Container: c})
	s.container(ms, c, container.ContainerRequested{ID: c, Sandbox: pod, Name: name, Config: config, StopSignal: "SIGTERM", At: s.at(0)})
	s.container(19*ms, c, container.RootfsPrepared{})
	s.container(61*ms, c, container.ContainerCreated{Process: container.Process{PID: 4711, StartTime: 9}})
	s.container(5*ms, c, container.StartRequested{At: s.at(5 * ms)})
	s.container(15*ms, c, container.ContainerStarted{At: s.at(15 * ms)})
}

func (s *story) exit(after time.Duration, c id.Container, x container.Exit) {
	x.At = s.at(after)
	s.container(after, c, container.ContainerExited{Exit: x})
}

func (s *story) remove(pod id.Sandbox, c id.Container) {
	s.container(20*ms, c, container.RemoveRequested{By: container.ByCall})
	s.container(10*ms, c, container.RuntimeDeleted{})
	s.container(10*ms, c, container.RootfsReleased{})
	s.container(0, c, container.ContainerRemoved{})
	s.pod(0, pod, sandbox.ContainerForgotten{Container: c})
}

func (s *story) pull(ref string, layers int, took time.Duration) {
	p := id.Pull("pull-" + ref)
	s.image(5*ms, ref, image.PullRequested{Ref: ref, Pull: p, At: s.at(5 * ms)})
	s.image(180*ms, ref, image.ImageResolved{Pull: p, Resolved: image.Resolved{Name: ref, Digest: "sha256:1", Layers: layers, Bytes: 300 << 20}})
	for range layers {
		s.image(took/time.Duration(layers), ref, image.LayerFetched{Pull: p, Layer: image.Layer{Bytes: 300 << 20 / uint64(layers)}})
	}
	s.image(400*ms, ref, image.ImagePulled{Pull: p, ImageID: "1", Bytes: 300 << 20})
}
