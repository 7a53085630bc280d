package cri

import (
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/stele-runtime/stele/actors/sandbox"
)

// Every item is sent once and in order, and no page is larger than it may be.
func TestPages(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 1))
	for range 20 {
		var all, sent []*runtimeapi.PodSandbox
		for i := range random.IntN(3 * pageItems) {
			item := &runtimeapi.PodSandbox{Id: fmt.Sprint(i)}
			if random.IntN(100) == 0 {
				item.RuntimeHandler = strings.Repeat("x", random.IntN(2*pageBytes))
			}
			all = append(all, item)
		}
		err := sendPages(slices.Values(all), func(page []*runtimeapi.PodSandbox) error {
			size := proto.Size(&runtimeapi.StreamPodSandboxesResponse{PodSandboxes: page})
			if len(page) == 0 || len(page) > pageItems || len(page) > 1 && size > pageBytes {
				t.Errorf("a page has %d items and %d bytes", len(page), size)
			}
			sent = append(sent, page...)
			return nil
		})
		if err != nil || !slices.Equal(sent, all) {
			t.Fatalf("sent are %d of %d items, %v", len(sent), len(all), err)
		}
	}
	broken := errors.New("broken")
	made := 0
	err := sendPages(func(yield func(*runtimeapi.PodSandbox) bool) {
		for made = 0; yield(&runtimeapi.PodSandbox{}); made++ {
		}
	}, func([]*runtimeapi.PodSandbox) error { return broken })
	if !errors.Is(err, broken) || made > pageItems {
		t.Errorf("%d items were made for a client that is gone, %v", made, err)
	}
}

// large is a desk of a node with 500 pods of one container each, all with so many bytes of
// annotations. All but 20 have a label.
func large(t *testing.T, bytes int) *desk {
	annotations := map[string]string{"large": strings.Repeat("x", bytes)}
	return newDesk(t, func(d *desk) {
		for i := range 500 {
			labels := map[string]string{"most": fmt.Sprint(i < 480)}
			pod, c := fmt.Sprintf("pod%061d", i), fmt.Sprintf("container%055d", i)
			d.sandboxEvents(pod, ready(pod, podConfig(func(c *runtimeapi.PodSandboxConfig) { c.Labels, c.Annotations = labels, annotations }))...)
			d.containerEvents(c, running(c, pod, containerConfig(func(c *runtimeapi.ContainerConfig) { c.Labels, c.Annotations = labels, annotations }))...)
		}
	})
}

// A List that does not fit into a message says which call to use instead, and that one
// serves a client with gRPC's default limit.
func TestLargeLists(t *testing.T) {
	d := large(t, 34_000)
	runtime, _ := d.serve()
	_, err := runtime.ListPodSandbox(t.Context(), &runtimeapi.ListPodSandboxRequest{})
	refusedWith(t, err, codes.ResourceExhausted, "StreamPodSandboxes", "16777216")
	_, err = runtime.ListContainers(t.Context(), &runtimeapi.ListContainersRequest{})
	refusedWith(t, err, codes.ResourceExhausted, "StreamContainers", "16777216")
	pods, err := runtime.StreamPodSandboxes(t.Context(), &runtimeapi.StreamPodSandboxesRequest{})
	if got := received(t, pods, err, (*runtimeapi.StreamPodSandboxesResponse).GetPodSandboxes); !slices.EqualFunc(got, slices.Collect(d.podSandboxes(nil)), equal) || len(got) != 500 {
		t.Errorf("got %d pods", len(got))
	}
	containers, err := runtime.StreamContainers(t.Context(), &runtimeapi.StreamContainersRequest{})
	if got := received(t, containers, err, (*runtimeapi.StreamContainersResponse).GetContainers); !slices.EqualFunc(got, slices.Collect(d.containers(nil)), equal) || len(got) != 500 {
		t.Errorf("got %d containers", len(got))
	}

	_, err = runtime.ListPodSandboxStats(t.Context(), &runtimeapi.ListPodSandboxStatsRequest{})
	refusedWith(t, err, codes.ResourceExhausted, "StreamPodSandboxStats", "16777216")
	stats, err := runtime.StreamPodSandboxStats(t.Context(), &runtimeapi.StreamPodSandboxStatsRequest{})
	if got := received(t, stats, err, (*runtimeapi.StreamPodSandboxStatsResponse).GetPodSandboxStats); len(got) != 500 {
		t.Errorf("got the stats of %d pods", len(got))
	}
	_, err = runtime.ListContainerStats(t.Context(), &runtimeapi.ListContainerStatsRequest{})
	refusedWith(t, err, codes.ResourceExhausted, "StreamContainerStats", "16777216")
	boxStats, err := runtime.StreamContainerStats(t.Context(), &runtimeapi.StreamContainerStatsRequest{})
	if got := received(t, boxStats, err, (*runtimeapi.StreamContainerStatsResponse).GetContainerStats); len(got) != 500 {
		t.Errorf("got the stats of %d containers", len(got))
	}

	// What fits is answered to a client with the kubelet's limit.
	most := map[string]string{"most": "true"}
	limit := grpc.MaxCallRecvMsgSize(16 << 20)
	listed, err := runtime.ListPodSandbox(t.Context(), &runtimeapi.ListPodSandboxRequest{Filter: &runtimeapi.PodSandboxFilter{LabelSelector: most}}, limit)
	if err != nil || len(listed.GetItems()) != 480 {
		t.Errorf("got %d pods, %v", len(listed.GetItems()), err)
	}
	boxes, err := runtime.ListContainers(t.Context(), &runtimeapi.ListContainersRequest{Filter: &runtimeapi.ContainerFilter{LabelSelector: most}}, limit)
	if err != nil || len(boxes.GetContainers()) != 480 {
		t.Errorf("got %d containers, %v", len(boxes.GetContainers()), err)
	}
}

