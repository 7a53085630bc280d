package server

import (
	"cmp"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/stele-runtime/stele/executors/monitor/server/journal"
	pb "github.com/stele-runtime/stele/proto/monitor/v1"
)

// containers are the monitor's containers, by id.
type containers struct {
	journal *journal.Journal
	losses  *news[*pb.Loss]
	blocked *news[*pb.BlockedCalls]

	mu   sync.Mutex
	byID map[string]*container
}

func newContainers(journal *journal.Journal, losses *news[*pb.Loss], blocked *news[*pb.BlockedCalls]) *containers {
	return &containers{journal: journal, losses: losses, blocked: blocked, byID: map[string]*container{}}
}

// reserve returns the container with the id; fresh if there was none and the caller
// has to make it.
func (t *containers) reserve(id string) (c *container, fresh bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if c, ok := t.byID[id]; ok {
		return c, false
	}
	c = newContainer(id)
	t.byID[id] = c
	return c, true
}

// find returns a container that was created.
func (t *containers) find(id string) (*container, error) {
	t.mu.Lock()
	c, ok := t.byID[id]
	t.mu.Unlock()
	if !ok {
		return nil, notFound(id)
	}
	<-c.ready.done()
	if c.err != nil {
		return nil, notFound(id)
	}
	return c, nil
}

// with calls f with a container that was created.
func (t *containers) with(id string, f func(*container) error) error {
	c, err := t.find(id)
	if err != nil {
		return err
	}
	return f(c)
}

func (t *containers) drop(c *container) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.byID[c.id] == c {
		delete(t.byID, c.id)
	}
}

// all returns the containers that are ready, by id.
func (t *containers) all() []*container {
	t.mu.Lock()
	defer t.mu.Unlock()
	var all []*container
	for _, c := range t.byID {
		if c.ready.happened() && c.err == nil {
			all = append(all, c)
		}
	}
	slices.SortFunc(all, func(a, b *container) int { return cmp.Compare(a.id, b.id) })
	return all
}

// forget drops a container that has ended, and returns its exit; nil for an unknown
// container.
func (t *containers) forget(id string) (*pb.Exit, error) {
	c, err := t.find(id)
	if err != nil {
		return nil, t.journal.Forget(id)
	}
	select {
	case <-c.exited.done():
	case <-time.After(forgetWait):
		return nil, fail(pb.Failure_CODE_RUNNING, "container %q still runs", id)
	}
	t.drop(c)
	t.losses.forget(id)
	t.blocked.forget(id)
	return c.exit, errors.Join(c.release(), t.journal.Forget(id))
}

// checkShutdown fails while a container runs.
func (t *containers) checkShutdown() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	for id, c := range t.byID {
		if !c.hasExited() {
			return fail(pb.Failure_CODE_RUNNING, "container %q still runs", id)
		}
	}
	return nil
}
