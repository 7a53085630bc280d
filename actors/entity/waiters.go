package entity

// waiters are the callers that wait for a state.
type waiters[S, E any] struct {
	all []*waiter[S, E]
	// answers are this step's.
	answers []Given[S]
}

type waiter[S, E any] struct {
	until Answer[S, E]
	reply func(Reply[S])
	gone  <-chan struct{}
}

// left reports whether the caller no longer waits.
func (x *waiter[S, E]) left() bool {
	select {
	case <-x.gone:
		return true
	default:
		return false
	}
}

// add answers a caller, or makes it wait for its answer.
func (w *waiters[S, E]) add(x *waiter[S, E], at *Restored[S]) {
	w.all = append(w.all, x)
	var none E
	if w.answered(x, at, none) {
		w.all = without(w.all)
	}
}

// without drops the last waiter, and keeps no memory if it was the only one.
func without[S, E any](all []*waiter[S, E]) []*waiter[S, E] {
	last := len(all) - 1
	if last == 0 {
		return nil
	}
	all[last] = nil
	return all[:last]
}

// tell answers the callers who waited for an event. If an answer panics, its caller and
// those behind it still wait, until the panic is answered.
func (w *waiters[S, E]) tell(at *Restored[S], e E) {
	all := w.all
	var still []*waiter[S, E]
	for i, x := range all {
		w.all = append(still[:len(still):len(still)], all[i:]...)
		if !w.answered(x, at, e) {
			still = append(still, x)
		}
	}
	w.all = still
}

// answered reports whether the waiter is done.
func (w *waiters[S, E]) answered(x *waiter[S, E], at *Restored[S], e E) bool {
	if x.left() {
		return true
	}
	done, err := x.until(at.State, e)
	if done {
		w.answer(x.reply, at, err)
	}
	return done
}

func (w *waiters[S, E]) answer(to func(Reply[S]), at *Restored[S], err error) {
	w.answers = append(w.answers, Given[S]{to, Reply[S]{State: at.State, Sequence: at.Sequence, Err: err}})
}

// refuse answers every waiter with an error.
func (w *waiters[S, E]) refuse(at *Restored[S], err error) {
	for _, x := range w.all {
		w.answer(x.reply, at, err)
	}
	w.all = nil
}

// wait answers the caller of a command, or makes it wait for its answer.
func (c *Core[S, C, E, F]) wait(w *work[S, C, E]) {
	switch {
	case w.ask == nil || w.ask.Reply == nil:
	case w.ask.Until == nil:
		c.waiters.answer(w.ask.Reply, &c.at, nil)
	default:
		c.waiters.add(&waiter[S, E]{until: w.ask.Until, reply: w.ask.Reply, gone: w.ask.Gone}, &c.at)
	}
}

// refuse answers a command that was not decided, or whose events were not appended.
func (c *Core[S, C, E, F]) refuse(w *work[S, C, E], err error) {
	if w.ask != nil && w.ask.Reply != nil {
		c.waiters.answer(w.ask.Reply, &c.at, err)
	}
}

func (c *Core[S, C, E, F]) refuseAll(err error) {
	if w := c.append.work; w != nil {
		c.append.work, c.append.unsure = nil, nil
		c.refuse(w, err)
	}
	for _, w := range c.queue {
		c.refuse(w, err)
	}
	c.queue = nil
	c.waiters.refuse(&c.at, err)
}

// announceFree reports to the owner, once, that the name is free.
func (c *Core[S, C, E, F]) announceFree() {
	if free := c.machine.Free(c.at.State); free != c.freed {
		c.freed, c.out.Freed = free, free
	}
}
