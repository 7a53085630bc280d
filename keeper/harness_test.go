package keeper_test

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stele-runtime/stele/actors/codec"
	"github.com/stele-runtime/stele/actors/container"
	"github.com/stele-runtime/stele/actors/host"
	"github.com/stele-runtime/stele/actors/id"
	"github.com/stele-runtime/stele/actors/image"
	"github.com/stele-runtime/stele/actors/sandbox"
	"github.com/stele-runtime/stele/eventlog"
	"github.com/stele-runtime/stele/eventlog/memlog"
	"github.com/stele-runtime/stele/keeper"
	"github.com/stele-runtime/stele/projections"
)

// town is a node with a log, its clock, and what is appended to it.
type town struct {
	t    testing.TB
	log  eventlog.Log
	boot string
	// up is how long the node is up, wall what a wall clock says.
	up   time.Duration
	wall time.Time
	// config is every pod's.
	config []byte
	// volatile: nothing waits for the disk.
	volatile bool
	// at are the versions of streams.
	at map[eventlog.Stream]eventlog.Version
}

func newTown(t testing.TB) *town {
	n := &town{t: t, boot: "boot-1", wall: time.Unix(1e9, 0), at: map[eventlog.Stream]eventlog.Version{}}
	n.log = memlog.New(memlog.Options{BootID: n.boot, Clock: n})
	t.Cleanup(func() { _ = n.log.Close() })
	n.startDaemon()
	return n
}

// Now implements eventlog.Clock.
func (n *town) Now() time.Time { return n.wall }

// SinceBoot implements eventlog.Clock.
func (n *town) SinceBoot() time.Duration { return n.up }

func (n *town) pass(d time.Duration) { n.up, n.wall = n.up+d, n.wall.Add(d) }

func (n *town) startDaemon() {
	n.host(host.DaemonStarted{BootID: n.boot, Version: "1", PID: 1})
}

// reboot starts the node again.
func (n *town) reboot() {
	n.boot, n.up = n.boot+"+", 0
	n.log = memlog.Reopen(n.log.(*memlog.Log), memlog.Options{BootID: n.boot, Clock: n})
	n.startDaemon()
}

func (n *town) append(stream eventlog.Stream, encoded codec.Encoded, err error) {
	n.t.Helper()
	if err != nil {
		n.t.Fatal(err)
	}
	_, err = n.log.Append(context.Background(), eventlog.Append{Stream: stream, Expected: n.at[stream], Volatile: n.volatile, Entries: []eventlog.Entry{
		{Type: encoded.Type, Schema: encoded.Schema, Payload: encoded.Payload},
	}})
	if err != nil {
		n.t.Fatal(err)
	}
	n.at[stream]++
}

func (n *town) host(events ...host.Event) {
	n.t.Helper()
	for _, e := range events {
		encoded, err := codec.EncodeHost(e)
		n.append("node", encoded, err)
	}
}

func (n *town) image(ref string, events ...image.Event) {
	n.t.Helper()
	for _, e := range events {
		encoded, err := codec.EncodeImage(e)
		n.append(eventlog.Stream("image/"+ref), encoded, err)
	}
}

func (n *town) pod(name string, events ...sandbox.Event) {
	n.t.Helper()
	for _, e := range events {
		encoded, err := codec.EncodeSandbox(e)
		n.append(eventlog.Stream("sandbox/"+name), encoded, err)
	}
}

func (n *town) container(name string, events ...container.Event) {
	n.t.Helper()
	for _, e := range events {
		encoded, err := codec.EncodeContainer(e)
		n.append(eventlog.Stream("container/"+name), encoded, err)
	}
}

// begin runs a pod with a container.
func (n *town) begin(pod string) {
	n.t.Helper()
	n.pod(pod, sandbox.SandboxRequested{ID: id.Sandbox(pod), Name: sandbox.Name{Name: pod}, HostNetwork: true, Config: n.config}, sandbox.SandboxPrepared{}, sandbox.SandboxReady{})
	n.beginContainer(pod, pod+"-c")
}

