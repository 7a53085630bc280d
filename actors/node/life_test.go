package node_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stele-runtime/stele/actors/container"
	"github.com/stele-runtime/stele/actors/fault"
	"github.com/stele-runtime/stele/actors/id"
	"github.com/stele-runtime/stele/actors/image"
	"github.com/stele-runtime/stele/actors/sandbox"
)

func TestLife(t *testing.T) {
	n, d := fresh(t)
	s := run(t, n, runOf("pod"))
	if s.Phase != sandbox.Ready || !slices.Equal(s.Network.IPs, []string{"10.0.0.2"}) {
		t.Fatalf("the sandbox is %+v", s)
	}
	c := create(t, n, createOf(s.ID, "web"))
	started, err := n.Container(t.Context(), c.ID, container.Start{}, container.StartAnswer)
	if must(t, started, err).Phase != container.Running {
		t.Fatalf("the container is %s", started.Phase)
	}
	stop(t, n, s.ID)
	stop(t, n, s.ID)
	remove(t, n, s.ID)
	// What is gone is not found, once its actor has been retired; until then it says
	// that it is gone.
	eventually(t, func() bool {
		_, err = n.Sandbox(t.Context(), s.ID, sandbox.Stop{}, sandbox.StopAnswer)
		return err != nil
	})
	wantKind(t, err, fault.NotFound)
	eventually(t, func() bool {
		_, err = n.Container(t.Context(), c.ID, container.Remove{}, container.RemoveAnswer)
		return err != nil
	})
	wantKind(t, err, fault.NotFound)
	for _, once := range []string{"s-pod: prepare", "s-pod: attach network", "s-pod: detach network", "s-pod: release", "c-web: create", "c-web: kill", "c-web: delete", "c-web: release rootfs"} {
		if got := d.times(once); got != 1 {
			t.Errorf("%s happened %d times", once, got)
		}
	}
}

// A repeated RunSandbox joins the one that has the name, under way or done;
// another configuration under that name is refused.
func TestJoinSandbox(t *testing.T) {
	n, d := fresh(t)
	wait, begun, release := blocked()
	d.when("prepare", wait)
	first := runOf("pod")
	ids := make(chan id.Sandbox, 3)
	var callers sync.WaitGroup
	call := func(r sandbox.Run) {
		callers.Go(func() {
			s, err := n.RunSandbox(t.Context(), r)
			if err != nil {
				t.Error(err)
			}
			ids <- s.ID
		})
	}
	call(first)
	<-begun
	again := first
	again.ID = "s-again"
	call(again)
	other := again
	other.ConfigDigest = "another"
	_, err := n.RunSandbox(t.Context(), other)
	wantKind(t, err, fault.Exists)
	close(release)
	callers.Wait()
	call(again)
	callers.Wait()
	for range 3 {
		if got := <-ids; got != first.ID {
			t.Errorf("a caller got %s, want %s", got, first.ID)
		}
	}
	_, err = n.RunSandbox(t.Context(), other)
	wantKind(t, err, fault.Exists)
}

func TestNameAfterFailure(t *testing.T) {
	n, d := fresh(t)
	d.when("attach network", func(context.Context) error { return fault.New(fault.Unavailable, "", "", "no address is left") })
	_, err := n.RunSandbox(t.Context(), runOf("pod"))
	wantKind(t, err, fault.Unavailable)
	d.when("attach network", nil)
	again := runOf("pod")
	again.ID, again.ConfigDigest = "s-again", "another"
	if s := run(t, n, again); s.ID != again.ID {
		t.Errorf("got sandbox %s", s.ID)
	}
	if d.times("s-pod: detach network") != 1 || d.times("s-pod: release") != 1 {
		t.Errorf("what the failure left was not undone: %v", d.did)
	}
}

func TestNameAfterRemoval(t *testing.T) {
	n, _ := fresh(t)
	for i := range 3 {
		r := runOf("pod")
		r.ID, r.ConfigDigest = id.Sandbox(fmt.Sprint("s-", i)), fmt.Sprint(i)
		if s := run(t, n, r); s.ID != r.ID {
			t.Fatalf("got sandbox %s", s.ID)
		}
		web := createOf(r.ID, "web")
		web.ID = id.Container(fmt.Sprint("c-", i))
		c := create(t, n, web)
		_, err := n.Container(t.Context(), c.ID, container.Remove{}, container.RemoveAnswer)
		if err != nil {
			t.Fatal(err)
		}
		// The same name, the same pod, another container.
		again := createOf(r.ID, "web")
		again.ID, again.ConfigDigest = id.Container(fmt.Sprint("c-again-", i)), "another"
		create(t, n, again)
		remove(t, n, r.ID)
	}
}

