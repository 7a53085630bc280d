package cri

import (
	"context"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/stele-runtime/stele/actors/container"
	"github.com/stele-runtime/stele/actors/sandbox"
)

type eventStream = grpc.ServerStreamingClient[runtimeapi.ContainerEventResponse]

// subscribe returns once the subscription is in place.
func subscribe(t testing.TB, client runtimeapi.RuntimeServiceClient) eventStream {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	t.Cleanup(cancel)
	stream, err := client.GetContainerEvents(ctx, &runtimeapi.GetEventsRequest{})
	if err == nil {
		_, err = stream.Header()
	}
	if err != nil {
		t.Fatal(err)
	}
	return stream
}

// told is an event in one line: what it says of which id, and the pod as of then.
func told(e *runtimeapi.ContainerEventResponse) string {
	turn := strings.ToLower(strings.TrimSuffix(strings.TrimPrefix(e.GetContainerEventType().String(), "CONTAINER_"), "_EVENT"))
	line := fmt.Sprintf("%s %s: %s", e.GetContainerId(), turn, strings.TrimPrefix(e.GetPodSandboxStatus().GetState().String(), "SANDBOX_"))
	for _, c := range e.GetContainersStatuses() {
		line += fmt.Sprintf(" %s=%s", c.GetId(), strings.TrimPrefix(c.GetState().String(), "CONTAINER_"))
	}
	return line
}

