package node

import (
	"github.com/stele-runtime/stele/actors/container"
	"github.com/stele-runtime/stele/actors/entity"
	"github.com/stele-runtime/stele/actors/sandbox"
	"github.com/stele-runtime/stele/eventlog"
)

// CreateContainer creates a container in its sandbox, or joins the one that has its
// name. It is a saga over two streams:
//
//	claim the name ── another has it ─────────────► join that container, or wait until it
//	      │ claimed                                 has given way, and claim again
//	      ▼
//	AddContainer to the sandbox ── refused ───────► free the name; answer
//	      │ accepted: its event goes to the log before those of the container
//	      ├────────────────────────────┐
//	      ▼                            ▼
//	Create to the container      AddContainer is durable
//	      │ answered, or barred ¹      │ or refused by the log ²
//	      └────────────┬───────────────┘
//	                   ▼
//	    answer; a failed creation need not wait for the sandbox
//
// From AddContainer on, stopping the sandbox stops the container, too. ¹ A sandbox that
// was stopped before Create arrived has barred the container: its name is free, and the
// sandbox forgets it. ² Once accepted, AddContainer is kept until the log takes it; if it
// can never be recorded, the container is a stray, and is removed. If the daemon ends in
// between, Resume goes on: a sandbox forgets a container that does not exist (forgetGone),
// and learns of one that it does not know (adoptStrays).
func (c *Core) CreateContainer(create container.Create, from Caller[container.State, container.Event]) {
	stream := c.containers.Stream(string(create.ID))
	from.Until = container.CreateAnswer
	c.claim(containerName(create.Sandbox, create.Name), stream, func(owner eventlog.Stream) {
		if owner != stream {
			c.join(create, from, owner)
			return
		}
		(&creation{core: c, create: create, stream: stream, from: from}).add()
	})
}

// join joins the creation of the container that has the name. If that container gives way
// to another configuration, or had failed already, the name is claimed again once it is free.
func (c *Core) join(create container.Create, from Caller[container.State, container.Event], owner eventlog.Stream) {
	nameFree, until := false, container.JoinAnswer()
	joined := from
	joined.Until = func(s container.State, e container.Event) (done bool, err error) {
		nameFree, done, err = until(s, e)
		return done, err
	}
	joined.Reply = func(r entity.Reply[container.State]) {
		if (nameFree && r.Err == nil || hasNotBegun(r.Err)) && from.waits() {
			c.CreateContainer(create, from)
		} else if from.Reply != nil {
			from.Reply(r)
		}
	}
	send(c, c.containers, container.Command(create), joined, deliver{stream: owner, joins: true})
}

// creation is a CreateContainer whose name is claimed. Add's and make's answers come from
// two actors; both pass through the router's mailbox, which owns the fields.
type creation struct {
	core   *Core
	create container.Create
	stream eventlog.Stream
	from   Caller[container.State, container.Event]

	// added and made are the answers, once they have arrived.
	added *entity.Reply[sandbox.State]
	made  *entity.Reply[container.State]
	// accepted: Create was sent. done: the caller has its answer.
	accepted, done bool
}

func (x *creation) add() {
	send(x.core, x.core.sandboxes, sandbox.Command(sandbox.AddContainer{Container: x.create.ID}), Caller[sandbox.State, sandbox.Event]{
		accepted: func() { x.core.post(saga(x.make)) },
		Reply:    func(r entity.Reply[sandbox.State]) { x.core.post(saga(func() { x.added = &r; x.answer() })) },
	}, deliver{stream: x.core.sandboxes.Stream(string(x.create.Sandbox))})
}

func (x *creation) make() {
	x.accepted = true
	from := x.from
	from.Reply = func(r entity.Reply[container.State]) { x.core.post(saga(func() { x.made = &r; x.answer() })) }
	send(x.core, x.core.containers, container.Command(x.create), from, deliver{
		stream: x.stream, creates: true,
		spawn: x.core.containerActor(x.create.Sandbox, x.create.ID, &entity.Restored[container.State]{}),
	})
}

// answer answers once both streams have, or the creation has failed.
func (x *creation) answer() {
	switch {
	case x.done:
	case x.made != nil && x.made.Err != nil:
		x.reply(*x.made)
	case x.added == nil:
	case x.added.Err != nil && !x.accepted:
		x.core.post(&freed{x.stream})
		x.reply(entity.Reply[container.State]{Err: x.added.Err})
	case x.made == nil:
	case x.added.Err != nil:
		x.core.removeStray(x.create.ID)
		x.reply(entity.Reply[container.State]{Err: x.added.Err})
	default:
		x.reply(*x.made)
	}
}

func (x *creation) reply(r entity.Reply[container.State]) {
	x.done = true
	if x.from.Reply != nil {
		x.from.Reply(r)
	}
}