// While the log refuses appends, callers get that error, and the name is as free as before.
func TestLogUnavailable(t *testing.T) {
	n, d := fresh(t)
	pod := run(t, n, runOf("other"))
	d.log.Fail(errors.New("no space left on device"))
	_, err := n.RunSandbox(t.Context(), runOf("pod"))
	wantKind(t, err, fault.Unavailable)
	_, err = n.CreateContainer(t.Context(), createOf(pod.ID, "web"))
	wantKind(t, err, fault.Unavailable)
	d.log.Fail(nil)
	again := runOf("pod")
	again.ID = "s-again"
	if s := run(t, n, again); s.ID != again.ID {
		t.Errorf("got sandbox %s", s.ID)
	}
	// The pod may still wait to record the container that was refused.
	eventually(t, func() bool {
		_, err := n.CreateContainer(t.Context(), createOf(pod.ID, "web"))
		return err == nil
	})
}

func TestJoinContainer(t *testing.T) {
	n, d := fresh(t)
	s := run(t, n, runOf("pod"))
	c := createOf(s.ID, "web")
	create(t, n, c)
	again := c
	again.ID = "c-again"
	if got := create(t, n, again); got.ID != c.ID {
		t.Errorf("joined %s", got.ID)
	}
	_, err := n.Container(t.Context(), c.ID, container.Start{}, container.StartAnswer)
	must(t, 0, err)
	again.ConfigDigest = "another"
	_, err = n.CreateContainer(t.Context(), again)
	wantKind(t, err, fault.Exists)
	// A failure of the first one is the answer of the one that joined, with its
	// cause.
	wait, begun, release := blocked()
	d.when("prepare rootfs", func(ctx context.Context) error {
		_ = wait(ctx)
		return fault.New(fault.NotFound, "", "", "the image is gone")
	})
	var callers sync.WaitGroup
	callers.Go(func() { _, _ = n.CreateContainer(t.Context(), createOf(s.ID, "other")) })
	<-begun
	joined := make(chan error, 1)
	callers.Go(func() {
		again := createOf(s.ID, "other")
		again.ID = "c-other-again"
		_, err := n.CreateContainer(t.Context(), again)
		joined <- err
	})
	// The second caller is on its way once its claim and its question have passed
	// the router, which nobody can see: both orders must give a failure.
	close(release)
	if err := <-joined; err == nil {
		t.Error("the second caller got a container")
	}
	callers.Wait()
}

func TestContainerNeedsSandbox(t *testing.T) {
	n, d := fresh(t)
	_, err := n.CreateContainer(t.Context(), createOf("nobody", "web"))
	wantKind(t, err, fault.NotFound)
	s := run(t, n, runOf("pod"))
	stop(t, n, s.ID)
	_, err = n.CreateContainer(t.Context(), createOf(s.ID, "web"))
	wantKind(t, err, fault.Precondition)
	if d.times("c-web: prepare rootfs") > 0 {
		t.Error("something was made for it")
	}
}

// A sandbox forgets a container that is gone or never came to be.
func TestForget(t *testing.T) {
	n, d := fresh(t)
	s := run(t, n, runOf("pod"))
	forgotten := func(times int) func() bool {
		return func() bool {
			got := 0
			for _, name := range types(t, d.log, "sandbox/s-pod") {
				if name == "sandbox.ContainerForgotten.v1" {
					got++
				}
			}
			return got == times
		}
	}
	create(t, n, createOf(s.ID, "one"))
	_, err := n.Container(t.Context(), "c-one", container.Remove{}, container.RemoveAnswer)
	must(t, 0, err)
	eventually(t, forgotten(1))
	d.when("create", func(context.Context) error { return errors.New("the runtime refuses") })
	_, err = n.CreateContainer(t.Context(), createOf(s.ID, "two"))
	wantKind(t, err, fault.Internal)
	eventually(t, forgotten(2))
}

func TestExited(t *testing.T) {
	n, d := fresh(t)
	if err := n.Exited(t.Context(), "nobody", container.Process{}, container.Exit{}); err != nil {
		t.Errorf("the end of what nobody knows: %v", err)
	}
	shared := runOf("pod")
	shared.SharedPID = true
	s := run(t, n, shared)
	c := create(t, n, createOf(s.ID, "web"))
	if err := n.Exited(t.Context(), string(c.ID), container.Process{}, container.Exit{Code: 3, At: time.Now()}); err != nil {
		t.Error(err)
	}
	if !slices.Contains(types(t, d.log, "container/c-web"), "container.ContainerExited.v2") {
		t.Error("the exit was not durable when Exited returned")
	}
	if err := n.Exited(t.Context(), string(s.ID), container.Process{}, container.Exit{Code: 1, At: time.Now()}); err != nil {
		t.Error(err)
	}
	if got := types(t, d.log, "sandbox/s-pod"); !slices.Contains(got, "sandbox.HolderEnded.v1") || !slices.Contains(got, "sandbox.SandboxLost.v1") {
		t.Errorf("the end of the holder led to %v", got)
	}
}

// A network that cannot be detached holds up nobody, and is retried until it is detached,
// also after the removal.
func TestDebtOutlivesRemoval(t *testing.T) {
	n, d := fresh(t)
	tries := make(chan struct{}, 2)
	d.when("detach network", func(context.Context) error {
		tries <- struct{}{}
		if len(tries) == 1 {
			return errors.New("the plugin is broken")
		}
		return nil
	})
	s := run(t, n, runOf("pod"))
	remove(t, n, s.ID)
	eventually(t, func() bool {
		return slices.Contains(types(t, d.log, "sandbox/s-pod"), "sandbox.NetworkDetached.v1")
	})
	again := runOf("pod")
	again.ID = "s-again"
	run(t, n, again)
}

