package server

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/proto"

	"github.com/stele-runtime/stele/executors/monitor/server/journal"
	"github.com/stele-runtime/stele/executors/monitor/server/notify"
	"github.com/stele-runtime/stele/executors/monitor/server/stdio"
	"github.com/stele-runtime/stele/executors/monitor/wire"
	pb "github.com/stele-runtime/stele/proto/monitor/v1"
)

const (
	// blockedPause is the least time between two reports of one container.
	blockedPause = time.Second
	// maxKinds is how many different calls of a container are counted each by itself.
	maxKinds = 64
	// maxFilters is how many filters of a container are answered: each exec has one, for as
	// long as a process of it lives. The kernel answers for further ones.
	maxFilters = 256
	// noteGap is the note in an exit of a container whose calls were not all counted.
	noteGap = "a monitor has died, and forbidden system calls since then were blocked but not counted"
)

// notifiers answer the forbidden system calls of the containers whose pods want to know of them.
type notifiers struct {
	journal *journal.Journal
	blocked *news[*pb.BlockedCalls]
	logger  *slog.Logger
	// rest is held while no call may be half answered, and for reading while one is.
	rest sync.RWMutex

	mu sync.Mutex
	// byPath has those that run.
	byPath map[string]*notifier
}

func newNotifiers(journal *journal.Journal, logger *slog.Logger) *notifiers {
	return &notifiers{journal: journal, blocked: newNews[*pb.BlockedCalls](), logger: logger, byPath: map[string]*notifier{}}
}

// notifier is one container's. Its goroutines end with close: one that accepts descriptors, one
// that reports, and one for each filter, which ends with the filter's last process, too.
type notifier struct {
	*notifiers
	id       string
	config   *pb.Notifier
	errors   map[notify.Call]uint32
	listener *wire.Listener
	pace     notify.Pace
	// done is closed by close, changed has room for one: there is something to report.
	done, changed chan struct{}
	parts         sync.WaitGroup

	mu      sync.Mutex
	calls   *pb.BlockedCalls
	kinds   map[notify.Call]*pb.BlockedCall
	filters map[*notify.Descriptor]struct{}
}

// earlier is what an earlier monitor knew, and what the program before this one handed over.
type earlier struct {
	calls *pb.BlockedCalls
	// listener is -1 if there is none.
	listener int
	filters  []int
}

// open makes a container's notifier. It owns the descriptors.
func (x *notifiers) open(id string, config *pb.Notifier, before earlier) (*notifier, error) {
	n := &notifier{
		notifiers: x, id: id, config: config, errors: map[notify.Call]uint32{},
		done: make(chan struct{}), changed: make(chan struct{}, 1),
		calls: &pb.BlockedCalls{ContainerId: id}, kinds: map[notify.Call]*pb.BlockedCall{}, filters: map[*notify.Descriptor]struct{}{},
	}
	for _, e := range config.Errors {
		n.errors[notify.Call{Arch: e.Arch, Number: e.Number}] = e.Error
	}
	if before.calls != nil {
		n.calls = proto.CloneOf(before.calls)
		for _, kind := range n.calls.Calls {
			n.kinds[notify.Call{Arch: kind.Arch, Number: kind.Number}] = kind
		}
	}
	if err := x.enter(n); err != nil {
		stdio.Close(append(before.filters, before.listener)...)
		return nil, err
	}
	var err error
	if before.listener >= 0 {
		n.listener, err = wire.Inherit(before.listener, config.Path)
	} else {
		n.listener, err = wire.ListenStream(config.Path)
	}
	if err != nil {
		x.leave(n)
		stdio.Close(before.filters...)
		return nil, fmt.Errorf("wait for the seccomp filters of container %s: %w", id, err)
	}
	for _, fd := range before.filters {
		if d, err := notify.Open(fd); err != nil {
			x.logger.Error("take over a seccomp filter", "container", id, "error", err)
		} else {
			n.answer(d)
		}
	}
	n.parts.Go(n.accept)
	n.parts.Go(n.report)
	if before.calls != nil {
		n.change()
	}
	return n, nil
}

