package entity

import "github.com/asynkron/protoactor-go/actor"

// Actor is what can be made an actor: an Entity.
type Actor interface {
	Start(send func(message any))
	Receive(message any)
	Stop()
}

// Props describes the actor that is made of what the function returns.
func Props(produce func() Actor) *actor.Props {
	return actor.PropsFromProducer(func() actor.Actor { return &shell{produce()} })
}

// shell is the actor around an entity.
type shell struct{ entity Actor }

// Receive handles one message.
func (s *shell) Receive(ctx actor.Context) {
	switch msg := ctx.Message().(type) {
	case *actor.Started:
		self, root := ctx.Self(), ctx.ActorSystem().Root
		s.entity.Start(func(message any) { root.Send(self, message) })
	case *actor.Stopping:
		s.entity.Stop()
	case actor.SystemMessage, actor.AutoReceiveMessage, *actor.Stopped, *actor.Restarting:
	default:
		s.entity.Receive(msg)
	}
}
