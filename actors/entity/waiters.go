package entity

// waiters are the callers that wait for a state to come.
type waiters[S, E any] struct{ all []*waiter[S, E] }

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

// wait answers the caller, or makes it wait for its answer.
func (c *Core[S, C, E, F]) wait(w *work[S, C, E]) {
	if w.ask == nil || w.ask.Reply == nil {
		return
	}
	if w.ask.Until == nil {
		c.answer(w.ask.Reply, nil)
		return
	}
	x := &waiter[S, E]{until: w.ask.Until, reply: w.ask.Reply, gone: w.ask.Gone}
	c.waiters.all = append(c.waiters.all, x)
	var none E
	if c.answered(x, none) {
		c.waiters.all = c.waiters.all[:len(c.waiters.all)-1]
	}
}

// answerWaiters answers those whom an event concerns. Those behind one whose answer
// panics still wait; so does that one, until the panic is answered.
func (c *Core[S, C, E, F]) answerWaiters(e E) {
	all := c.waiters.all
	var still []*waiter[S, E]
	for i, x := range all {
		c.waiters.all = append(still[:len(still):len(still)], all[i:]...)
		if !c.answered(x, e) {
			still = append(still, x)
		}
	}
	c.waiters.all = still
}

// answered reports whether the waiter needs to wait no longer.
func (c *Core[S, C, E, F]) answered(x *waiter[S, E], e E) bool {
	if x.left() {
		return true
	}
	done, err := x.until(c.at.State, e)
	if done {
		c.answer(x.reply, err)
	}
	return done
}

func (c *Core[S, C, E, F]) answer(to func(Reply[S]), err error) {
	c.out.Answers = append(c.out.Answers, Given[S]{to, Reply[S]{State: c.at.State, Sequence: c.at.Sequence, Err: err}})
}

// refuse answers a command that was not decided, or whose events were not appended.
func (c *Core[S, C, E, F]) refuse(w *work[S, C, E], err error) {
	if w.ask != nil && w.ask.Reply != nil {
		c.answer(w.ask.Reply, err)
	}
}

func (c *Core[S, C, E, F]) refuseWaiters(err error) {
	for _, x := range c.waiters.all {
		c.answer(x.reply, err)
	}
	c.waiters.all = nil
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
	c.refuseWaiters(err)
}

// announceFree tells the owner once that the name is free.
func (c *Core[S, C, E, F]) announceFree() {
	if free := c.machine.Free(c.at.State); free != c.freed {
		c.freed, c.out.Freed = free, free
	}
}
