package sim

import (
	"slices"
	"time"

	"github.com/stele-runtime/stele/actors/entity"
	"github.com/stele-runtime/stele/actors/node"
)

// stage is where the actors of one daemon run: one message, one task and one timer at a
// time, in an order that the run draws. When the daemon is killed, it goes with all that
// is on it.
type stage struct {
	run *run
	// root is the router's mailbox.
	root   *mailbox
	actors []*mailbox
	tasks  []*task
	timers []*timer
	dead   bool
}

// mailbox is an actor's. Its messages are received in order.
type mailbox struct {
	name    string
	queue   []any
	receive func(any)
}

// task is a function that runs beside the actors: an effect or a replay.
type task struct {
	name string
	do   func()
	// hangs: it does not begin before somebody lets it.
	hangs bool
}

// timer is a function that is called once the time has come.
type timer struct {
	// at counts from the start of the run, as a clock does that never jumps.
	at time.Duration
	do func()
}

func newStage(r *run) *stage {
	s := &stage{run: r}
	router := node.NewRouter(r.logger, s)
	s.root = &mailbox{name: "router", receive: router.Receive}
	return s
}

// post brings a message to the router.
func (s *stage) post(message any) { s.root.queue = append(s.root.queue, message) }

// Messages of the stage to an actor.
type (
	started struct{}
	stopped struct{}
)

// Spawn implements node.Stage.
func (s *stage) Spawn(name string, a entity.Actor) (node.Ref, error) {
	box := &mailbox{name: name, queue: []any{started{}}}
	box.receive = func(message any) {
		switch message.(type) {
		case started:
			a.Start(func(message any) { box.queue = append(box.queue, message) })
		case stopped:
			a.Stop()
			s.actors = slices.DeleteFunc(s.actors, func(other *mailbox) bool { return other == box })
			box.receive = func(any) {}
		default:
			a.Receive(message)
		}
	}
	s.actors = append(s.actors, box)
	return box, nil
}

// Send implements node.Stage.
func (s *stage) Send(to node.Ref, message any) {
	box := to.(*mailbox)
	box.queue = append(box.queue, message)
}

// Stop implements node.Stage.
func (s *stage) Stop(ref node.Ref) { s.Send(ref, stopped{}) }

// run is entity.Surroundings.Go.
func (s *stage) begin(name string, f func()) {
	t := &task{name: name, do: f, hangs: s.run.faults.hangs()}
	s.tasks = append(s.tasks, t)
}

// after is entity.Surroundings.After.
func (s *stage) after(d time.Duration, f func()) func() bool {
	t := &timer{at: s.run.uptime + d, do: f}
	s.timers = append(s.timers, t)
	return func() bool {
		before := len(s.timers)
		s.timers = slices.DeleteFunc(s.timers, func(other *timer) bool { return other == t })
		return len(s.timers) < before
	}
}

// moves are what the daemon can do next.
func (s *stage) moves() []move {
	var moves []move
	add := func(box *mailbox) {
		if len(box.queue) > 0 {
			moves = append(moves, move{kind: "message", of: box.name, what: box.queue[0], do: func() {
				message := box.queue[0]
				box.queue = box.queue[1:]
				box.receive(message)
			}})
		}
	}
	add(s.root)
	for _, box := range s.actors {
		add(box)
	}
	for _, t := range s.tasks {
		if !t.hangs {
			moves = append(moves, move{kind: "task", of: t.name, do: func() { s.perform(t) }})
		}
	}
	for _, t := range s.timers {
		if t.at <= s.run.uptime {
			moves = append(moves, move{kind: "timer", do: func() {
				s.timers = slices.DeleteFunc(s.timers, func(other *timer) bool { return other == t })
				t.do()
			}})
		}
	}
	return moves
}

func (s *stage) perform(t *task) {
	s.tasks = slices.DeleteFunc(s.tasks, func(other *task) bool { return other == t })
	t.do()
}

// next is when the next timer is due; false if there is none.
func (s *stage) next() (at time.Duration, some bool) {
	for _, t := range s.timers {
		if !some || t.at < at {
			at, some = t.at, true
		}
	}
	return at, some
}
