package node_test

import (
	"context"
	"log/slog"
	"slices"
	"strings"
	"testing"

	"github.com/stele-runtime/stele/actors/codec"
	"github.com/stele-runtime/stele/actors/container"
	"github.com/stele-runtime/stele/actors/entity"
	"github.com/stele-runtime/stele/actors/fault"
	"github.com/stele-runtime/stele/actors/image"
	"github.com/stele-runtime/stele/actors/node"
	"github.com/stele-runtime/stele/actors/sandbox"
	"github.com/stele-runtime/stele/eventlog"
	"github.com/stele-runtime/stele/eventlog/memlog"
)

// atOnce is a context that is done.
func atOnce() context.Context {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	return ctx
}

// reopened is what a new daemon finds of the log.
func reopened(t *testing.T, d *drivers, bootID string) *drivers {
	t.Helper()
	return driversWith(t, memlog.Reopen(d.log, memlog.Options{BootID: bootID}))
}

// Close cancels what is under way. What it would have done stays owed, and the
// next daemon does it; its callers find it done.
func TestCloseAndBoot(t *testing.T) {
	n, d := fresh(t)
	wait, begun, _ := blocked()
	d.when("attach network", wait)
	answer := make(chan error, 1)
	go func() {
		_, err := n.RunSandbox(context.Background(), runOf("pod"))
		answer <- err
	}()
	<-begun
	// An anticipated effect begins while the event before it is being appended.
	eventually(t, func() bool { return len(types(t, d.log, "sandbox/s-pod")) == 2 })
	n.Close(atOnce())
	wantKind(t, <-answer, fault.Unavailable)
	if got := types(t, d.log, "sandbox/s-pod"); len(got) != 2 {
		t.Fatalf("the cancelled effect left events: %v", got)
	}
	_, err := n.RunSandbox(t.Context(), runOf("other"))
	wantKind(t, err, fault.Unavailable)

	d = reopened(t, d, thisBoot)
	n = booted(t, d, thisBoot)
	again := runOf("pod")
	again.ID = "s-again"
	if s := run(t, n, again); s.ID != "s-pod" || s.Phase != sandbox.Ready {
		t.Errorf("after the restart: %s is %s", s.ID, s.Phase)
	}
	if d.times("s-pod: attach network") != 1 || d.times("s-pod: prepare") != 0 {
		t.Errorf("after the restart: %v", d.did)
	}
}

// Within its time an effect ends by itself and its outcome counts, but nothing new
// begins.
func TestCloseWaits(t *testing.T) {
	n, d := fresh(t)
	wait, begun, release := blocked()
	d.when("prepare", wait)
	go func() { _, _ = n.RunSandbox(context.Background(), runOf("pod")) }()
	<-begun
	closed := make(chan struct{})
	go func() {
		n.Close(t.Context())
		close(closed)
	}()
	close(release)
	<-closed
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(d.busy) > 0 {
		t.Errorf("still busy after Close: %v", d.busy)
	}
}

func TestCloseTwice(t *testing.T) {
	n, _ := fresh(t)
	n.Close(t.Context())
	n.Close(t.Context())
}

func TestCloseIsQuiet(t *testing.T) {
	d := newDrivers(t)
	var said strings.Builder
	n, err := node.New(node.Config{Log: d.log, Executor: d, Logger: slog.New(slog.NewTextHandler(&said, &slog.HandlerOptions{Level: slog.LevelWarn}))})
	if err != nil {
		t.Fatal(err)
	}
	if err := n.Boot(t.Context(), restore(t, d.log), startOf(thisBoot)); err != nil {
		t.Fatal(err)
	}
	run(t, n, runOf("pod"))
	n.Close(t.Context())
	if said.Len() > 0 {
		t.Errorf("an orderly end is no trouble, but this was said:\n%s", said.String())
	}
}