// A panic in a driver is the failure of its effect.
func TestDriverPanics(t *testing.T) {
	n, d := fresh(t)
	d.when("prepare", func(context.Context) error { panic("driver") })
	_, err := n.RunSandbox(t.Context(), runOf("pod"))
	wantKind(t, err, fault.Internal)
	d.when("prepare", nil)
	again := runOf("pod")
	again.ID = "s-again"
	run(t, n, again)
}

// Two hundred pods at once, each complete and with its own resources.
func TestManySandboxes(t *testing.T) {
	n, d := fresh(t)
	var pods sync.WaitGroup
	for i := range 200 {
		pods.Go(func() {
			name := fmt.Sprint(i)
			s := run(t, n, runOf(name))
			create(t, n, createOf(s.ID, name))
			if err := n.Exited(t.Context(), "c-"+name, container.Process{}, container.Exit{At: time.Now()}); err != nil {
				t.Error(err)
			}
			stop(t, n, s.ID)
			remove(t, n, s.ID)
		})
	}
	pods.Wait()
	if past := restore(t, d.log); len(past.Sandboxes)+len(past.Containers) > 0 {
		t.Errorf("%d sandboxes and %d containers are left", len(past.Sandboxes), len(past.Containers))
	}
}

// The actor of an image reference goes when it has nothing to do and comes back
// with the next message. None is lost in between.
func TestImagesRetire(t *testing.T) {
	n, d := fresh(t)
	var callers sync.WaitGroup
	for i := range 16 {
		callers.Go(func() {
			for j := range 40 {
				pull := id.Pull(fmt.Sprint(i, " ", j))
				s, err := n.Image(t.Context(), "ref", image.RequestPull{Ref: "ref", Pull: pull}, image.PullAnswer(pull))
				if err != nil || s.Last.ImageID != "of ref" {
					t.Errorf("pull %s: %v, %+v", pull, err, s.Last)
				}
			}
		})
	}
	callers.Wait()
	pulled := 0
	for _, name := range types(t, d.log, "") {
		if name == "image.ImagePulled.v1" {
			pulled++
		}
	}
	if pulled != 16*40 {
		t.Errorf("%d pulls are recorded", pulled)
	}
}

// The caller of a failed creation gets the cause, and the name is free, as soon as undoing it
// has failed once: the retries go on by themselves.
func TestFailedUndoingFreesTheName(t *testing.T) {
	n, d := fresh(t)
	pod := run(t, n, runOf("pod"))
	broken := func(context.Context) error { return fault.New(fault.Unavailable, "", "", "it is broken") }
	d.when("create", func(context.Context) error { return fault.New(fault.NotFound, "", "", "no such program") })
	d.when("delete", broken)
	_, err := n.CreateContainer(t.Context(), createOf(pod.ID, "web"))
	wantKind(t, err, fault.NotFound)
	d.when("create", nil)
	again := createOf(pod.ID, "web")
	again.ID, again.ConfigDigest = "c-again", "another"
	if c := create(t, n, again); c.ID != again.ID {
		t.Errorf("got container %s", c.ID)
	}

	d.when("attach network", func(context.Context) error { return fault.New(fault.NotFound, "", "", "no plugin") })
	d.when("release", broken)
	_, err = n.RunSandbox(t.Context(), runOf("other"))
	wantKind(t, err, fault.NotFound)
	d.when("attach network", nil)
	other := runOf("other")
	other.ID, other.ConfigDigest = "s-again", "another"
	if s := run(t, n, other); s.ID != other.ID {
		t.Errorf("got sandbox %s", s.ID)
	}

	// The pod knows its first container until it is gone.
	d.when("delete", nil)
	d.when("release", nil)
	remove(t, n, pod.ID)
	if !slices.Contains(types(t, d.log, "container/c-web"), "container.ContainerFailed.v1") {
		t.Error("the pod is gone, and its first container is not")
	}
}

// A container that was created and never started gives way to one of its name with another
// configuration: its caller has lost the answer.
func TestSupersededContainer(t *testing.T) {
	n, _ := fresh(t)
	pod := run(t, n, runOf("pod"))
	create(t, n, createOf(pod.ID, "web"))
	other := createOf(pod.ID, "web")
	other.ID, other.ConfigDigest = "c-other", "another"
	if c := create(t, n, other); c.ID != other.ID {
		t.Errorf("got container %s", c.ID)
	}
	if _, err := n.Container(t.Context(), other.ID, container.Start{}, container.StartAnswer); err != nil {
		t.Fatal(err)
	}
	third := createOf(pod.ID, "web")
	third.ID, third.ConfigDigest = "c-third", "a third"
	_, err := n.CreateContainer(t.Context(), third)
	wantKind(t, err, fault.Exists)
}
