package entity_test

import (
	"context"
	"encoding/json"
	"errors"
	"iter"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/stele-runtime/stele/actors/codec"
	"github.com/stele-runtime/stele/actors/entity"
	"github.com/stele-runtime/stele/actors/fault"
	"github.com/stele-runtime/stele/eventlog"
	"github.com/stele-runtime/stele/eventlog/memlog"
)

// A panic costs only the command that led to it.
func TestPanics(t *testing.T) {
	// Each breaks one function of the machine while n is positive.
	for name, broken := range map[string]func(m *machine, n *atomic.Int32){
		"Decide": func(m *machine, n *atomic.Int32) {
			m.Decide = func(s desk, c command) ([]event, error) {
				if c == any(simple("bad")) && n.Add(-1) >= 0 {
					panic("decide")
				}
				return decide(s, c)
			}
		},
		"Encode": func(m *machine, n *atomic.Int32) {
			m.Encode = func(e event) (codec.Encoded, error) {
				if e == any(jobPut(simple("bad"))) && n.Add(-1) >= 0 {
					panic("encode")
				}
				return encode(e)
			}
		},
		"Evolve": func(m *machine, n *atomic.Int32) {
			m.Evolve = func(s desk, e event) desk {
				if e == any(jobPut(simple("bad"))) && n.Add(-1) >= 0 {
					panic("evolve")
				}
				return evolve(s, e)
			}
		},
		"Owed": func(m *machine, n *atomic.Int32) {
			m.Owed = func(s desk) []doJob {
				if _, bad := s.Jobs["bad"]; bad && n.Add(-1) >= 0 {
					panic("owed")
				}
				return owed(s)
			}
		},
		"Execute": func(m *machine, n *atomic.Int32) {
			m.Execute = func(_ context.Context, f doJob) command {
				if f.job.Name == "bad" && n.Add(-1) >= 0 {
					panic("execute")
				}
				return jobDone{Name: f.job.Name}
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			o := newOffice(t, newLog())
			var n atomic.Int32
			broken(&o.machine, &n)
			c := o.openNew()
			c.must(simple("good"), done("good"))
			n.Store(1)
			r := c.ask(simple("bad"), idle)
			switch {
			case name == "Execute":
				if r.Err != nil || !strings.Contains(strings.Join(r.State.Done, " "), "panic: execute") {
					t.Errorf("a panic in a driver must fail its effect: %v, done %v", r.Err, r.State.Done)
				}
			default:
				wantKind(t, r.Err, fault.Internal)
			}
			s := c.must(simple("again"), idle)
			if !slices.Contains(s.Done, "good") || !slices.Contains(s.Done, "again") {
				t.Errorf("done: %v", s.Done)
			}
			if len(o.quarantined) != 0 {
				t.Errorf("quarantined: %v", o.quarantined)
			}
		})
	}
}

// A panic in one caller's answer ends the wait of all, each with one answer.
func TestPanicInAnswer(t *testing.T) {
	o := newOffice(t, newLog())
	release := make(chan struct{})
	o.machine.Execute = func(_ context.Context, f doJob) command {
		<-release
		return jobDone{Name: f.job.Name}
	}
	c := o.openNew()
	var answers []<-chan reply
	for range 3 {
		answers = append(answers, c.send(ask{Command: simple("a"), Until: done("a")}))
	}
	answers = append(answers, c.send(ask{Command: simple("a"), Until: func(_ desk, e event) (bool, error) {
		if _, ended := e.(jobEnded); ended {
			panic("answer")
		}
		return false, nil
	}}))
	answers = append(answers, c.send(ask{Command: simple("a"), Until: done("a")}))
	c.must(simple("a"), nil) // the earlier callers wait now
	close(release)
	for i, answer := range answers {
		r := <-answer
		if failed := i >= 3; (r.Err != nil) != failed {
			t.Errorf("caller %d: %v", i, r.Err)
		}
	}
	c.must(simple("b"), idle)
	for i, answer := range answers {
		if len(answer) > 0 {
			t.Errorf("caller %d was answered twice", i)
		}
	}
}

