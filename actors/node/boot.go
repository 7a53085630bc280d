package node

import (
	"cmp"
	"errors"
	"iter"
	"maps"
	"slices"
	"strings"

	"github.com/stele-runtime/stele/actors/container"
	"github.com/stele-runtime/stele/actors/entity"
	"github.com/stele-runtime/stele/actors/fault"
	"github.com/stele-runtime/stele/actors/host"
	"github.com/stele-runtime/stele/actors/id"
	"github.com/stele-runtime/stele/actors/sandbox"
	"github.com/stele-runtime/stele/eventlog"
)

// Boot records the start of the daemon and calls recorded; then Resume is due.
func (c *Core) Boot(past entity.Past, start host.StartDaemon, recorded func(error)) {
	m := made(c, making[host.State, host.Command, host.Event, noEffect]{
		machine: c.host, stream: HostStream, start: &past.Host,
		kind: &kind{}, // it is one, and its stream is long
	})
	c.restore(HostStream, m)
	c.Host(start, Caller[host.State, host.Event]{Reply: func(r entity.Reply[host.State]) { recorded(r.Err) }})
}

// Resume claims the names of everything that has not ended, and spawns it; whatever it
// owes is issued at once. An entity whose last event is from an earlier boot of the node
// first learns of the reboot. (It does not help that an earlier daemon ran in this boot:
// it may have ended before it had informed every entity.) A container that was being created
// first learns that nobody waits for it.
func (c *Core) Resume(past entity.Past, start host.StartDaemon) {
	for s, at := range sorted(past.Sandboxes) {
		stream := c.sandboxes.Stream(string(s))
		if !sandbox.NameFree(at.State) {
			c.reclaim(sandboxName(at.State.Name), stream)
		}
		if c.restoreDamaged(past, stream) {
			continue
		}
		var first []sandbox.Command
		if at.BootID != start.BootID {
			first = append(first, sandbox.NodeRebooted{})
		}
		c.restore(stream, c.sandboxActor(s, &at, first...))
	}
	for x, at := range sorted(past.Containers) {
		stream := c.containers.Stream(string(x))
		if !container.NameFree(at.State) {
			c.reclaim(containerName(at.State.Sandbox, at.State.Name), stream)
		}
		if c.restoreDamaged(past, stream) {
			continue
		}
		var first []container.Command
		switch {
		case at.BootID != start.BootID:
			first = append(first, container.NodeRebooted{At: start.At})
		case at.State.Phase == container.Creating:
			first = append(first, container.CallersLost{})
		}
		c.restore(stream, c.containerActor(at.State.Sandbox, x, &at, first...))
	}
	for _, at := range sorted(past.Images) {
		c.restore(c.images.Stream(id.ImageKey(at.State.Ref)), c.imageActor(at.State.Ref, &at))
	}
	for stream := range sorted(past.Damaged) {
		_, name, _ := strings.Cut(string(stream), "/")
		_, sandboxKnown := past.Sandboxes[id.Sandbox(name)]
		_, containerKnown := past.Containers[id.Container(name)]
		if !sandboxKnown && !containerKnown {
			c.restoreDamaged(past, stream)
		}
	}
	c.forgetGone(past)
	c.adoptStrays(past)
}