// enter reserves a notifier's path.
func (x *notifiers) enter(n *notifier) error {
	x.mu.Lock()
	defer x.mu.Unlock()
	if other, is := x.byPath[n.config.Path]; is {
		return fail(pb.Failure_CODE_INVALID, "create %s: the seccomp filters of container %s go to %s", n.id, other.id, n.config.Path)
	}
	x.byPath[n.config.Path] = n
	return nil
}

func (x *notifiers) leave(n *notifier) {
	x.mu.Lock()
	defer x.mu.Unlock()
	delete(x.byPath, n.config.Path)
}

// closeAll is for the end of the monitor.
func (x *notifiers) closeAll() {
	x.mu.Lock()
	all := slices.Collect(maps.Values(x.byPath))
	x.mu.Unlock()
	for _, n := range all {
		n.close()
	}
}

// close ends a notifier: from now on, the kernel answers. A nil one does nothing.
func (n *notifier) close() {
	if n == nil {
		return
	}
	n.mu.Lock()
	select {
	case <-n.done:
		n.mu.Unlock()
		return
	default:
	}
	close(n.done)
	filters := slices.Collect(maps.Keys(n.filters))
	n.mu.Unlock()
	// Close waits for a call that is being counted.
	for _, d := range filters {
		d.Close()
	}
	n.listener.Close()
	n.parts.Wait()
	_ = os.Remove(n.config.Path)
	n.leave(n)
	n.blocked.forget(n.id)
}

// accept takes the filters that runtimes send: the container's own, and one of each exec.
func (n *notifier) accept() {
	for {
		fd, err := n.listener.AcceptFD()
		var d *notify.Descriptor
		if err == nil {
			d, err = notify.Receive(fd, n.id)
		}
		select {
		case <-n.done:
			if d != nil {
				d.Close()
			}
			return
		default:
		}
		if err != nil {
			n.logger.Error("a seccomp filter is not answered here, but by the kernel", "container", n.id, "error", err)
			// Most likely no descriptor is free.
			n.pause(100 * time.Millisecond)
			continue
		}
		n.answer(d)
	}
}

// pause waits, unless the notifier is closed.
func (n *notifier) pause(wait time.Duration) {
	select {
	case <-time.After(wait):
	case <-n.done:
	}
}

// answer answers the calls of a filter until its last process has ended.
func (n *notifier) answer(d *notify.Descriptor) {
	n.mu.Lock()
	defer n.mu.Unlock()
	select {
	case <-n.done:
		d.Close()
		return
	default:
	}
	if len(n.filters) >= maxFilters {
		n.logger.Warn("a container has too many seccomp filters; the kernel answers for the last", "container", n.id, "filters", len(n.filters))
		d.Close()
		return
	}
	n.filters[d] = struct{}{}
	n.parts.Go(func() {
		if err := d.Serve(&n.rest, &n.pace, n.count); err != nil {
			n.logger.Error("a seccomp filter is not answered any more, but by the kernel", "container", n.id, "error", err)
		}
		d.Close()
		n.mu.Lock()
		defer n.mu.Unlock()
		delete(n.filters, d)
	})
}

// count counts a call, and returns its answer. Of the runtime's own calls nobody is to know.
func (n *notifier) count(call notify.Call, ofRuntime bool) uint32 {
	if !ofRuntime {
		n.add(call)
	}
	if number, is := n.errors[call]; is {
		return number
	}
	return n.config.Error
}

func (n *notifier) add(call notify.Call) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.calls.Last = sinceBoot()
	if n.calls.First == 0 {
		n.calls.First = n.calls.Last
	}
	kind, known := n.kinds[call]
	switch {
	case known:
		kind.Count++
	case len(n.kinds) < maxKinds:
		kind = &pb.BlockedCall{Arch: call.Arch, Number: call.Number, Count: 1}
		n.kinds[call], n.calls.Calls = kind, append(n.calls.Calls, kind)
	default:
		n.calls.Others++
	}
	n.change()
}

// change wakes report.
func (n *notifier) change() {
	select {
	case n.changed <- struct{}{}:
	default:
	}
}

// sinceBoot is CLOCK_BOOTTIME in nanoseconds.
func sinceBoot() int64 {
	var now unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &now); err != nil {
		return 1 // it cannot fail
	}
	return now.Nano()
}