// A panic in one caller's reply harms no other caller, and the entity goes on.
func TestPanicOutside(t *testing.T) {
	o := newOffice(t, newLog())
	release := make(chan struct{})
	o.machine.Execute = func(_ context.Context, f doJob) command {
		<-release
		return jobDone{Name: f.job.Name}
	}
	c := o.openNew()
	o.system.Root.Send(c.pid, &ask{Command: simple("a"), Until: done("a"), Accepted: func() { panic("accepted") }, Reply: func(reply) { panic("reply") }})
	waits := c.send(ask{Command: simple("a"), Until: done("a")})
	c.must(simple("b"), nil)
	close(release)
	if r := <-waits; r.Err != nil {
		t.Error(r.Err)
	}
	if s := c.must(simple("c"), idle); !slices.Contains(s.Done, "a") || !slices.Contains(s.Done, "b") {
		t.Errorf("done: %v", s.Done)
	}
}

// Five panics in a row put a stream into quarantine; one with a success between
// does not. Others go on.
func TestQuarantineAfterPanics(t *testing.T) {
	o := newOffice(t, newLog())
	o.machine.Decide = func(s desk, c command) ([]event, error) {
		if c == any("panic") {
			panic("decide")
		}
		return decide(s, c)
	}
	c, other := o.openNew(), o.open("desk/2", &restored{})
	for i := range 8 {
		wantKind(t, c.ask("panic", nil).Err, fault.Internal)
		if i%4 == 3 {
			c.must(simple("a"), idle)
		}
	}
	for range 5 {
		wantKind(t, c.ask("panic", nil).Err, fault.Internal)
	}
	o.until(func() bool { return len(o.quarantined) == 1 })
	if r := c.ask(simple("b"), nil); r.Err == nil || !strings.Contains(r.Err.Error(), "quarantine") {
		t.Errorf("after the quarantine: %v", r.Err)
	}
	other.must(simple("a"), idle)
}

// A stream with an unreadable record is left alone; its callers get errors, and other
// streams go on.
func TestQuarantineOfUnreadable(t *testing.T) {
	log := newLog()
	_, err := log.Append(t.Context(), eventlog.Append{Stream: stream, Entries: []eventlog.Entry{{Type: "fromTheFuture", Schema: 9}}})
	if err != nil {
		t.Fatal(err)
	}
	o := newOffice(t, log)
	c := o.open(stream, nil)
	wantKind(t, c.ask(simple("a"), nil).Err, fault.Internal)
	wantKind(t, c.ask(simple("b"), idle).Err, fault.Internal)
	var unknown *codec.UnknownTypeError
	o.until(func() bool { return len(o.quarantined) == 1 })
	if !errors.As(o.quarantined[0], &unknown) {
		t.Errorf("quarantined because of %v", o.quarantined[0])
	}
	o.open("desk/2", nil).must(simple("a"), idle)
	if len(recorded(t, log, "desk/2")) == 0 {
		t.Error("the other stream did not go on")
	}
}

// An outcome that the machine or the log can never take is not retried for ever.
func TestImpossibleOutcome(t *testing.T) {
	for name, broken := range map[string]func(o *office, log *logWith){
		"not known": func(o *office, _ *logWith) {
			o.machine.Execute = func(context.Context, doJob) command { return "what?" }
		},
		"not encodable": func(o *office, _ *logWith) {
			o.machine.Encode = func(e event) (codec.Encoded, error) {
				if _, is := e.(jobEnded); is {
					return codec.Encoded{}, errors.New("not encodable")
				}
				return encode(e)
			}
		},
		"invalid":           func(_ *office, log *logWith) { log.then(log.ordinary, refused(eventlog.ErrInvalid)) },
		"of damaged stream": func(_ *office, log *logWith) { log.then(log.ordinary, refused(eventlog.ErrCorrupt)) },
	} {
		t.Run(name, func(t *testing.T) {
			log := newLog()
			o := newOffice(t, log)
			broken(o, log)
			wantKind(t, o.openNew().ask(simple("a"), done("a")).Err, fault.Internal)
			if o.told(func() bool { return len(o.quarantined) != 1 }) {
				t.Errorf("quarantined: %v", o.quarantined)
			}
		})
	}
}

