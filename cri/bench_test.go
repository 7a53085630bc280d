package cri

import (
	"fmt"
	"testing"

	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// crowded is a desk of a node with 500 pods of two containers each.
func crowded(b *testing.B) *desk {
	return newDesk(b, func(d *desk) {
		for i := range 500 {
			pod := fmt.Sprintf("%064d", i)
			d.sandboxEvents(pod, ready(pod, podConfig(nil))...)
			for j := range 2 {
				c := fmt.Sprintf("%064d", 10*i+j)
				d.containerEvents(c, running(c, pod, containerConfig(nil))...)
			}
		}
	})
}

func BenchmarkPodSandboxStatus(b *testing.B) {
	d := crowded(b)
	pod := fmt.Sprintf("%064d", 250)
	for b.Loop() {
		got, err := d.PodSandboxStatus(b.Context(), &runtimeapi.PodSandboxStatusRequest{PodSandboxId: pod})
		if err != nil || len(got.GetContainersStatuses()) != 2 {
			b.Fatal(got, err)
		}
	}
}

func BenchmarkListContainers(b *testing.B) {
	d := crowded(b)
	for b.Loop() {
		got, err := d.ListContainers(b.Context(), &runtimeapi.ListContainersRequest{})
		if err != nil || len(got.GetContainers()) != 1000 {
			b.Fatal(len(got.GetContainers()), err)
		}
	}
}
