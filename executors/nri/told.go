package nri

import (
	"context"
	"sync"

	"github.com/containerd/nri/pkg/adaptation"
	"github.com/containerd/nri/pkg/api"
)

// told is what the plug-ins of this daemon know of, by hooks or by their synchronization.
// It lasts as long as their connections: what comes after a restart is told in a snapshot.
//
// It makes each end known once, whichever notices it first, and keeps the end of what no
// plug-in ever heard of from them.
type told struct {
	mu sync.Mutex
	// pods maps each pod that plug-ins know to its addresses and whether they know its
	// end; containers likewise.
	pods       map[string]toldPod
	containers map[string]bool
}

type toldPod struct {
	ips   []string
	ended bool
}

func (t *told) init() { t.pods, t.containers = map[string]toldPod{}, map[string]bool{} }

func (t *told) pod(id string, ips []string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.pods[id] = toldPod{ips: ips}
}

func (t *told) container(id string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.containers[id] = false
}

// has reports whether plug-ins know of a pod or container.
func (t *told) has(id string) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	_, pod := t.pods[id]
	_, container := t.containers[id]
	return pod || container
}

func (t *told) ips(pod string) []string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.pods[pod].ips
}

// podEnds reports whether plug-ins must now be told of a pod's end.
func (t *told) podEnds(id string) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	was, known := t.pods[id]
	if known {
		t.pods[id] = toldPod{ips: was.ips, ended: true}
	}
	return known && !was.ended
}

// containerEnds is podEnds for a container.
func (t *told) containerEnds(id string) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	was, known := t.containers[id]
	if known {
		t.containers[id] = true
	}
	return known && !was
}

// forget forgets a pod or container that is gone.
func (t *told) forget(id string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.pods, id)
	delete(t.containers, id)
}

// synchronize tells a plug-in that has just registered, or all plug-ins of the folder, what
// exists. No hook is under way meanwhile.
func (d *Driver) synchronize(ctx context.Context, tell adaptation.SyncCB) error {
	return guarded(func() error {
		pods, containers, err := d.updater.source.Snapshot(ctx, d.told.has)
		if err != nil {
			return err
		}
		toldPods, toldContainers := make([]*api.PodSandbox, len(pods)), make([]*api.Container, len(containers))
		for i := range pods {
			toldPods[i] = pods[i].toNRI()
		}
		for i := range containers {
			toldContainers[i] = containers[i].toNRI()
		}
		updates, err := tell(ctx, toldPods, toldContainers)
		if err != nil {
			return err
		}
		for i := range pods {
			d.told.pod(pods[i].ID, pods[i].IPs)
		}
		for i := range containers {
			d.told.container(containers[i].ID)
		}
		// Not at once: hooks wait for this plug-in, and updates may wait for hooks.
		d.updater.later(updates)
		return nil
	})
}
