package e2e

import (
	"errors"
	"io"
	"slices"
	"testing"

	"google.golang.org/grpc"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// Each Stream call sends what its List call answers.
func TestStreamCalls(t *testing.T) {
	t.Parallel()
	h := New(t, programs, Options{})
	var pods, containers []string
	for _, name := range []string{"a", "b", "c"} {
		pod := h.RunPod(h.PodConfig(name))
		pods, containers = append(pods, pod.ID), append(containers, pod.Run(h.ContainerConfig(name)))
	}
	images, err := h.Images.ListImages(h.Context(), &runtimeapi.ListImagesRequest{})
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, i := range images.Images {
		names = append(names, i.Id)
	}
	imageStream, err := h.Images.StreamImages(h.Context(), &runtimeapi.StreamImagesRequest{})
	sameSet(t, streamed(t, imageStream, err, func(p *runtimeapi.StreamImagesResponse) (ids []string) {
		for _, x := range p.Images {
			ids = append(ids, x.Id)
		}
		return ids
	}), names)
	podStats, err := h.Runtime.StreamPodSandboxStats(h.Context(), &runtimeapi.StreamPodSandboxStatsRequest{})
	sameSet(t, streamed(t, podStats, err, func(p *runtimeapi.StreamPodSandboxStatsResponse) (ids []string) {
		for _, x := range p.PodSandboxStats {
			ids = append(ids, x.Attributes.Id)
		}
		return ids
	}), pods)
	containerStats, err := h.Runtime.StreamContainerStats(h.Context(), &runtimeapi.StreamContainerStatsRequest{})
	sameSet(t, streamed(t, containerStats, err, func(p *runtimeapi.StreamContainerStatsResponse) (ids []string) {
		for _, x := range p.ContainerStats {
			ids = append(ids, x.Attributes.Id)
		}
		return ids
	}), containers)
	metrics, err := h.Runtime.StreamPodSandboxMetrics(h.Context(), &runtimeapi.StreamPodSandboxMetricsRequest{})
	sameSet(t, streamed(t, metrics, err, func(p *runtimeapi.StreamPodSandboxMetricsResponse) (ids []string) {
		for _, x := range p.PodSandboxMetrics {
			ids = append(ids, x.PodSandboxId)
		}
		return ids
	}), pods)
}

// streamed reads the ids of a stream's pages to its end.
func streamed[P any](t testing.TB, stream grpc.ServerStreamingClient[P], err error, ids func(*P) []string) (all []string) {
	t.Helper()
	for err == nil {
		var page *P
		if page, err = stream.Recv(); err == nil {
			if len(ids(page)) == 0 {
				t.Error("a page is empty")
			}
			all = slices.Concat(all, ids(page))
		}
	}
	if !errors.Is(err, io.EOF) {
		t.Error(err)
	}
	return all
}
