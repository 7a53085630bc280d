package entity_test

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stele-runtime/stele/actors/entity"
	"github.com/stele-runtime/stele/actors/fault"
	"github.com/stele-runtime/stele/eventlog"
)

// An effect sees in the log the event that makes it owed, and a caller the one
// that answers it.
func TestAppendThenActThenReply(t *testing.T) {
	log := newLog()
	o := newOffice(t, log)
	acted := make(chan int, 1)
	o.machine.Execute = func(_ context.Context, f doJob) command {
		acted <- count[jobPut](recorded(t, log, stream))
		return jobDone{Name: f.job.Name}
	}
	c := o.openNew()
	answered := make(chan int, 1)
	o.system.Root.Send(c.pid, &ask{Command: simple("a"), Until: done("a"), Reply: func(r reply) {
		answered <- count[jobEnded](recorded(t, log, stream))
		if r.Sequence != log.Last() {
			t.Errorf("the answer is of record %d, the log is at %d", r.Sequence, log.Last())
		}
	}})
	if n := <-acted; n != 1 {
		t.Errorf("%d announcements were in the log when the effect ran", n)
	}
	if n := <-answered; n != 1 {
		t.Errorf("%d events that carry the answer were in the log when it arrived", n)
	}
}

// While an append is under way, no effect begins and no caller is answered; commands
// that arrive meanwhile wait, in order.
func TestNothingBeforeTheAppend(t *testing.T) {
	log := newLog()
	o := newOffice(t, log)
	var acted sync.Map
	o.machine.Execute = func(_ context.Context, f doJob) command {
		acted.Store(f.job.Name, true)
		return jobDone{Name: f.job.Name}
	}
	reached, release := make(chan struct{}), make(chan struct{})
	log.then(func(a eventlog.Append, done func([]eventlog.Record, error)) {
		close(reached)
		go func() {
			<-release
			log.Log.AppendAsync(a, done)
		}()
	})
	c := o.openNew()
	first := c.send(ask{Command: simple("a")})
	<-reached
	var order []string
	rest := make(chan struct{})
	for _, name := range []string{"b", "c"} {
		o.system.Root.Send(c.pid, &ask{Command: simple(name), Reply: func(r reply) {
			order = append(order, name)
			if len(order) == 2 {
				close(rest)
			}
		}})
	}
	if _, early := acted.Load("a"); early || len(first) > 0 || log.Last() > 0 {
		t.Error("an effect began or a caller was answered before the append ended")
	}
	close(release)
	if r := <-first; r.Err != nil || r.Sequence == 0 {
		t.Errorf("answer %+v", r)
	}
	<-rest
	if !slices.Equal(order, []string{"b", "c"}) {
		t.Errorf("answered in the order %v", order)
	}
}

// An append is volatile only if every event in it is.
func TestVolatile(t *testing.T) {
	volatile := func(e event) bool {
		_, is := e.(jobPut)
		return is
	}
	for name, c := range map[string]struct {
		volatile func(event) bool
		events   []event
		want     bool
	}{
		"all of it":    {volatile, []event{jobPut{job{Name: "a"}}, jobPut{job{Name: "b"}}}, true},
		"the first":    {volatile, []event{jobPut{}, withdrawn{}}, false},
		"the last":     {volatile, []event{withdrawn{}, jobPut{}}, false},
		"nothing is":   {volatile, []event{withdrawn{}}, false},
		"no such word": {nil, []event{jobPut{}}, false},
	} {
		log := newLog()
		o := newOffice(t, log)
		o.machine.Decide = func(desk, command) ([]event, error) { return c.events, nil }
		o.machine.Owed = func(desk) []doJob { return nil }
		o.machine.Volatile = c.volatile
		got := make(chan bool, 1)
		log.then(func(a eventlog.Append, done func([]eventlog.Record, error)) {
			got <- a.Volatile
			log.Log.AppendAsync(a, done)
		})
		o.openNew().must(simple("a"), nil)
		if got := <-got; got != c.want {
			t.Errorf("%s: the append's Volatile is %t", name, got)
		}
	}
}