// A daemon that is stopped while it still spawns its past ends nevertheless.
func TestCloseInTheMiddleOfBoot(t *testing.T) {
	d := crashDuring(t)
	for range 20 {
		d = reopened(t, d, thisBoot)
		var said strings.Builder
		n, err := node.New(node.Config{Log: d.log, Executor: d, Logger: slog.New(slog.NewTextHandler(&said, &slog.HandlerOptions{Level: slog.LevelWarn}))})
		if err != nil {
			t.Fatal(err)
		}
		d.node = n
		if err := n.Boot(t.Context(), restore(t, d.log), startOf(thisBoot)); err != nil {
			t.Fatal(err)
		}
		n.Close(atOnce())
		if said.Len() > 0 {
			t.Fatalf("this was said:\n%s", said.String())
		}
	}
}

// crashDuring boots a node that has a pod with a running container and another pod
// in the middle of its creation, and ends it.
func crashDuring(t *testing.T) *drivers {
	t.Helper()
	n, d := fresh(t)
	s := run(t, n, runOf("ready"))
	c := create(t, n, createOf(s.ID, "web"))
	_, err := n.Container(t.Context(), c.ID, container.Start{}, container.StartAnswer)
	must(t, 0, err)
	wait, begun, _ := blocked()
	d.when("prepare", wait)
	go func() { _, _ = n.RunSandbox(context.Background(), runOf("halfway")) }()
	<-begun
	n.Close(atOnce())
	return d
}

func TestBootSameBoot(t *testing.T) {
	d := reopened(t, crashDuring(t), thisBoot)
	n := booted(t, d, thisBoot)
	run(t, n, runOf("halfway"))
	past := restore(t, d.log)
	if past.Containers["c-web"].State.Phase != container.Running || past.Sandboxes["s-ready"].State.Phase != sandbox.Ready {
		t.Errorf("a restart changed what was running: %+v", past)
	}
	if !slices.Contains(types(t, d.log, "node"), "node.DaemonStarted.v1") {
		t.Error("the start was not recorded")
	}
}

// After a reboot every entity learns of it before any of its effects is issued.
func TestBootAfterReboot(t *testing.T) {
	d := reopened(t, crashDuring(t), "boot-2")
	booted(t, d, "boot-2")
	told := func() bool {
		past := restore(t, d.log)
		_, halfway := past.Sandboxes["s-halfway"]
		return past.Containers["c-web"].State.Run.Exit.Unknown != "" && past.Sandboxes["s-ready"].State.Phase == sandbox.Stopped && !halfway
	}
	eventually(t, told)
	if d.times("s-halfway: prepare") > 0 {
		t.Error("what a reboot ended was gone on with")
	}
	if !slices.Contains(types(t, d.log, "node"), "node.NodeRebooted.v1") {
		t.Error("the node's stream does not tell of the reboot")
	}
}

// A creation that its daemon left is undone: its caller asks again, as the same attempt and
// with what it likes, and gets a container that nobody else has.
func TestBootUndoesCreations(t *testing.T) {
	for _, digest := range []string{"the same", "another"} {
		t.Run(digest, func(t *testing.T) {
			n, d := fresh(t)
			pod := run(t, n, runOf("pod"))
			wait, begun, _ := blocked()
			d.when("create", wait)
			first := createOf(pod.ID, "web")
			first.ConfigDigest = "the same"
			answer := make(chan error, 1)
			go func() {
				_, err := n.CreateContainer(context.Background(), first)
				answer <- err
			}()
			<-begun
			n.Close(atOnce())
			wantKind(t, <-answer, fault.Unavailable)

			d = reopened(t, d, thisBoot)
			undoing, begun, release := blocked()
			d.when("delete", undoing)
			n = booted(t, d, thisBoot)
			<-begun
			again := first
			again.ID, again.ConfigDigest = "c-again", digest
			made := make(chan container.State, 1)
			go func() {
				s, err := n.CreateContainer(context.Background(), again)
				if err != nil {
					t.Error(err)
				}
				made <- s
			}()
			close(release)
			if s := <-made; s.ID != again.ID || s.Phase != container.Created {
				t.Errorf("got %s, which is %s", s.ID, s.Phase)
			}
			if d.times("c-web: create") != 0 || d.times("c-web: delete") != 1 {
				t.Errorf("after the restart: %v", d.did)
			}
			if got := types(t, d.log, "container/c-web"); got[len(got)-1] != "container.ContainerFailed.v1" {
				t.Errorf("what was begun became %v", got)
			}
		})
	}
}

