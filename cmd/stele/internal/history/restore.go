package history

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/stele-runtime/stele/actors/codec"
	"github.com/stele-runtime/stele/actors/container"
	"github.com/stele-runtime/stele/actors/entity"
	"github.com/stele-runtime/stele/actors/host"
	"github.com/stele-runtime/stele/actors/sandbox"
	"github.com/stele-runtime/stele/eventlog"
	"github.com/stele-runtime/stele/projections"
)

// restoreCommand is the cause of the events that a log is told anew.
const restoreCommand = "ReplaceLog"

// restore tells a log what happened after its last record, as far as the state directory and
// the node show it. If that was nothing, and nothing was replaced, the log stays as it is.
func (h *Opener) restore(ctx context.Context, log eventlog.Log, said host.LogReplaced) error {
	feed, err := projections.Open(ctx, log, projections.Options{Logger: h.Logger})
	if err != nil {
		return err
	}
	r := &restoring{ctx: ctx, opener: h, log: log, past: feed.Live.Past(), kept: ReadKept(KeptDir(h.State), h.BootID), said: said}
	for _, problem := range r.kept.Problems {
		h.Logger.Error("a kept state is not used", "error", problem)
	}
	for _, part := range []func() error{r.fromKept, r.others, r.unexplained} {
		if err := part(); err != nil {
			return fmt.Errorf("bring the event log up to date: %w", err)
		}
	}
	if r.appended == 0 && said.SetAside == "" {
		return nil
	}
	return r.conclude()
}

// restoring is one restoration of a log.
type restoring struct {
	ctx    context.Context
	opener *Opener
	log    eventlog.Log
	past   entity.Past // at the log's end
	kept   Kept
	said   host.LogReplaced
	// appended counts appends.
	appended int
}

// fromKept tells the log the states that the state directory kept.
func (r *restoring) fromKept() error {
	for _, k := range r.kept.Sandboxes {
		was, live := r.past.Sandboxes[k.State.ID]
		was.State.Retries = nil
		if err := tell(r, machine[sandbox.State, sandbox.Event]{
			stream: "sandbox/" + eventlog.Stream(k.State.ID), facts: sandbox.Facts, encode: codec.EncodeSandbox, encodeState: codec.EncodeSandboxState,
		}, k, was.State, live); err != nil {
			return err
		}
	}
	for _, k := range r.kept.Containers {
		was, live := r.past.Containers[k.State.ID]
		was.State.Retries, was.State.Execs = nil, nil
		if err := tell(r, machine[container.State, container.Event]{
			stream: "container/" + eventlog.Stream(k.State.ID), facts: container.Facts, encode: codec.EncodeContainer, encodeState: codec.EncodeContainerState,
		}, k, was.State, live); err != nil {
			return err
		}
	}
	r.said.Restored = len(r.kept.Sandboxes) + len(r.kept.Containers)
	if cidr := r.kept.Host.State.PodCIDR; cidr != "" && cidr != r.past.Host.State.PodCIDR {
		return retell(r, nodeStream, []host.Event{host.PodCIDRChanged{CIDR: cidr}}, codec.EncodeHost, "")
	}
	return nil
}

// machine is what the restoration of a stream needs of its machine.
type machine[S, E any] struct {
	stream      eventlog.Stream
	facts       func(S) []E
	encode      func(E) (codec.Encoded, error)
	encodeState func(S) ([]byte, error)
}

// tell tells a stream a kept state, unless the log knows it, or its end.
func tell[S, E any](r *restoring, m machine[S, E], k KeptState[S], was S, live bool) error {
	if live {
		before, err := m.encodeState(was)
		if err != nil {
			return err
		}
		now, err := m.encodeState(k.State)
		if err != nil || bytes.Equal(before, now) {
			return err
		}
	} else if _, ended, err := r.log.Stream(r.ctx, m.stream); ended || err != nil {
		return err
	}
	return retell(r, m.stream, m.facts(k.State), m.encode, k.Damage)
}

// others looks at what the log knows and the state directory did not keep. In the boot in which it
// kept everything, that has ended, unless the node still has something of it; then, and after a
// reboot, the log's state is the last that is known.
func (r *restoring) others() error {
	known := map[eventlog.Stream]bool{}
	for _, k := range r.kept.Sandboxes {
		known["sandbox/"+eventlog.Stream(k.State.ID)] = true
	}
	for _, k := range r.kept.Containers {
		known["container/"+eventlog.Stream(k.State.ID)] = true
	}
	for s, was := range r.past.Sandboxes {
		stream := eventlog.Stream("sandbox/" + s)
		if known[stream] {
			continue
		}
		if !r.ended(stream, "sandboxes", string(s)) {
			r.said.Outdated++
			continue
		}
		if err := retell(r, stream, sandbox.Vanished(was.State), codec.EncodeSandbox, ""); err != nil {
			return err
		}
	}
	for c, was := range r.past.Containers {
		stream := eventlog.Stream("container/" + c)
		if known[stream] {
			continue
		}
		if !r.ended(stream, "containers", string(c)) {
			r.said.Outdated++
			continue
		}
		if err := retell(r, stream, container.Vanished(was.State), codec.EncodeContainer, ""); err != nil {
			return err
		}
	}
	return nil
}

// ended reports whether nothing is left of what was not kept. A stream that cannot be followed
// cannot be told so.
func (r *restoring) ended(stream eventlog.Stream, dir, name string) bool {
	_, damaged := r.past.Damaged[stream]
	return r.kept.ThisBoot && !damaged && !r.opener.onNode(dir, name)
}

// conclude tells the node's own stream what was done.
func (r *restoring) conclude() error {
	r.said.At = time.Now().UTC()
	if r.kept.ThisBoot {
		r.said.BootID = r.opener.BootID
	}
	events, err := host.Decide(r.past.Host.State, host.ReportLogReplaced(r.said))
	if err != nil {
		return err
	}
	r.opener.Logger.Warn("the event log has been brought up to date", "set aside", r.said.SetAside, "backup", r.said.Backup,
		"restored", r.said.Restored, "outdated", r.said.Outdated, "unexplained", r.said.Unexplained)
	return retell(r, nodeStream, events, codec.EncodeHost, "")
}

// retell appends events to a stream, all or none; if its history is lost, that comes last.
func retell[E any](r *restoring, stream eventlog.Stream, events []E, encode func(E) (codec.Encoded, error), lost string) error {
	var entries []eventlog.Entry
	add := func(e codec.Encoded) {
		entries = append(entries, eventlog.Entry{
			Type: e.Type, Schema: e.Schema, Payload: e.Payload, Cause: eventlog.Cause{Command: restoreCommand},
		})
	}
	for _, e := range events {
		encoded, err := encode(e)
		if err != nil {
			return err
		}
		add(encoded)
	}
	if lost != "" {
		kind, _, _ := strings.Cut(string(stream), "/")
		add(codec.HistoryLost(kind, lost))
	}
	info, _, err := r.log.Stream(r.ctx, stream)
	if err != nil {
		return err
	}
	version := info.Version
	for part := range slices.Chunk(entries, eventlog.MaxEntries) {
		if _, err := r.log.Append(r.ctx, eventlog.Append{Stream: stream, Expected: version, Entries: part}); err != nil {
			return fmt.Errorf("append to %s: %w", stream, err)
		}
		version += eventlog.Version(len(part))
		r.appended++
	}
	return nil
}
