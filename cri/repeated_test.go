package cri

import (
	"testing"

	"google.golang.org/protobuf/proto"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/stele-runtime/stele/actors/container"
	"github.com/stele-runtime/stele/actors/sandbox"
)

// A list without a filter is at each moment the one with a filter that everything passes.
func TestRepeatedLists(t *testing.T) {
	d := newDesk(t, func(*desk) {})
	d.follow()
	runtime, _ := d.serve()
	same := func(when string, pods, containers int) {
		t.Helper()
		d.settle()
		for range 2 { // made, and made before
			got, err := runtime.ListPodSandbox(t.Context(), &runtimeapi.ListPodSandboxRequest{})
			want, wantErr := runtime.ListPodSandbox(t.Context(), &runtimeapi.ListPodSandboxRequest{Filter: &runtimeapi.PodSandboxFilter{LabelSelector: map[string]string{"all": "yes"}}})
			if err != nil || wantErr != nil || !proto.Equal(got, want) || len(got.GetItems()) != pods {
				t.Errorf("%s: the pods are\n%v, not\n%v: %v, %v", when, got, want, err, wantErr)
			}
			boxes, err := runtime.ListContainers(t.Context(), &runtimeapi.ListContainersRequest{Filter: &runtimeapi.ContainerFilter{}})
			wanted, wantErr := runtime.ListContainers(t.Context(), &runtimeapi.ListContainersRequest{Filter: &runtimeapi.ContainerFilter{LabelSelector: map[string]string{"all": "yes"}}})
			if err != nil || wantErr != nil || !proto.Equal(boxes, wanted) || len(boxes.GetContainers()) != containers {
				t.Errorf("%s: the containers are\n%v, not\n%v: %v, %v", when, boxes, wanted, err, wantErr)
			}
		}
	}
	labels := map[string]string{"all": "yes"}
	pod := podConfig(func(c *runtimeapi.PodSandboxConfig) { c.Labels = labels })
	box := containerConfig(func(c *runtimeapi.ContainerConfig) { c.Labels = labels })
	same("nothing is there", 0, 0)
	d.sandboxEvents("a", ready("a", pod)...)
	same("a pod is ready", 1, 0)
	d.sandboxEvents("b", ready("b", pod)...)
	d.containerEvents("c", created("c", "a", box)...)
	same("a container is created", 2, 1)
	d.containerEvents("c", container.StartRequested{}, container.ContainerStarted{At: epoch})
	same("it runs", 2, 1)
	d.containerEvents("c", container.RemoveRequested{}, container.RuntimeDeleted{}, container.RootfsReleased{}, container.ContainerRemoved{})
	d.sandboxEvents("b", sandbox.StopRequested{})
	same("it is removed", 2, 0)
}

// Lists that are the same make next to no garbage.
func BenchmarkRepeatedList(b *testing.B) {
	client, _ := crowded(b).serve()
	b.ReportAllocs()
	for b.Loop() {
		if _, err := client.ListContainers(b.Context(), &runtimeapi.ListContainersRequest{}); err != nil {
			b.Fatal(err)
		}
	}
}