// restoreDamaged spawns the entity of a stream if it is damaged, and reports whether it
// is: what may run must not be forgotten, and can be ended.
func (c *Core) restoreDamaged(past entity.Past, stream eventlog.Stream) bool {
	reason, damaged := past.Damaged[stream]
	if !damaged {
		return false
	}
	kind, name, _ := strings.Cut(string(stream), "/")
	switch kind {
	case c.sandboxes.Kind:
		at, known := past.Sandboxes[id.Sandbox(name)]
		if !known {
			at.State = sandbox.State{ID: id.Sandbox(name), Phase: sandbox.Ready, Network: sandbox.Network{Begun: true}, Holder: sandbox.Holder{Begun: true}}
		}
		m := c.sandboxMaking(id.Sandbox(name), &at)
		m.damage = reason
		c.restore(stream, made(c, m))
		switch at.State.Phase {
		case sandbox.Unwinding, sandbox.Failed, sandbox.Removed:
			// No caller knows its id, or they know that it is removed: none will remove it. A
			// network that could not be detached is still owed.
			c.Sandbox(id.Sandbox(name), sandbox.Remove{}, Caller[sandbox.State, sandbox.Event]{Reply: func(r entity.Reply[sandbox.State]) {
				if r.Err != nil {
					c.logger.Error("a pod that cannot be read is not undone", "sandbox", name, "error", r.Err)
				}
			}})
		case sandbox.Absent, sandbox.Creating, sandbox.Ready, sandbox.Stopping, sandbox.Stopped, sandbox.Removing:
		}
	case c.containers.Kind:
		at, known := past.Containers[id.Container(name)]
		if !known {
			at.State = container.State{ID: id.Container(name), Phase: container.Running}
		}
		m := c.containerMaking(id.Container(name), &at)
		m.damage = reason
		c.restore(stream, owned(at.State.Sandbox, made(c, m)))
	}
	return true
}

func (c *Core) restore(stream eventlog.Stream, spawn *maker) {
	c.post(&deliver{stream: stream, spawn: spawn, refuse: func(err error) {
		if !errors.Is(err, errStopping) {
			c.logger.Error("entity not restored", "stream", string(stream), "error", err)
		}
	}})
}

func (c *Core) reclaim(name string, stream eventlog.Stream) {
	c.claim(name, stream, func(owner eventlog.Stream) {
		if owner != stream {
			c.logger.Error("two entities have one name", "name", name, "stream", string(stream), "owner", string(owner))
		}
	})
}

// forgetGone reports to sandboxes which of their containers are gone, in case the daemon
// ended between the two appends.
func (c *Core) forgetGone(past entity.Past) {
	for s, at := range sorted(past.Sandboxes) {
		for _, x := range at.State.Containers {
			_, damaged := past.Damaged[c.containers.Stream(string(x.ID))]
			if was, there := past.Containers[x.ID]; !damaged && (!there || container.Gone(was.State)) {
				c.forget(s, x.ID)
			}
		}
	}
}

// adoptStrays reports to sandboxes the containers that they don't know, in case the daemon
// ended when the log had the container's first event but not its sandbox's. If the sandbox
// refuses it, the container is removed; if there is no such sandbox, it is left alone.
func (c *Core) adoptStrays(past entity.Past) {
	for x, at := range sorted(past.Containers) {
		pod, there := past.Sandboxes[at.State.Sandbox]
		_, damaged := past.Damaged[c.sandboxes.Stream(string(at.State.Sandbox))]
		if (there || damaged) && !pod.State.Containers.Has(x) && !container.Gone(at.State) {
			c.logger.Warn("container unknown to its sandbox", "container", string(x), "sandbox", string(at.State.Sandbox))
			c.adopt(at.State.Sandbox, x)
		}
	}
}

func (c *Core) adopt(s id.Sandbox, x id.Container) {
	c.Sandbox(s, sandbox.AdoptContainer{Container: x}, Caller[sandbox.State, sandbox.Event]{Reply: func(r entity.Reply[sandbox.State]) {
		switch {
		case r.Err == nil:
		case fault.KindOf(r.Err) == fault.Unavailable:
			c.around.After(tellAgain, func() { c.adopt(s, x) })
		default:
			c.removeStray(x)
		}
	}})
}

// sorted walks a map in the order of its keys, so that a boot is reproducible.
func sorted[K cmp.Ordered, V any](m map[K]V) iter.Seq2[K, V] {
	return func(yield func(K, V) bool) {
		for _, k := range slices.Sorted(maps.Keys(m)) {
			if !yield(k, m[k]) {
				return
			}
		}
	}
}