// A daemon can end between recording its start and reporting the reboot to every entity:
// the next one, of the same boot, reports it to the rest.
func TestRebootIsToldAgain(t *testing.T) {
	d := reopened(t, crashDuring(t), "boot-2")
	past := restore(t, d.log)
	past.Sandboxes, past.Containers = nil, nil // as if the daemon had ended there
	first := newNode(t, d, nil)
	if err := first.Boot(t.Context(), past, startOf("boot-2")); err != nil {
		t.Fatal(err)
	}
	first.Close(t.Context())
	d = reopened(t, d, "boot-2")
	booted(t, d, "boot-2")
	eventually(t, func() bool {
		past := restore(t, d.log)
		return past.Containers["c-web"].State.Run.Exit.Unknown != "" && past.Sandboxes["s-ready"].State.Phase == sandbox.Stopped
	})
}

// A sandbox forgets at the start which of its containers are gone.
func TestBootForgets(t *testing.T) {
	n, d := fresh(t)
	s := run(t, n, runOf("pod"))
	// The container's creation never arrived.
	_, err := n.Sandbox(t.Context(), s.ID, sandbox.AddContainer{Container: "c-lost"}, nil)
	must(t, 0, err)
	n.Close(t.Context())
	d = reopened(t, d, thisBoot)
	booted(t, d, thisBoot)
	eventually(t, func() bool {
		return slices.Contains(types(t, d.log, "sandbox/s-pod"), "sandbox.ContainerForgotten.v1")
	})
}

// A sandbox learns at the start of a container that it does not know: the log took the
// container's first event, and not its sandbox's. If the sandbox is not there, it may be
// damaged, and the container is left alone.
func TestBootAdoptsStrays(t *testing.T) {
	n, d := fresh(t)
	s := run(t, n, runOf("pod"))
	n.Close(t.Context())
	for _, c := range []container.Create{createOf(s.ID, "stray"), createOf("s-damaged", "other")} {
		append := eventlog.Append{Stream: eventlog.Stream("container/" + c.ID)}
		for _, e := range []container.Event{
			container.ContainerRequested(c), container.RootfsPrepared{}, container.ContainerCreated{Process: container.Process{PID: 7}},
		} {
			encoded, err := codec.EncodeContainer(e)
			must(t, 0, err)
			append.Entries = slices.Concat(append.Entries, []eventlog.Entry{{Type: encoded.Type, Schema: encoded.Schema, Payload: encoded.Payload}})
		}
		_, err := d.log.Append(t.Context(), append)
		must(t, 0, err)
	}
	d = reopened(t, d, thisBoot)
	n = booted(t, d, thisBoot)
	eventually(t, func() bool {
		return slices.Contains(types(t, d.log, "sandbox/s-pod"), "sandbox.ContainerAdded.v1")
	})
	remove(t, n, s.ID)
	if !slices.Contains(types(t, d.log, "container/c-stray"), "container.ContainerRemoved.v1") {
		t.Error("the pod is gone, and its container is not")
	}
	if got := types(t, d.log, "container/c-other"); len(got) != 3 {
		t.Errorf("the container of a damaged pod became %v", got)
	}
}