// An announced effect does not wait until the outcome before it is durable, whether or
// not the log takes that at once; and it is done once.
func TestAnnouncedEffectGoesAhead(t *testing.T) {
	for _, refused := range []bool{false, true} {
		log := newLog()
		o := newOffice(t, log)
		o.machine.Announced = announced
		begun := make(chan struct{}, 2)
		o.machine.Execute = func(_ context.Context, f doJob) command {
			if f.job.Name == "b" {
				begun <- struct{}{}
			}
			return jobDone{Name: f.job.Name}
		}
		log.then(log.Log.AppendAsync, func(a eventlog.Append, done func([]eventlog.Record, error)) {
			go func() {
				<-begun
				if log.Last() != 1 {
					t.Errorf("the log had %d records when the next effect began", log.Last())
				}
				if refused {
					done(nil, eventlog.ErrUnavailable)
					return
				}
				log.Log.AppendAsync(a, done)
			}()
		})
		c := o.openNew()
		s := c.must(put{job{Name: "a", Resource: "a", Next: "b"}}, done("b"))
		if !slices.Equal(s.Done, []string{"a", "b"}) || len(s.Jobs) > 0 || len(begun) > 0 {
			t.Errorf("refused %v: done are %v, left are %v, and the second began %d more times", refused, s.Done, s.Jobs, len(begun))
		}
	}
}

// An effect that was not announced waits.
func TestOtherEffectsWaitForTheAppend(t *testing.T) {
	log := newLog()
	o := newOffice(t, log)
	o.machine.Announced = func(desk, doJob) bool { return false }
	o.machine.Execute = func(_ context.Context, f doJob) command {
		if n := count[jobEnded](recorded(t, log, stream)); f.job.Name == "b" && n != 1 {
			t.Errorf("the second effect began when %d outcomes were durable", n)
		}
		return jobDone{Name: f.job.Name}
	}
	o.openNew().must(put{job{Name: "a", Resource: "a", Next: "b"}}, done("b"))
}

// A caller can go on once its events are on their way to the log; a refused command is
// not accepted.
func TestAccepted(t *testing.T) {
	log := newLog()
	o := newOffice(t, log)
	accepted := make(chan struct{}, 2)
	log.then(func(a eventlog.Append, done func([]eventlog.Record, error)) {
		go func() {
			<-accepted
			if log.Last() != 0 {
				t.Errorf("the log had %d records when the command was accepted", log.Last())
			}
			log.Log.AppendAsync(a, done)
		}()
	})
	c := o.openNew()
	accept := func() { accepted <- struct{}{} }
	if r := <-c.send(ask{Command: simple("a"), Accepted: accept}); r.Err != nil || r.Sequence != 1 {
		t.Errorf("answer %+v", r)
	}
	c.must(closeUp{}, nil)
	r := <-c.send(ask{Command: simple("b"), Accepted: accept})
	wantKind(t, r.Err, fault.Precondition)
	if len(accepted) > 0 {
		t.Error("a refused command was accepted")
	}
}

// Effects on one resource wait for each other; others don't.
func TestOneEffectPerResource(t *testing.T) {
	o := newOffice(t, newLog())
	begun := map[string]chan struct{}{"a1": make(chan struct{}), "a2": make(chan struct{}), "b": make(chan struct{})}
	release := make(chan struct{})
	var mu sync.Mutex
	busy := map[string]int{}
	o.machine.Execute = func(_ context.Context, f doJob) command {
		mu.Lock()
		busy[f.job.Resource]++
		if busy[f.job.Resource] > 1 {
			t.Errorf("two effects overlap on %s", f.job.Resource)
		}
		mu.Unlock()
		close(begun[f.job.Name])
		if f.job.Name == "a1" {
			<-release
		}
		mu.Lock()
		busy[f.job.Resource]--
		mu.Unlock()
		return jobDone{Name: f.job.Name}
	}
	c := o.openNew()
	c.must(put{job{Name: "a1", Resource: "a"}}, nil)
	<-begun["a1"]
	c.must(put{job{Name: "a2", Resource: "a"}}, nil)
	c.must(put{job{Name: "b", Resource: "b"}}, done("b"))
	select {
	case <-begun["a2"]:
		t.Error("the second effect on a resource did not wait for the first")
	default:
	}
	close(release)
	c.must(withdraw{"none"}, idle)
}