// While the log refuses, callers get an error at once; outcomes are kept, and appended
// once it recovers.
func TestLogUnavailable(t *testing.T) {
	log := newLog()
	o := newOffice(t, log)
	begun, release := make(chan struct{}, 1), make(chan struct{})
	var runs atomic.Int32
	o.machine.Execute = func(_ context.Context, f doJob) command {
		runs.Add(1)
		begun <- struct{}{}
		<-release
		return jobDone{Name: f.job.Name}
	}
	c := o.openNew()
	waits := c.send(ask{Command: simple("a"), Until: done("a")})
	<-begun
	log.Fail(errors.New("no space left on device"))
	wantKind(t, c.ask(simple("b"), nil).Err, fault.Unavailable)
	c.must(simple("a"), nil) // a command without events is answered

	refusals := make(chan struct{})
	log.then(func(a eventlog.Append, done func([]eventlog.Record, error)) {
		log.Log.AppendAsync(a, func(r []eventlog.Record, err error) {
			done(r, err)
			close(refusals)
		})
	})
	close(release)
	<-refusals
	wantKind(t, c.ask(simple("b"), nil).Err, fault.Unavailable)
	wantKind(t, c.ask(simple("a"), idle).Err, fault.Unavailable)
	if len(waits) > 0 {
		t.Error("an answer arrived before its event was durable")
	}
	log.Fail(nil)
	if r := <-waits; r.Err != nil {
		t.Error(r.Err)
	}
	if runs.Load() != 1 {
		t.Errorf("the effect ran %d times", runs.Load())
	}
	c.must(simple("b"), done("b"))
}

// Commands in the queue behind a refused outcome are refused, too.
func TestLogUnavailableQueue(t *testing.T) {
	log := newLog()
	o := newOffice(t, log)
	reached, fail := make(chan struct{}), make(chan struct{})
	log.then(log.ordinary, func(_ eventlog.Append, done func([]eventlog.Record, error)) {
		close(reached)
		go func() {
			<-fail
			done(nil, eventlog.ErrUnavailable)
		}()
	})
	c := o.openNew()
	waits := c.send(ask{Command: simple("a"), Until: done("a")})
	<-reached
	queued := c.send(ask{Command: simple("b"), Until: done("b")})
	close(fail)
	wantKind(t, (<-queued).Err, fault.Unavailable)
	if r := <-waits; r.Err != nil {
		t.Error(r.Err)
	}
}

// A name whose first event the log refused is free again.
func TestUnavailableAtTheBeginning(t *testing.T) {
	log := newLog()
	log.Fail(errors.New("no space left on device"))
	o := newOffice(t, log)
	wantKind(t, o.openNew().ask(simple("a"), nil).Err, fault.Unavailable)
	o.until(func() bool { return o.freed == 1 && slices.Contains(o.rested, 1) })
}

// After an append with unknown outcome, the stream is read.
func TestOutcomeUnknown(t *testing.T) {
	t.Run("request made", func(t *testing.T) {
		log := newLog()
		log.then(log.lostAnswer)
		o := newOffice(t, log)
		c := o.openNew()
		c.must(simple("a"), done("a"))
		if o.told(func() bool { return o.freed != 0 }) {
			t.Error("the name was freed although the life had begun")
		}
		if n := count[jobPut](recorded(t, log, stream)); n != 1 {
			t.Errorf("put %d times", n)
		}
	})
	t.Run("request not made", func(t *testing.T) {
		log := newLog()
		log.then(refused(errSecondLook))
		o := newOffice(t, log)
		c := o.openNew()
		wantKind(t, c.ask(simple("a"), done("a")).Err, fault.Unavailable)
		o.until(func() bool { return o.freed == 1 })
		c.must(simple("a"), done("a"))
	})
	t.Run("outcome made", func(t *testing.T) {
		log := newLog()
		log.then(log.ordinary, log.lostAnswer)
		o := newOffice(t, log)
		s := o.openNew().must(simple("a"), done("a"))
		if !slices.Equal(s.Done, []string{"a"}) || count[jobEnded](recorded(t, log, stream)) != 1 {
			t.Errorf("done: %v", s.Done)
		}
	})
	t.Run("outcome not made", func(t *testing.T) {
		log := newLog()
		log.then(log.ordinary, refused(errSecondLook))
		o := newOffice(t, log)
		var runs atomic.Int32
		o.machine.Execute = func(_ context.Context, f doJob) command {
			runs.Add(1)
			return jobDone{Name: f.job.Name}
		}
		s := o.openNew().must(simple("a"), done("a"))
		if !slices.Equal(s.Done, []string{"a"}) || runs.Load() != 1 {
			t.Errorf("done: %v in %d runs", s.Done, runs.Load())
		}
	})
	t.Run("end made", func(t *testing.T) {
		log := newLog()
		o := newOffice(t, log)
		c := o.openNew()
		c.must(simple("a"), idle)
		log.then(log.lostAnswer)
		c.must(closeUp{}, nil)
		o.until(func() bool { return o.freed == 1 })
	})
}