// After a restart a name is taken by whatever may still have it, as before.
func TestBootClaimsNames(t *testing.T) {
	n, d := fresh(t)
	s := run(t, n, runOf("pod"))
	web := create(t, n, createOf(s.ID, "web"))
	_, err := n.Container(t.Context(), web.ID, container.Start{}, container.StartAnswer)
	must(t, 0, err)
	d.when("detach network", func(context.Context) error { return fault.New(fault.Unavailable, "", "", "broken") })
	run(t, n, runOf("gone"))
	remove(t, n, "s-gone") // owes its network still
	n.Close(t.Context())

	d = reopened(t, d, thisBoot)
	n = booted(t, d, thisBoot)
	other := runOf("pod")
	other.ID, other.ConfigDigest = "s-other", "another"
	_, err = n.RunSandbox(t.Context(), other)
	wantKind(t, err, fault.Exists)
	again := createOf(s.ID, "web")
	again.ID, again.ConfigDigest = "c-other", "another"
	_, err = n.CreateContainer(t.Context(), again)
	wantKind(t, err, fault.Exists)
	gone := runOf("gone")
	gone.ID = "s-gone-again"
	if s := run(t, n, gone); s.ID != gone.ID {
		t.Errorf("got sandbox %s", s.ID)
	}
}

// A pull that was under way when the daemon ended is issued again by the next one, whose
// drivers say what became of it.
func TestBootImages(t *testing.T) {
	n, d := fresh(t)
	wait, begun, _ := blocked()
	d.when("fetch p", wait)
	go func() {
		_, _ = n.Image(context.Background(), "ref", image.RequestPull{Ref: "ref", Pull: "p"}, image.PullAnswer("p"))
	}()
	<-begun
	n.Close(atOnce())
	d = reopened(t, d, thisBoot)
	interrupted := fault.New(fault.Interrupted, "pull image", "ref", "the daemon ended")
	d.when("fetch p", func(context.Context) error { return interrupted })
	booted(t, d, thisBoot)
	eventually(t, func() bool { return slices.Contains(types(t, d.log, ""), "image.PullFailed.v1") })
}

// A stream that cannot be read is left alone, and the node's stream says so.
func TestQuarantineIsReported(t *testing.T) {
	n, d := fresh(t)
	pull := func(ref string) error {
		_, err := n.Image(t.Context(), ref, image.RequestPull{Ref: ref, Pull: "p"}, image.PullAnswer("p"))
		return err
	}
	if err := pull("broken"); err != nil {
		t.Fatal(err)
	}
	var stream eventlog.Stream
	var version eventlog.Version
	for r := range d.log.Read(t.Context(), 1) {
		if strings.HasPrefix(string(r.Stream), "image/") {
			stream, version = r.Stream, r.Version
		}
	}
	n.Close(t.Context())
	d = reopened(t, d, thisBoot)
	_, err := d.log.Append(t.Context(), eventlog.Append{Stream: stream, Expected: version, Entries: []eventlog.Entry{{Type: "image.OfTheFuture.v7", Schema: 1}}})
	if err != nil {
		t.Fatal(err)
	}
	n = newNode(t, d, nil)
	past := entity.Past{Host: hostOf(t, d.log)} // the projections put the stream aside
	if err := n.Boot(t.Context(), past, startOf(thisBoot)); err != nil {
		t.Fatal(err)
	}
	wantKind(t, pull("broken"), fault.Internal)
	wantKind(t, pull("broken"), fault.Internal)
	if err := pull("sound"); err != nil {
		t.Error(err)
	}
	eventually(t, func() bool { return slices.Contains(types(t, d.log, "node"), "node.StreamQuarantined.v1") })
}