// expectEvents reads as many events as it wants.
func expectEvents(t *testing.T, stream eventStream, want ...string) {
	t.Helper()
	var got []string
	for range want {
		e, err := stream.Recv()
		if err != nil {
			t.Errorf("after %q: %v", got, err)
			return
		}
		if e.GetCreatedAt() == 0 || e.GetPodSandboxStatus().GetMetadata().GetUid() != "u" {
			t.Errorf("the kubelet cannot use %v", e)
		}
		got = append(got, told(e))
	}
	if !slices.Equal(got, want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// Each subscriber gets each event with its pod as of then, however late it reads.
func TestContainerEvents(t *testing.T) {
	d := newDesk(t, nil)
	d.follow()
	client, _ := d.serve()
	one, other := subscribe(t, client), subscribe(t, client)
	d.sandboxEvents("pod", ready("pod", podConfig(nil))...)
	first, second := running("a", "pod", containerConfig(nil)), running("b", "pod", containerConfig(nil))
	requested := second[0].(container.ContainerRequested)
	requested.At = requested.At.Add(time.Second)
	second[0] = requested
	d.containerEvents("a", first...)
	d.containerEvents("b", second...)
	d.containerEvents("a", container.ExecRequested{Exec: "x"}, container.ExecEnded{Exec: "x"}, container.ContainerExited{Exit: container.Exit{Code: 3, At: epoch}},
		container.RemoveRequested{}, container.RuntimeDeleted{}, container.RootfsReleased{}, container.ContainerRemoved{})
	d.containerEvents("b", container.ContainerExited{Exit: container.Exit{At: epoch}})
	d.sandboxEvents("pod", sandbox.StopRequested{}, sandbox.NetworkDetached{}, sandbox.SandboxStopped{})
	d.containerEvents("b", container.RemoveRequested{}, container.RuntimeDeleted{}, container.RootfsReleased{}, container.ContainerRemoved{})
	d.sandboxEvents("pod", sandbox.RemoveRequested{}, sandbox.SandboxReleased{}, sandbox.SandboxRemoved{})
	// A failed pod is no event, and neither is its container's creation.
	d.sandboxEvents("failed", ready("failed", podConfig(nil))[0], sandbox.SandboxFailed{})
	d.sandboxEvents("last", ready("last", podConfig(nil))...)
	d.settle()

	want := []string{
		"pod created: READY", "pod started: READY",
		"a created: READY a=CREATED", "a started: READY a=RUNNING",
		"b created: READY b=CREATED a=RUNNING", "b started: READY b=RUNNING a=RUNNING",
		"a stopped: READY b=RUNNING a=EXITED", "a deleted: READY b=RUNNING",
		"b stopped: READY b=EXITED", "pod stopped: NOTREADY b=EXITED", "b deleted: NOTREADY",
		"pod deleted: NOTREADY", "last created: READY", "last started: READY",
	}
	expectEvents(t, one, want...)
	expectEvents(t, other, want...)

	// What happened before it came is not in a late subscription.
	late := subscribe(t, client)
	d.sandboxEvents("last", sandbox.StopRequested{})
	expectEvents(t, late, "last stopped: NOTREADY")
}

// A program that ended before its start was reported was started all the same.
func TestContainerEventsOfShortLives(t *testing.T) {
	d := newDesk(t, func(d *desk) { d.sandboxEvents("pod", ready("pod", podConfig(nil))...) })
	d.follow()
	client, _ := d.serve()
	stream := subscribe(t, client)
	d.containerEvents("short", append(created("short", "pod", containerConfig(nil)), container.StartRequested{At: epoch},
		container.ContainerExited{Exit: container.Exit{Code: 1, At: epoch}}, container.ContainerStarted{At: epoch})...)
	d.containerEvents("never", append(created("never", "pod", containerConfig(nil)), container.StartRequested{At: epoch},
		container.ContainerStartFailed{At: epoch}, container.RemoveRequested{}, container.ContainerExited{Exit: container.Exit{Code: 137, At: epoch}})...)
	d.containerEvents("unmade", append(created("unmade", "pod", containerConfig(nil))[:1], container.RemoveRequested{}, container.ContainerRemoved{})...)
	d.sandboxEvents("pod", sandbox.StopRequested{})
	expectEvents(t, stream,
		"short created: READY short=CREATED", "short started: READY short=EXITED", "short stopped: READY short=EXITED",
		"never created: READY never=CREATED short=EXITED", "never stopped: READY never=EXITED short=EXITED",
		"pod stopped: NOTREADY never=EXITED short=EXITED")
}

// A subscriber that does not read is ended, is told so when it reads again, leaves nothing
// behind, and slows nobody.
func TestSlowSubscriber(t *testing.T) {
	d := newDesk(t, func(d *desk) {
		d.sandboxEvents("pod", ready("pod", podConfig(func(c *runtimeapi.PodSandboxConfig) {
			c.Annotations = map[string]string{"large": strings.Repeat("x", 1<<20)}
		}))...)
	})
	d.follow()
	client, _ := d.serve()
	slow, quick := subscribe(t, client), subscribe(t, client)
	for i := range 13 {
		name := fmt.Sprint("c", i)
		d.containerEvents(name, append(created(name, "pod", containerConfig(nil)), container.ContainerExited{Exit: container.Exit{At: epoch}},
			container.RemoveRequested{}, container.RuntimeDeleted{}, container.RootfsReleased{}, container.ContainerRemoved{})...)
		expectEvents(t, quick, name+" created: READY "+name+"=CREATED", name+" stopped: READY "+name+"=EXITED", name+" deleted: READY")
	}
	// The connection to the client is blocked, and nobody waits for it.
	eventually(t, "the slow one is ended", func() bool { return strings.Count(stacks(), ".sendEvents(") == 1 })
	var err error
	read := 0
	for ; err == nil; read++ {
		_, err = slow.Recv()
	}
	refusedWith(t, err, codes.ResourceExhausted, "4096 events", "32 MiB", "subscribe again")
	if read > 35 {
		t.Errorf("the slow one got %d events", read)
	}
	d.sandboxEvents("pod", sandbox.StopRequested{})
	expectEvents(t, quick, "pod stopped: NOTREADY")
}

// stacks are the stacks of all goroutines.
func stacks() string {
	b := make([]byte, 1<<20)
	return string(b[:runtime.Stack(b, true)])
}

func eventually(t *testing.T, what string, so func() bool) {
	t.Helper()
	for !so() {
		if t.Context().Err() != nil {
			t.Fatalf("waited in vain: %s", what)
		}
		time.Sleep(time.Millisecond)
	}
}

// Pods whose statuses do not fit into a message are told of, without their containers.
func TestContainerEventTooLarge(t *testing.T) {
	large := containerConfig(func(c *runtimeapi.ContainerConfig) {
		c.Annotations = map[string]string{"large": strings.Repeat("x", 6<<20)}
	})
	d := newDesk(t, func(d *desk) {
		d.sandboxEvents("pod", ready("pod", podConfig(nil))...)
		for i := range 3 {
			d.containerEvents(fmt.Sprint("c", i), created(fmt.Sprint("c", i), "pod", large)...)
		}
	})
	d.follow()
	client, _ := d.serve(grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(MessageMost)))
	stream := subscribe(t, client)
	d.containerEvents("c1", container.ContainerExited{Exit: container.Exit{At: epoch}})
	expectEvents(t, stream, "c1 stopped: READY")
}

// A client that goes away leaves nothing behind.
func TestSubscriberLeaves(t *testing.T) {
	d := newDesk(t, nil)
	d.follow()
	client, _ := d.serve()
	for range 10 {
		ctx, leave := context.WithCancel(t.Context())
		stream, err := client.GetContainerEvents(ctx, &runtimeapi.GetEventsRequest{})
		if err == nil {
			_, err = stream.Header()
		}
		if err != nil {
			t.Fatal(err)
		}
		leave()
	}
	eventually(t, "all are gone", func() bool { return !strings.Contains(stacks(), "GetContainerEvents") })
}