// An effect is not issued before its time, nor if it is no longer owed then.
func TestNotBefore(t *testing.T) {
	o := newOffice(t, newLog())
	at := time.Now().Add(50 * time.Millisecond)
	o.machine.Execute = func(_ context.Context, f doJob) command {
		if f.job.Name == "withdrawn" || time.Now().Before(f.job.NotBefore) {
			t.Errorf("%s was done before its time", f.job.Name)
		}
		return jobDone{Name: f.job.Name}
	}
	c := o.openNew()
	c.must(put{job{Name: "withdrawn", Resource: "x", NotBefore: at}}, nil)
	c.must(put{job{Name: "later", Resource: "y", NotBefore: at}}, nil)
	c.must(put{job{Name: "soon", Resource: "y"}}, done("soon"))
	c.must(withdraw{"withdrawn"}, nil)
	if s := c.must(withdraw{"none"}, idle); !slices.Equal(s.Done, []string{"soon", "later"}) {
		t.Errorf("done: %v", s.Done)
	}
}

// A command that changes nothing joins the work under way.
func TestJoin(t *testing.T) {
	o := newOffice(t, newLog())
	release := make(chan struct{})
	o.machine.Execute = func(_ context.Context, f doJob) command {
		<-release
		return jobDone{Name: f.job.Name}
	}
	c := o.openNew()
	first := c.send(ask{Command: simple("a"), Until: done("a")})
	second := c.send(ask{Command: simple("a"), Until: done("a")})
	close(release)
	if a, b := <-first, <-second; a.Err != nil || b.Err != nil || a.Sequence != b.Sequence {
		t.Errorf("answers %+v and %+v", a, b)
	}
	if n := count[jobPut](recorded(t, o.log, stream)); n != 1 {
		t.Errorf("the job was put %d times", n)
	}
}

// A command that joins must not begin a life in another entity's stream.
func TestJoinsNothing(t *testing.T) {
	log := newLog()
	o := newOffice(t, log)
	c := o.openNew()
	wantKind(t, (<-c.send(ask{Command: simple("a"), Joins: true})).Err, fault.NotFound)
	if log.Last() != 0 {
		t.Error("the command began a life")
	}
	c.must(simple("a"), idle)
	if r := <-c.send(ask{Command: simple("b"), Until: idle, Joins: true}); r.Err != nil {
		t.Error(r.Err)
	}
}

// A caller that went away is not answered, and its command goes on.
func TestCallerGone(t *testing.T) {
	o := newOffice(t, newLog())
	begun, release := make(chan struct{}), make(chan struct{})
	o.machine.Execute = func(_ context.Context, f doJob) command {
		close(begun)
		<-release
		return jobDone{Name: f.job.Name}
	}
	c := o.openNew()
	gone := make(chan struct{})
	answer := c.send(ask{Command: simple("a"), Until: done("a"), Gone: gone})
	<-begun
	close(gone)
	close(release)
	if s := c.must(withdraw{"none"}, idle); !slices.Equal(s.Done, []string{"a"}) {
		t.Errorf("done: %v", s.Done)
	}
	if len(answer) > 0 {
		t.Error("the caller that went away was answered")
	}
}