func (n *town) beginContainer(pod, name string) {
	n.t.Helper()
	n.pod(pod, sandbox.ContainerAdded{Container: id.Container(name)})
	n.container(name, container.ContainerRequested{ID: id.Container(name), Sandbox: id.Sandbox(pod), Name: container.Name{Name: name}, SandboxConfig: n.config}, container.RootfsPrepared{},
		container.ContainerCreated{Process: container.Process{PID: 42}}, container.StartRequested{}, container.ContainerStarted{})
}

func (n *town) endContainer(pod, name string) {
	n.t.Helper()
	n.container(name, container.ContainerExited{}, container.RemoveRequested{}, container.RuntimeDeleted{}, container.RootfsReleased{}, container.ContainerRemoved{})
	n.pod(pod, sandbox.ContainerForgotten{Container: id.Container(name)})
}

// end ends a pod that began.
func (n *town) end(pod string) {
	n.t.Helper()
	n.endContainer(pod, pod+"-c")
	n.pod(pod, sandbox.StopRequested{}, sandbox.SandboxStopped{}, sandbox.RemoveRequested{}, sandbox.SandboxReleased{}, sandbox.SandboxRemoved{})
}

// execs lets a command begin and end in a pod's container.
func (n *town) execs(pod string, many int) {
	n.t.Helper()
	for i := range many {
		x := id.Exec(fmt.Sprintf("%s-%d-%d", pod, n.up, i))
		n.container(pod+"-c", container.ExecRequested{Exec: x, Command: []string{"true"}}, container.ExecEnded{Exec: x})
	}
}

// views are a feed's, as a daemon has them.
type views struct{ *projections.Feed }

func (v views) Sequence() eventlog.Sequence  { return v.Live.Sequence() }
func (v views) Lives(s eventlog.Stream) bool { return v.Live.Lives(s) }
func (v views) Ended() iter.Seq[keeper.Ended] {
	return func(yield func(keeper.Ended) bool) {
		for _, e := range slices.Backward(v.History.Ended()) {
			if !yield(keeper.Ended{Stream: e.Stream, Sequence: e.Sequence, Pod: strings.HasPrefix(string(e.Stream), "sandbox/")}) {
				return
			}
		}
	}
}

// opened reads the log as a daemon does at its start.
func (n *town) opened() *projections.Feed {
	n.t.Helper()
	feed, err := projections.Open(context.Background(), n.log, projections.Options{Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		n.t.Fatal(err)
	}
	if damaged := feed.Live.Damaged(); len(damaged) > 0 {
		n.t.Fatal("damaged:", damaged)
	}
	return feed
}

// keep has a new daemon's keeper do all that is due.
func (n *town) keep(limits keeper.Limits) *keeper.Keeper {
	n.t.Helper()
	k := n.keeper(views{n.opened()}, limits)
	n.settle(k)
	return k
}

// keeper is a new daemon's.
func (n *town) keeper(v keeper.Views, limits keeper.Limits) *keeper.Keeper {
	n.t.Helper()
	k, err := keeper.New(context.Background(), keeper.Options{
		Log: n.log, Views: v, Limits: limits, BootID: n.boot, Clock: n, Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		n.t.Fatal(err)
	}
	return k
}

// settle has a keeper do all that is due.
func (n *town) settle(k *keeper.Keeper) {
	n.t.Helper()
	for range 100_000 {
		more, err := k.Step(context.Background())
		if err != nil {
			n.t.Fatal(err)
		}
		if !more {
			return
		}
	}
	n.t.Fatal("it is never done")
}

// streams are those of pods and containers that the log has.
func (n *town) streams() (names []string) {
	n.t.Helper()
	for _, kind := range []string{"sandbox/", "container/"} {
		for info, err := range n.log.Streams(context.Background(), kind) {
			if err != nil {
				n.t.Fatal(err)
			}
			names = append(names, string(info.Stream))
		}
	}
	slices.Sort(names)
	return names
}

// types are the types of a stream's records that are left.
func (n *town) types(stream eventlog.Stream) (types []string) {
	n.t.Helper()
	for r, err := range n.log.ReadStream(context.Background(), stream, 1) {
		if errors.Is(err, eventlog.ErrRemoved) {
			continue
		}
		if err != nil {
			n.t.Fatal(err)
		}
		types = append(types, r.Type)
	}
	return types
}
