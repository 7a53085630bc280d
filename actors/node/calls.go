package node

import (
	"github.com/stele-runtime/stele/actors/container"
	"github.com/stele-runtime/stele/actors/entity"
	"github.com/stele-runtime/stele/actors/host"
	"github.com/stele-runtime/stele/actors/id"
	"github.com/stele-runtime/stele/actors/image"
	"github.com/stele-runtime/stele/actors/sandbox"
	"github.com/stele-runtime/stele/eventlog"
)

// Sandbox brings a command to a sandbox. If there is none, the answer is a NotFound fault.
func (c *Core) Sandbox(s id.Sandbox, command sandbox.Command, from Caller[sandbox.State, sandbox.Event]) {
	send(c, c.sandboxes, command, from, deliver{stream: c.sandboxes.Stream(string(s))})
}

// Container brings a command to a container. If there is none, the answer is a NotFound
// fault.
func (c *Core) Container(x id.Container, command container.Command, from Caller[container.State, container.Event]) {
	send(c, c.containers, command, from, deliver{stream: c.containers.Stream(string(x))})
}

// Image brings a command to an image reference.
func (c *Core) Image(ref string, command image.Command, from Caller[image.State, image.Event]) {
	stream := c.images.Stream(id.ImageKey(ref))
	send(c, c.images, command, from, deliver{stream: stream, spawn: c.imageActor(ref, nil)})
}

// Host records an event of the node itself.
func (c *Core) Host(command host.Command, from Caller[host.State, host.Event]) {
	send(c, c.host, command, from, deliver{stream: HostStream})
}

// RunSandbox creates a sandbox, or joins the one that has its name.
func (c *Core) RunSandbox(run sandbox.Run, from Caller[sandbox.State, sandbox.Event]) {
	stream := c.sandboxes.Stream(string(run.ID))
	from.Until = sandbox.RunAnswer
	c.claim(sandboxName(run.Name), stream, func(owner eventlog.Stream) {
		to := deliver{stream: owner, joins: owner != stream}
		if owner == stream {
			to.creates, to.spawn = true, c.sandboxActor(run.ID, &entity.Restored[sandbox.State]{})
		}
		send(c, c.sandboxes, sandbox.Command(run), from, to)
	})
}

// Exited records the exit of a container's init or of a sandbox's holder; process says
// which one, as far as the monitor knows. Done is called once that is durable, or with
// nil if no entity needs it.
func (c *Core) Exited(name string, process container.Process, exit container.Exit, done func(error)) {
	asContainer, asSandbox := c.containers.Stream(name), c.sandboxes.Stream(name)
	c.post(&find{streams: []eventlog.Stream{asContainer, asSandbox}, found: func(found eventlog.Stream) {
		switch found {
		case asContainer:
			c.Container(id.Container(name), container.RecordExit{Exit: exit, Process: process}, Caller[container.State, container.Event]{
				Reply: func(r entity.Reply[container.State]) { done(unlessGone(r.Err)) },
			})
		case asSandbox:
			c.Sandbox(id.Sandbox(name), sandbox.HolderExited{Code: exit.Code, At: exit.At}, Caller[sandbox.State, sandbox.Event]{
				Reply: func(r entity.Reply[sandbox.State]) { done(unlessGone(r.Err)) },
			})
		default:
			done(nil)
		}
	}})
}

func (c *Core) claim(name string, stream eventlog.Stream, owner func(eventlog.Stream)) {
	c.post(&claim{name: name, stream: stream, owner: owner})
}
