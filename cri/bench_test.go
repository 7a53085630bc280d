package cri

import (
	"fmt"
	"testing"

	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/stele-runtime/stele/actors/codec"
	"github.com/stele-runtime/stele/actors/container"
	"github.com/stele-runtime/stele/eventlog"
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
	client, _ := crowded(b).serve()
	for b.Loop() {
		got, err := client.ListContainers(b.Context(), &runtimeapi.ListContainersRequest{})
		if err != nil || len(got.GetContainers()) != 1000 {
			b.Fatal(len(got.GetContainers()), err)
		}
	}
}

// BenchmarkContainerEvent is the time from an append to a subscriber's receipt, on a node
// with 500 pods.
func BenchmarkContainerEvent(b *testing.B) {
	d := crowded(b)
	d.follow()
	client, _ := d.serve()
	stream := subscribe(b, client)
	config := containerConfig(nil)
	for i := 0; b.Loop(); i++ {
		name := fmt.Sprint("c", i)
		b.StopTimer()
		events := created(name, fmt.Sprintf("%064d", 250), config)
		d.containerEvents(name, events[:2]...)
		b.StartTimer()
		encoded, err := codec.EncodeContainer(events[2])
		if err == nil {
			_, err = d.log.Append(b.Context(), eventlog.Append{
				Stream: eventlog.Stream("container/" + name), Expected: 2, Entries: []eventlog.Entry{{Type: encoded.Type, Schema: encoded.Schema, Payload: encoded.Payload}},
			})
		}
		if err != nil {
			b.Fatal(err)
		}
		if e, err := stream.Recv(); err != nil || e.GetContainerId() != name {
			b.Fatal(e, err)
		}
		b.StopTimer()
		d.containerEvents(name, container.RemoveRequested{}, container.RuntimeDeleted{}, container.RootfsReleased{}, container.ContainerRemoved{})
		for range 2 {
			if _, err := stream.Recv(); err != nil {
				b.Fatal(err)
			}
		}
		b.StartTimer()
	}
}
