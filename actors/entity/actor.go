package entity

import "github.com/asynkron/protoactor-go/actor"

// Actor is what an actor can be made of: an Entity.
type Actor interface {
	Start(send func(message any))
	Receive(message any)
	Stop()
}

// Props describes one actor made of an entity.
func Props(of Actor) *actor.Props {
	s := &shell{of}
	return actor.PropsFromProducer(func() actor.Actor { return s })
}

// shell is the actor around an entity.
type shell struct{ entity Actor }

// stackRoom is how much stack a step of a machine needs, in bytes: states are passed by
// value.
const stackRoom = 16 << 10

// growStack makes that room at once. The actor library runs mailboxes on new goroutines,
// whose small stacks would otherwise be doubled and copied deep within each step: that took
// a third of the actors' CPU time in a pod's life.
//
//go:noinline
func growStack(at int) byte {
	var room [stackRoom]byte
	room[at] = 1 // so that the compiler keeps it
	return room[at/2]
}

// Receive handles one message.
func (s *shell) Receive(ctx actor.Context) {
	growStack(stackRoom - 1)
	switch msg := ctx.Message().(type) {
	case *actor.Started:
		self, root := ctx.Self(), ctx.ActorSystem().Root
		s.entity.Start(func(message any) { root.Send(self, message) })
	case *actor.Stopping:
		s.entity.Stop()
	case *actor.Stopped:
		s.entity = nil // the actor library may keep the rest of a stopped actor for long
	case actor.SystemMessage, actor.AutoReceiveMessage, *actor.Restarting:
	default:
		s.entity.Receive(msg)
	}
}