// A stream that an older version cannot read is not forgotten: its container is in the way
// until it is stopped or removed, which needs no more than its id and handler.
func TestDamagedContainerCanBeEnded(t *testing.T) {
	n, d := fresh(t)
	s := run(t, n, runOf("pod"))
	c := create(t, n, createOf(s.ID, "web"))
	_, err := n.Container(t.Context(), c.ID, container.Start{}, container.StartAnswer)
	must(t, 0, err)
	n.Close(t.Context())
	past := restore(t, d.log)
	damage := eventlog.Stream("container/" + string(c.ID))
	_, err = d.log.Append(t.Context(), eventlog.Append{
		Stream: damage, Expected: past.Containers[c.ID].Version, Entries: []eventlog.Entry{{Type: "container.OfTheFuture.v7", Schema: 1}},
	})
	must(t, 0, err)
	past.Damaged = map[eventlog.Stream]string{damage: "of the future"}

	d = reopened(t, d, thisBoot)
	n = newNode(t, d, nil)
	must(t, 0, n.Boot(t.Context(), past, startOf(thisBoot)))
	_, err = n.Container(t.Context(), c.ID, container.ReopenLog{}, container.ReopenAnswer)
	wantKind(t, err, fault.Internal)
	if d.times("c-web: delete") != 0 {
		t.Error("what nobody asked for was done")
	}
	stop(t, n, s.ID)
	if d.times("c-web: delete") != 1 {
		t.Errorf("the pod is stopped, and its container is not: %v", d.did)
	}
	remove(t, n, s.ID)
	eventually(t, func() bool { return slices.Contains(types(t, d.log, "node"), "node.StreamClosed.v1.skippable") })
	if got := types(t, d.log, damage); got[len(got)-1] != "container.OfTheFuture.v7" {
		t.Errorf("something was appended to what cannot be read: %v", got)
	}
}

// A record that its writer marked as one that can be skipped is skipped.
func TestSkippableRecord(t *testing.T) {
	n, d := fresh(t)
	s := run(t, n, runOf("pod"))
	n.Close(t.Context())
	past := restore(t, d.log)
	stream := eventlog.Stream("sandbox/" + string(s.ID))
	_, err := d.log.Append(t.Context(), eventlog.Append{
		Stream: stream, Expected: past.Sandboxes[s.ID].Version, Entries: []eventlog.Entry{{Type: "sandbox.Noted.v1.skippable", Schema: 1}},
	})
	must(t, 0, err)
	d = reopened(t, d, thisBoot)
	n = newNode(t, d, nil)
	// The states are behind the log: the first append finds out, and the stream is read.
	must(t, 0, n.Boot(t.Context(), past, startOf(thisBoot)))
	eventually(t, func() bool {
		_, err := n.Sandbox(t.Context(), s.ID, sandbox.Stop{}, sandbox.StopAnswer)
		return err == nil
	})
}

// A pod whose creation failed has no id that anybody knows, and of a removed one nobody
// asks again: if its stream cannot be read, it is undone without being asked to.
func TestDamagedFailureIsUndone(t *testing.T) {
	for _, phase := range []sandbox.Phase{sandbox.Unwinding, sandbox.Failed, sandbox.Removed} {
		t.Run(string(phase), func(t *testing.T) {
			n, d := fresh(t)
			s := run(t, n, runOf("pod"))
			n.Close(t.Context())
			past := restore(t, d.log)
			damage := eventlog.Stream("sandbox/" + string(s.ID))
			at := past.Sandboxes[s.ID]
			_, err := d.log.Append(t.Context(), eventlog.Append{
				Stream: damage, Expected: at.Version, Entries: []eventlog.Entry{{Type: "sandbox.OfTheFuture.v7", Schema: 1}},
			})
			must(t, 0, err)
			at.State.Phase = phase
			past.Sandboxes[s.ID] = at
			past.Damaged = map[eventlog.Stream]string{damage: "of the future"}

			d = reopened(t, d, thisBoot)
			n = newNode(t, d, nil)
			must(t, 0, n.Boot(t.Context(), past, startOf(thisBoot)))
			eventually(t, func() bool { return slices.Contains(types(t, d.log, "node"), "node.StreamClosed.v1.skippable") })
		})
	}
}