// A Stream call yields what the List call with the same filter does.
func TestStreamsAreLists(t *testing.T) {
	d := street(t)
	runtime, images := d.serve()
	running := &runtimeapi.ContainerStateValue{State: runtimeapi.ContainerState_CONTAINER_RUNNING}
	notReady := &runtimeapi.PodSandboxStateValue{State: runtimeapi.PodSandboxState_SANDBOX_NOTREADY}
	for _, filter := range []*runtimeapi.PodSandboxFilter{
		nil, {}, {Id: "ready"}, {Id: "rea"}, {Id: "nobody"}, {State: notReady}, {LabelSelector: map[string]string{"app": "web"}}, {LabelSelector: map[string]string{"app": "\x00"}},
		{State: &runtimeapi.PodSandboxStateValue{State: 7}},
	} {
		listed, err := runtime.ListPodSandbox(t.Context(), &runtimeapi.ListPodSandboxRequest{Filter: filter})
		if err != nil {
			t.Fatal(err)
		}
		stream, err := runtime.StreamPodSandboxes(t.Context(), &runtimeapi.StreamPodSandboxesRequest{Filter: filter})
		if got := received(t, stream, err, (*runtimeapi.StreamPodSandboxesResponse).GetPodSandboxes); !slices.EqualFunc(got, listed.GetItems(), equal) {
			t.Errorf("%v: streamed %v\nlisted %v", filter, got, listed.GetItems())
		}
	}
	for _, filter := range []*runtimeapi.ContainerFilter{
		nil, {}, {Id: "run"}, {Id: strings.Repeat("x", 1000)}, {PodSandboxId: "ready"}, {State: running}, {LabelSelector: map[string]string{"name": "running"}},
	} {
		listed, err := runtime.ListContainers(t.Context(), &runtimeapi.ListContainersRequest{Filter: filter})
		if err != nil {
			t.Fatal(err)
		}
		stream, err := runtime.StreamContainers(t.Context(), &runtimeapi.StreamContainersRequest{Filter: filter})
		if got := received(t, stream, err, (*runtimeapi.StreamContainersResponse).GetContainers); !slices.EqualFunc(got, listed.GetContainers(), equal) {
			t.Errorf("%v: streamed %v\nlisted %v", filter, got, listed.GetContainers())
		}
	}
	for _, name := range []string{"", "web:1", "nobody"} {
		filter := &runtimeapi.ImageFilter{Image: &runtimeapi.ImageSpec{Image: name}}
		listed, err := images.ListImages(t.Context(), &runtimeapi.ListImagesRequest{Filter: filter})
		if err != nil {
			t.Fatal(err)
		}
		stream, err := images.StreamImages(t.Context(), &runtimeapi.StreamImagesRequest{Filter: filter})
		if got := received(t, stream, err, (*runtimeapi.StreamImagesResponse).GetImages); !slices.EqualFunc(got, listed.GetImages(), equal) {
			t.Errorf("%q: streamed %v\nlisted %v", name, got, listed.GetImages())
		}
	}
	streamedStats(t, runtime)
	stream, err := images.StreamImages(t.Context(), &runtimeapi.StreamImagesRequest{Filter: &runtimeapi.ImageFilter{Image: &runtimeapi.ImageSpec{Image: "broken"}}})
	if err == nil {
		_, err = stream.Recv()
	}
	refusedWith(t, err, codes.Internal, "the store is broken")
}

