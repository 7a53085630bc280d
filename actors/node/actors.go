package node

import (
	"github.com/asynkron/protoactor-go/actor"

	"github.com/stele-runtime/stele/actors/entity"
)

// root is the actor around the router. The entities are its children, so that it learns
// when they end.
type root struct {
	router *Router
	// ctx belongs to the message that is being handled.
	ctx actor.Context
	// refs are the children: a pid is compared by its value.
	refs map[string]*actor.PID
}

// Receive handles one message.
func (r *root) Receive(ctx actor.Context) {
	r.ctx = ctx
	switch msg := ctx.Message().(type) {
	case *actor.Stopping:
		r.router.Receive(stopping{})
	case *actor.Terminated:
		// The library keeps pids of past children, and a pid its process until it is used again.
		ctx.Unwatch(msg.Who)
		delete(r.refs, msg.Who.Id)
		r.router.Receive(&lost{msg.Who.Id})
	case pack:
		// The library's list of children still leads to past ones behind its end.
		children := ctx.Children()
		clear(children[len(children):cap(children)])
		r.router.Receive(msg)
	default:
		r.router.Receive(msg)
	}
}

// Spawn implements Stage.
func (r *root) Spawn(name string, a entity.Actor) (Ref, error) {
	pid, err := r.ctx.SpawnNamed(entity.Props(a), name)
	if err != nil {
		return nil, err
	}
	r.refs[pid.Id] = pid
	return pid.Id, nil
}

// Send implements Stage.
func (r *root) Send(to Ref, message any) { r.ctx.Send(r.refs[to.(string)], message) }

// Stop implements Stage.
func (r *root) Stop(ref Ref) { r.ctx.Stop(r.refs[ref.(string)]) }