// A stream with another writer is read again.
func TestTwoWriters(t *testing.T) {
	log := newLog()
	o := newOffice(t, log)
	c := o.openNew()
	c.must(simple("a"), idle)
	other, err := encode(jobEnded{Name: "of somebody else"})
	if err != nil {
		t.Fatal(err)
	}
	_, err = log.Append(t.Context(), eventlog.Append{Stream: stream, Expected: 2, Entries: []eventlog.Entry{{Type: other.Type, Schema: 1, Payload: other.Payload}}})
	if err != nil {
		t.Fatal(err)
	}
	wantKind(t, c.ask(simple("b"), nil).Err, fault.Unavailable)
	if s := c.must(simple("b"), idle); !slices.Contains(s.Done, "of somebody else") {
		t.Errorf("done: %v", s.Done)
	}
}

// A daemon whose log is closed still answers.
func TestLogClosed(t *testing.T) {
	log := memlog.New(memlog.Options{})
	o := newOffice(t, log)
	c := o.openNew()
	_ = log.Close()
	wantKind(t, c.ask(simple("a"), nil).Err, fault.Unavailable)
}

// A stream whose beginning was trimmed is read from its base; if that is unreadable, the
// stream is left alone.
func TestTrimmedStream(t *testing.T) {
	log := newLog()
	before := newOffice(t, log)
	before.machine.Owed = func(desk) []doJob { return nil }
	c := before.openNew()
	c.must(simple("a"), nil)
	s := c.must(simple("b"), nil)
	state, err := json.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	c.must(withdraw{"b"}, nil)
	if err := log.Trim(t.Context(), eventlog.Trim{Rule: "age", Stream: stream, Through: 2, Schema: 1, State: state}); err != nil {
		t.Fatal(err)
	}
	o := newOffice(t, log)
	wantKind(t, o.open(stream, nil).ask(simple("c"), nil).Err, fault.Internal)

	o = newOffice(t, log)
	o.machine.DecodeState = func(_ uint32, b []byte) (s desk, err error) { return s, json.Unmarshal(b, &s) }
	done := o.open(stream, nil).must(simple("c"), idle).Done
	slices.Sort(done)
	if !slices.Equal(done, []string{"a", "c"}) {
		t.Errorf("done: %v", done)
	}
}

// A stream that was thinned out is read from what is left.
func TestThinnedStream(t *testing.T) {
	log := newLog()
	o := newOffice(t, log)
	o.machine.Owed = func(desk) []doJob { return nil }
	c := o.openNew()
	for _, name := range []string{"a", "b", "c", "d"} {
		c.must(simple(name), nil)
	}
	last := log.Last()
	if err := log.Thin(t.Context(), eventlog.Thin{Rule: "settled", Sequences: []eventlog.Sequence{2, 3}}); err != nil {
		t.Fatal(err)
	}
	at, err := entity.Restore(t.Context(), &o.machine, log, stream)
	if err != nil || at.Sequence != last || at.Version != eventlog.Version(last) || len(at.State.Jobs) != 2 {
		t.Errorf("%+v, %v", at, err)
	}
	// It goes on.
	if s := o.open(stream, nil).must(simple("e"), nil); len(s.Jobs) != 3 {
		t.Errorf("%+v", s)
	}
}

// trimming trims a stream between a reader's look at its base and its records.
type trimming struct {
	eventlog.Log
	trim *eventlog.Trim
}

func (l *trimming) ReadStream(ctx context.Context, s eventlog.Stream, from eventlog.Version) iter.Seq2[eventlog.Record, error] {
	if trim := l.trim; trim != nil {
		l.trim = nil
		if err := l.Trim(ctx, *trim); err != nil {
			panic(err)
		}
	}
	return l.Log.ReadStream(ctx, s, from)
}

// A stream that is trimmed while it is read is read from its new base.
func TestTrimmedMeanwhile(t *testing.T) {
	log := newLog()
	o := newOffice(t, log)
	o.machine.Owed = func(desk) []doJob { return nil }
	o.machine.DecodeState = func(_ uint32, b []byte) (s desk, err error) { return s, json.Unmarshal(b, &s) }
	c := o.openNew()
	c.must(simple("a"), nil)
	state, err := json.Marshal(c.must(simple("b"), nil))
	if err != nil {
		t.Fatal(err)
	}
	c.must(simple("c"), nil)
	racing := &trimming{log, &eventlog.Trim{Rule: "age", Stream: stream, Through: 2, Schema: 1, State: state}}
	at, err := entity.Restore(t.Context(), &o.machine, racing, stream)
	if err != nil || at.Version != 3 || len(at.State.Jobs) != 3 {
		t.Errorf("%+v, %v", at, err)
	}
}