// streamedStats compares the statistics, which are those of fakes.
func streamedStats(t *testing.T, runtime runtimeapi.RuntimeServiceClient) {
	t.Helper()
	for _, id := range []string{"", "run", "nobody", "\x00"} {
		filter := &runtimeapi.ContainerStatsFilter{Id: id}
		listed, err := runtime.ListContainerStats(t.Context(), &runtimeapi.ListContainerStatsRequest{Filter: filter})
		if err != nil {
			t.Fatal(err)
		}
		stream, err := runtime.StreamContainerStats(t.Context(), &runtimeapi.StreamContainerStatsRequest{Filter: filter})
		if got := received(t, stream, err, (*runtimeapi.StreamContainerStatsResponse).GetContainerStats); !slices.EqualFunc(got, listed.GetStats(), equal) || id == "" && len(got) == 0 {
			t.Errorf("%q: streamed %v\nlisted %v", id, got, listed.GetStats())
		}
	}
	for _, id := range []string{"", "ready", "nobody", "\x00"} {
		filter := &runtimeapi.PodSandboxStatsFilter{Id: id}
		listed, err := runtime.ListPodSandboxStats(t.Context(), &runtimeapi.ListPodSandboxStatsRequest{Filter: filter})
		if err != nil {
			t.Fatal(err)
		}
		stream, err := runtime.StreamPodSandboxStats(t.Context(), &runtimeapi.StreamPodSandboxStatsRequest{Filter: filter})
		if got := received(t, stream, err, (*runtimeapi.StreamPodSandboxStatsResponse).GetPodSandboxStats); !slices.EqualFunc(got, listed.GetStats(), equal) || id == "" && len(got) == 0 {
			t.Errorf("%q: streamed %v\nlisted %v", id, got, listed.GetStats())
		}
	}
	listed, err := runtime.ListPodSandboxMetrics(t.Context(), &runtimeapi.ListPodSandboxMetricsRequest{})
	if err != nil {
		t.Fatal(err)
	}
	stream, err := runtime.StreamPodSandboxMetrics(t.Context(), &runtimeapi.StreamPodSandboxMetricsRequest{})
	if got := received(t, stream, err, (*runtimeapi.StreamPodSandboxMetricsResponse).GetPodSandboxMetrics); !slices.EqualFunc(got, listed.GetPodMetrics(), equal) || len(got) == 0 {
		t.Errorf("streamed %v\nlisted %v", got, listed.GetPodMetrics())
	}
}

// What happens while pages are sent is not in them.
func TestPagesAreOfOneMoment(t *testing.T) {
	d := large(t, 10_000)
	d.follow()
	pages := 0
	var sent []*runtimeapi.PodSandbox
	err := sendPages(d.podSandboxes(nil), func(page []*runtimeapi.PodSandbox) error {
		for _, x := range d.Views.Sandboxes() {
			if x.State.Phase == sandbox.Ready {
				d.sandboxEvents(string(x.State.ID), sandbox.StopRequested{})
				break
			}
		}
		late := fmt.Sprintf("late%d", pages)
		d.sandboxEvents(late, ready(late, podConfig(nil))...)
		d.settle()
		pages, sent = pages+1, append(sent, page...)
		return nil
	})
	if err != nil || pages < 3 || len(sent) != 500 {
		t.Errorf("%d pods in %d pages, %v", len(sent), pages, err)
	}
	for _, pod := range sent {
		if pod.GetState() != runtimeapi.PodSandboxState_SANDBOX_READY {
			t.Errorf("%s is %s", pod.GetId(), pod.GetState())
		}
	}
}

// received reads a stream to its end, and returns the items of all pages.
func received[P, T any](t *testing.T, stream grpc.ServerStreamingClient[P], err error, items func(*P) []T) (all []T) {
	t.Helper()
	for err == nil {
		var page *P
		if page, err = stream.Recv(); err == nil {
			all = append(all, items(page)...)
		}
	}
	if !errors.Is(err, io.EOF) {
		t.Error(err)
	}
	return all
}

func equal[T proto.Message](a, b T) bool { return proto.Equal(a, b) }

// refusedWith checks a status that came over a socket.
func refusedWith(t *testing.T, err error, code codes.Code, words ...string) {
	t.Helper()
	if status.Code(err) != code {
		t.Errorf("got %v, want the code %s", err, code)
	}
	for _, word := range words {
		if err != nil && !strings.Contains(err.Error(), word) {
			t.Errorf("got %v, want a message with %q", err, word)
		}
	}
}
