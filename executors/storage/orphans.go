package storage

import (
	"context"
	"fmt"
	"time"

	library "go.podman.io/storage"
)

// CollectOrphans removes layers that are older than the given age and that no image,
// container or name refers to, and says how many. Such layers come from interrupted pulls
// and removals. It does nothing during a pull, which may be about to use them. Those of
// pulls that filled the disk it removes at any age: see BeginPull.
func (m *Images) CollectOrphans(ctx context.Context, age time.Duration) (removed int, err error) {
	full, may := m.pulls.tryCollect()
	if !may {
		return 0, nil
	}
	defer func() { m.pulls.doneCollecting(err == nil) }()
	records, err := m.lib.MultiList(library.MultiListOptions{Images: true, Layers: true, Containers: true})
	if err != nil {
		return 0, fmt.Errorf("collect orphaned layers: read the records: %w", err)
	}
	for _, id := range orphans(records, lifetime{before: m.now().Add(-age), since: full}) {
		if ctx.Err() != nil {
			return removed, fmt.Errorf("collect orphaned layers: %w", ctx.Err())
		}
		// DeleteLayer checks again, under the store's locks, that it is not needed.
		if err := m.freeing(func() error { return m.lib.DeleteLayer(id) }); err != nil {
			m.log.Debug("an orphaned layer was not removed", "layer", id, "error", err)
			continue
		}
		removed++
	}
	if removed > 0 {
		m.removeLostLinks()
	}
	return removed, nil
}

// A lifetime says when a layer must have been created to be collected: before a time, or
// since another, unless that is zero.
type lifetime struct{ before, since time.Time }

func (l lifetime) has(created time.Time) bool {
	return !created.After(l.before) || !l.since.IsZero() && !created.Before(l.since)
}

// orphans lists layers that nothing needs, children before their parents.
func orphans(records library.MultiListResult, made lifetime) []string {
	layers := make(map[string]*library.Layer, len(records.Layers))
	for i := range records.Layers {
		layers[records.Layers[i].ID] = &records.Layers[i]
	}
	needed := map[string]bool{}
	need := func(id string) {
		for id != "" && !needed[id] {
			needed[id] = true
			if layer := layers[id]; layer != nil {
				id = layer.Parent
			} else {
				return
			}
		}
	}
	for _, image := range records.Images {
		need(image.TopLayer)
		for _, mapped := range image.MappedTopLayers {
			need(mapped)
		}
	}
	for _, container := range records.Containers {
		need(container.LayerID)
	}
	for id, layer := range layers {
		if layer.ReadOnly || len(layer.Names) > 0 || layer.MountCount > 0 || !made.has(layer.Created) {
			need(id)
		}
	}
	var ordered []string
	var visit func(id string)
	children := map[string][]string{}
	for id, layer := range layers {
		children[layer.Parent] = append(children[layer.Parent], id)
	}
	visit = func(id string) {
		for _, child := range children[id] {
			visit(child)
		}
		if !needed[id] {
			ordered = append(ordered, id)
		}
	}
	for id, layer := range layers {
		if !needed[id] && (layer.Parent == "" || needed[layer.Parent] || layers[layer.Parent] == nil) {
			visit(id)
		}
	}
	return ordered
}