// report journals what was counted, and tells those who subscribe to it, at times.
func (n *notifier) report() {
	for {
		timer := n.untilStop()
		select {
		case <-n.changed:
		case <-timer:
		case <-n.done:
			return
		}
		n.tell()
		n.pause(blockedPause)
	}
}

// untilStop ends when the container is due to be stopped, if no other call is made; nil for never.
func (n *notifier) untilStop() <-chan time.Time {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.config.StopAfter <= 0 || n.calls.Stop || n.calls.First == 0 {
		return nil
	}
	return time.After(time.Duration(max(0, n.stopAtLocked()-sinceBoot())))
}

func (n *notifier) stopAtLocked() int64 {
	at := n.calls.Last + n.config.StopAfter
	if n.config.StopAtMost > 0 {
		at = min(at, n.calls.First+n.config.StopAtMost)
	}
	return at
}

// tell reports what there is. A nil notifier has nothing.
func (n *notifier) tell() {
	if n == nil {
		return
	}
	n.mu.Lock()
	if n.config.StopAfter > 0 && n.calls.First != 0 && n.stopAtLocked() <= sinceBoot() {
		n.calls.Stop = true
	}
	word := proto.CloneOf(n.calls)
	n.mu.Unlock()
	if word.First == 0 && !word.Gap {
		return
	}
	if err := n.journal.Blocked(word); err != nil {
		n.logger.Error("journal the forbidden calls of a container", "container", n.id, "error", err)
	}
	if word.First != 0 {
		n.blocked.note(n.id, word)
	}
}

// counted returns what was counted; nil for nothing, or without a notifier.
func (n *notifier) counted() *pb.BlockedCalls {
	if n == nil {
		return nil
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	return proto.CloneOf(n.calls)
}

// handOver gives duplicates of the descriptors to the program that replaces this one, and journals
// what was counted until then. A nil notifier has none.
func (n *notifier) handOver(to *pb.HandoverContainer) error {
	if n == nil {
		return nil
	}
	n.tell()
	n.mu.Lock()
	defer n.mu.Unlock()
	listener, err := stdio.Duplicate(n.listener.FD())
	if err != nil {
		return err
	}
	to.Notifier = proto.Int32(int32(listener))
	for d := range n.filters {
		twin, err := d.Duplicate()
		if err != nil {
			return err
		}
		to.Notify = append(to.Notify, int32(twin))
	}
	return nil
}

// resume continues with the notifier of an earlier monitor's container, if it has one. Without the
// descriptors, which nobody else has, what the container's processes do goes uncounted.
func (x *notifiers) resume(record *pb.Container, b *belongings) *notifier {
	listener, filters := b.notifier, b.notify
	b.notifier, b.notify = -1, nil
	if record.Notifier == nil || record.Exit != nil {
		stdio.Close(append(filters, listener)...)
		if record.Blocked.GetFirst() != 0 {
			x.blocked.note(record.Id, record.Blocked)
		}
		return nil
	}
	before := earlier{calls: record.Blocked, listener: listener, filters: filters}
	if listener < 0 {
		before.calls = proto.CloneOf(before.calls)
		if before.calls == nil {
			before.calls = &pb.BlockedCalls{ContainerId: record.Id}
		}
		before.calls.Gap = true
	}
	n, err := x.open(record.Id, record.Notifier, before)
	if err != nil {
		x.logger.Error("take over the seccomp filters of a container", "container", record.Id, "error", err)
	}
	return n
}

// tellBlocked sends what containers were forbidden until ctx ends.
func (n *session) tellBlocked(ctx context.Context, id uint64) error {
	after := uint64(0)
	for {
		fresh, last, grown := n.server.notifiers.blocked.list(after)
		after = last
		for _, calls := range fresh {
			if err := n.conn.Send(&pb.Reply{Id: id, More: true, Result: &pb.Reply_BlockedCalls{BlockedCalls: calls}}); err != nil {
				return err
			}
		}
		select {
		case <-grown:
		case <-ctx.Done():
			return fmt.Errorf("the subscription ended: %w", ctx.Err())
		}
	}
}
