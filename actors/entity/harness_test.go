package entity_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/asynkron/protoactor-go/actor"

	"github.com/stele-runtime/stele/actors/codec"
	"github.com/stele-runtime/stele/actors/entity"
	"github.com/stele-runtime/stele/actors/fault"
	"github.com/stele-runtime/stele/eventlog"
	"github.com/stele-runtime/stele/eventlog/memlog"
)

// The machine of these tests is a desk: jobs are put on it, doing each is owed, and the
// desk can be closed for good.
type (
	desk struct {
		Open, Closed bool
		Jobs         map[string]job
		Done         []string
	}
	job struct {
		Name, Resource string
		NotBefore      time.Time
		// Next is what is put on the desk when the job is done; empty for nothing.
		Next string
	}

	command  interface{}
	put      struct{ Job job } // opens the desk, too
	withdraw struct{ Name string }
	closeUp  struct{}
	jobDone  struct {
		Name string
		Err  error
	}

	event     interface{}
	jobPut    struct{ Job job }
	withdrawn struct{ Name string }
	jobEnded  struct{ Name, Failure string }
	closed    struct{}

	doJob struct{ job job }
)

func (f doJob) Key() string          { return f.job.Name }
func (f doJob) Resource() string     { return f.job.Resource }
func (f doJob) NotBefore() time.Time { return f.job.NotBefore }

func (f doJob) Failed(err error, _ time.Time) command { return jobDone{f.job.Name, err} }

type (
	machine  = entity.Machine[desk, command, event, doJob]
	restored = entity.Restored[desk]
	reply    = entity.Reply[desk]
	ask      = entity.Ask[desk, command, event]
)

func decide(s desk, c command) ([]event, error) {
	switch c := c.(type) {
	case put:
		if s.Closed {
			return nil, fault.New(fault.Precondition, "put", c.Job.Name, "the desk is closed")
		}
		if _, there := s.Jobs[c.Job.Name]; there {
			return nil, nil
		}
		return []event{jobPut{c.Job}}, nil
	case withdraw:
		return []event{withdrawn(c)}, nil
	case closeUp:
		return []event{closed{}}, nil
	case jobDone:
		if c.Err != nil {
			return []event{jobEnded{c.Name, c.Err.Error()}}, nil
		}
		return []event{jobEnded{Name: c.Name}}, nil
	}
	return nil, fmt.Errorf("unknown command %T", c)
}

func evolve(s desk, e event) desk {
	s.Jobs = maps.Clone(s.Jobs)
	if s.Jobs == nil {
		s.Jobs = map[string]job{}
	}
	s.Open = true
	switch e := e.(type) {
	case jobPut:
		s.Jobs[e.Job.Name] = e.Job
	case withdrawn:
		delete(s.Jobs, e.Name)
	case jobEnded:
		if next := s.Jobs[e.Name].Next; next != "" {
			s.Jobs[next] = job{Name: next, Resource: next}
		}
		delete(s.Jobs, e.Name)
		s.Done = append(slices.Clone(s.Done), e.Name+e.Failure)
	case closed:
		s.Closed, s.Jobs = true, nil
	}
	return s
}

func owed(s desk) []doJob {
	var all []doJob
	for _, name := range slices.Sorted(maps.Keys(s.Jobs)) {
		all = append(all, doJob{s.Jobs[name]})
	}
	return all
}

// announced: the job that follows one on the desk.
func announced(s desk, f doJob) bool {
	for _, j := range s.Jobs {
		if j.Next == f.job.Name {
			return true
		}
	}
	return false
}

func encode(e event) (codec.Encoded, error) {
	payload, err := json.Marshal(e)
	return codec.Encoded{Type: strings.TrimPrefix(fmt.Sprintf("%T", e), "entity_test."), Schema: 1, Payload: payload}, err
}

func decode(typ string, _ uint32, payload []byte) (event, error) {
	switch typ {
	case "jobPut":
		return read[jobPut](payload)
	case "withdrawn":
		return read[withdrawn](payload)
	case "jobEnded":
		return read[jobEnded](payload)
	case "closed":
		return closed{}, nil
	}
	return nil, &codec.UnknownTypeError{Type: typ}
}

func read[E any](payload []byte) (event, error) {
	var e E
	err := json.Unmarshal(payload, &e)
	return e, err
}

// idle and done are answers: no job is on the desk; a job has ended.
func idle(s desk, _ event) (bool, error) { return len(s.Jobs) == 0, nil }

func done(name string) entity.Answer[desk, event] {
	return func(_ desk, e event) (bool, error) {
		ended, is := e.(jobEnded)
		return is && ended.Name == name, nil
	}
}

// office is a running entity with its surroundings.
type office struct {
	t       *testing.T
	machine machine
	log     eventlog.Log
	system  *actor.ActorSystem
	stop    context.CancelFunc
	around  entity.Surroundings
	running sync.WaitGroup

	mu          sync.Mutex
	freed       int
	quarantined []error
	// rested holds how many Asks had been handled whenever the entity had nothing left
	// to do.
	rested []uint64
	// changed is signalled when one of the above changes.
	changed *sync.Cond
}

const stream eventlog.Stream = "desk/1"