// From a state read from the log, the entity issues what is owed; its first commands
// are decided before.
func TestBegin(t *testing.T) {
	log := newLog()
	before := newOffice(t, log)
	before.machine.Owed = func(desk) []doJob { return nil }
	c := before.openNew()
	c.must(simple("a"), nil)
	c.must(simple("b"), nil)
	at, err := entity.Restore(t.Context(), &before.machine, log, stream)
	if err != nil {
		t.Fatal(err)
	}
	if at.Version != 2 || at.Sequence != 2 || at.BootID != "memory" {
		t.Errorf("replayed %+v", at)
	}
	for name, start := range map[string]*restored{"from a state": &at, "from the log": nil} {
		t.Run(name, func(t *testing.T) {
			mine := newLog()
			for r := range log.Read(t.Context(), 1) {
				if _, err := mine.Append(t.Context(), eventlog.Append{Stream: r.Stream, Expected: r.Version - 1, Entries: []eventlog.Entry{r.Entry}}); err != nil {
					t.Fatal(err)
				}
			}
			o := newOffice(t, mine)
			s := o.open(stream, start, withdraw{"b"}).must(withdraw{"none"}, idle)
			if !slices.Equal(s.Done, []string{"a"}) {
				t.Errorf("done: %v, want only a: b was withdrawn before anything was issued", s.Done)
			}
		})
	}
}

// The owner learns once that the name is free, before any caller does.
func TestFreed(t *testing.T) {
	o := newOffice(t, newLog())
	c := o.openNew()
	c.must(simple("a"), idle)
	if o.told(func() bool { return o.freed != 0 }) {
		t.Error("the name was free while the desk was open")
	}
	free := make(chan bool, 1)
	o.system.Root.Send(c.pid, &ask{Command: closeUp{}, Reply: func(reply) {
		free <- o.told(func() bool { return o.freed == 1 })
	}})
	if !<-free {
		t.Error("a caller learned of the end before the owner")
	}
	wantKind(t, c.ask(simple("b"), nil).Err, fault.Precondition)
	o.until(func() bool { return slices.Contains(o.rested, 3) })
	if o.told(func() bool { return o.freed != 1 }) {
		t.Error("the name was freed twice")
	}
}

// A first command refused by the machine or by the log frees the name before the caller
// learns of it.
func TestFreedUnbegun(t *testing.T) {
	for name, c := range map[string]struct {
		command command
		log     error
	}{"machine": {"nonsense", nil}, "log": {simple("a"), errors.New("no space left on device")}} {
		log := newLog()
		log.Fail(c.log)
		o := newOffice(t, log)
		free := make(chan bool, 1)
		o.system.Root.Send(o.openNew().pid, &ask{Command: c.command, Reply: func(r reply) {
			free <- r.Err != nil && o.told(func() bool { return o.freed == 1 })
		}})
		if !<-free {
			t.Errorf("refused by the %s: the caller learned of it before the owner, or not at all", name)
		}
		o.until(func() bool { return o.freed == 1 && slices.Contains(o.rested, 1) })
	}
}

// An outcome that arrives after the end is not recorded: the projections have forgotten
// the stream.
func TestLateOutcome(t *testing.T) {
	o := newOffice(t, newLog())
	begun, release := make(chan struct{}), make(chan struct{})
	o.machine.Execute = func(_ context.Context, f doJob) command {
		close(begun)
		<-release
		return jobDone{Name: f.job.Name}
	}
	c := o.openNew()
	c.must(simple("a"), nil)
	<-begun
	c.must(closeUp{}, nil)
	both := func() bool { return slices.Contains(o.rested, 2) }
	if o.told(both) {
		t.Error("the actor could be retired while an effect was under way")
	}
	close(release)
	o.until(both)
	if events := recorded(t, o.log, stream); count[jobEnded](events) != 0 {
		t.Errorf("events after the end: %v", events)
	}
}

// Outcomes that arrive while the daemon is stopping are about the stop, not about the
// effect.
func TestOutcomesAtTheEnd(t *testing.T) {
	log := newLog()
	o := newOffice(t, log)
	begun := make(chan struct{})
	o.machine.Execute = func(ctx context.Context, f doJob) command {
		close(begun)
		<-ctx.Done()
		return jobDone{f.job.Name, ctx.Err()}
	}
	c := o.openNew()
	c.must(simple("a"), nil)
	<-begun
	o.stop()
	o.running.Wait()
	s := c.must(withdraw{"none"}, nil)
	if _, owed := s.Jobs["a"]; !owed || count[jobEnded](recorded(t, log, stream)) != 0 {
		t.Errorf("the outcome was recorded: %+v", s)
	}
}