// newOffice makes the surroundings; its machine can be changed until open.
func newOffice(t *testing.T, log eventlog.Log) *office {
	t.Helper()
	o := &office{t: t, log: log}
	o.changed = sync.NewCond(&o.mu)
	o.machine = machine{
		Kind: "desk", Decide: decide, Evolve: evolve, Owed: owed,
		Ended:  func(s desk) bool { return s.Closed || !s.Open },
		Free:   func(s desk) bool { return s.Closed || !s.Open },
		Encode: encode, Decode: decode,
		Execute: func(_ context.Context, f doJob) command { return jobDone{Name: f.job.Name} },
	}
	quiet := slog.New(slog.NewTextHandler(io.Discard, nil))
	o.system = actor.NewActorSystem(actor.WithLoggerFactory(func(*actor.ActorSystem) *slog.Logger { return quiet }))
	ctx, stop := context.WithCancel(context.Background())
	o.stop = stop
	o.around = entity.Surroundings{
		Log: log, Logger: quiet, Context: ctx, Now: time.Now,
		Go:    func(_ string, f func()) { o.running.Go(f) },
		After: func(d time.Duration, f func()) func() bool { return time.AfterFunc(d, f).Stop },
		Held:  func(time.Duration) {},
		Ended: func(_ eventlog.Stream, handled uint64) {
			o.note(func() { o.rested = append(o.rested, handled) })
		},
		Freed: func(eventlog.Stream) { o.note(func() { o.freed++ }) },
		Quarantined: func(_ eventlog.Stream, reason error) {
			o.note(func() { o.quarantined = append(o.quarantined, reason) })
		},
	}
	t.Cleanup(func() {
		stop()
		o.running.Wait()
		o.system.Shutdown()
		_ = log.Close()
	})
	return o
}

func (o *office) note(change func()) {
	o.mu.Lock()
	defer o.mu.Unlock()
	change()
	o.changed.Broadcast()
}

// until waits for a report of the entity to its owner.
func (o *office) until(so func() bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for !so() {
		o.changed.Wait()
	}
}

func (o *office) told(what func() bool) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return what()
}

// open spawns the actor of a stream: from start, or without it from the log.
func (o *office) open(stream eventlog.Stream, start *restored, first ...command) *clerk {
	o.t.Helper()
	pid := o.system.Root.Spawn(entity.Props(entity.New(&o.machine, o.around, stream, start, first...)))
	o.t.Cleanup(func() { _ = o.system.Root.StopFuture(pid).Wait() })
	return &clerk{o, pid}
}

// openNew spawns the actor of a new stream.
func (o *office) openNew() *clerk { return o.open(stream, &restored{}) }

// clerk is an actor.
type clerk struct {
	o   *office
	pid *actor.PID
}

// send asks and returns where the answer will arrive.
func (c *clerk) send(a ask) <-chan reply {
	answers := make(chan reply, 2) // room for one too many
	a.Reply = func(r reply) { answers <- r }
	c.o.system.Root.Send(c.pid, &a)
	return answers
}

func (c *clerk) ask(command command, until entity.Answer[desk, event]) reply {
	return <-c.send(ask{Command: command, Until: until})
}

// must asks and fails the test if the answer is an error.
func (c *clerk) must(command command, until entity.Answer[desk, event]) desk {
	c.o.t.Helper()
	r := c.ask(command, until)
	if r.Err != nil {
		c.o.t.Fatalf("%T: %v", command, r.Err)
	}
	return r.State
}

// recorded returns the events of a stream.
func recorded(t *testing.T, log eventlog.Reader, s eventlog.Stream) []event {
	t.Helper()
	var events []event
	for r, err := range log.ReadStream(t.Context(), s, 1) {
		if err != nil {
			t.Fatal(err)
		}
		e, err := decode(r.Type, r.Schema, r.Payload)
		if err != nil {
			t.Fatal(err)
		}
		events = append(events, e)
	}
	return events
}

func count[E any](events []event) (n int) {
	for _, e := range events {
		if _, is := e.(E); is {
			n++
		}
	}
	return n
}

func simple(name string) put { return put{job{Name: name, Resource: name}} }

func wantKind(t *testing.T, err error, kind fault.Kind) {
	t.Helper()
	if err == nil || fault.KindOf(err) != kind {
		t.Fatalf("the answer is %v, want a fault of kind %q", err, kind)
	}
}

// logWith is a log in memory whose next appends can be made to end differently.
type logWith struct {
	*memlog.Log
	mu   sync.Mutex
	next []func(eventlog.Append, func([]eventlog.Record, error))
}

func newLog() *logWith { return &logWith{Log: memlog.New(memlog.Options{})} }

// then makes the next appends end as these functions do, one after the other.
func (l *logWith) then(f ...func(eventlog.Append, func([]eventlog.Record, error))) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.next = append(l.next, f...)
}

func (l *logWith) AppendAsync(a eventlog.Append, done func([]eventlog.Record, error)) {
	l.mu.Lock()
	var f func(eventlog.Append, func([]eventlog.Record, error))
	if len(l.next) > 0 {
		f, l.next = l.next[0], l.next[1:]
	}
	l.mu.Unlock()
	if f == nil {
		f = l.Log.AppendAsync
	}
	f(a, done)
}

// ordinary leaves an append alone.
func (l *logWith) ordinary(a eventlog.Append, done func([]eventlog.Record, error)) {
	l.Log.AppendAsync(a, done)
}

// refused ends an append without effect.
func refused(err error) func(eventlog.Append, func([]eventlog.Record, error)) {
	return func(_ eventlog.Append, done func([]eventlog.Record, error)) { done(nil, err) }
}

var errSecondLook = errors.Join(eventlog.ErrOutcomeUnknown, errors.New("the disk does not answer"))

// lostAnswer appends, and reports that the outcome is unknown.
func (l *logWith) lostAnswer(a eventlog.Append, done func([]eventlog.Record, error)) {
	l.Log.AppendAsync(a, func([]eventlog.Record, error) { done(nil, errSecondLook) })
}
