package executors

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"

	"github.com/stele-runtime/stele/actors/container"
	"github.com/stele-runtime/stele/actors/fault"
	"github.com/stele-runtime/stele/actors/image"
	"github.com/stele-runtime/stele/actors/sandbox"
	"github.com/stele-runtime/stele/executors/handover"
)

// The effects on a pod's containers are commands to them and not for drivers.
func TestEffectsOnContainersAreNotForDrivers(t *testing.T) {
	done := New(Config{}).Sandbox(t.Context(), sandbox.StopContainer{Container: "c"}).(sandbox.StopContainerDone)
	if done.Err == nil || done.Container != "c" {
		t.Errorf("the outcome is %+v", done)
	}
}

// A handler can go from the configuration while a pod of it lives.
func TestHandlerGone(t *testing.T) {
	x := New(Config{})
	spec := container.Spec{ID: "c", Handler: "gone"}
	for _, c := range []container.Command{
		x.Container(t.Context(), container.StartRuntime{Spec: spec}),
		x.Container(t.Context(), container.Kill{Spec: spec}),
		x.Container(t.Context(), container.DeleteRuntime{Spec: spec}),
		x.Container(t.Context(), container.SignalStop{Spec: spec, Signal: "SIGTERM"}),
	} {
		err, _ := reflect.ValueOf(c).FieldByName("Err").Interface().(error)
		if fault.KindOf(err) != fault.Unavailable || !strings.Contains(fmt.Sprint(err), "runtime_handler") {
			t.Errorf("%T: %v", c, err)
		}
	}
}

// A pull that another daemon began has no credentials here and is not made.
func TestFetchImageInterrupted(t *testing.T) {
	x := New(Config{Credentials: handover.NewCredentials()})
	done, is := x.Image(t.Context(), image.FetchImage{Ref: "web:1", Pull: "p"}).(image.FetchImageDone)
	if !is || done.Pull != "p" || fault.KindOf(done.Err) != fault.Interrupted {
		t.Errorf("the outcome is %+v", done)
	}
}

// A command for which nobody waits is not run.
func TestExecuteInterrupted(t *testing.T) {
	x := New(Config{Execs: handover.NewExecs()})
	done, is := x.Container(t.Context(), container.Execute{Exec: "x"}).(container.ExecuteDone)
	if !is || done.Exec != "x" || fault.KindOf(done.Err) != fault.Interrupted {
		t.Errorf("the outcome is %+v", done)
	}
}

// That a command's caller has gone does not hide what else went wrong.
func TestInterrupted(t *testing.T) {
	without, cancel := context.WithCancel(t.Context())
	cancel()
	gone, cancelCause := context.WithCancelCause(t.Context())
	cancelCause(errors.New("the client has gone"))
	for _, c := range []struct {
		caller context.Context
		err    error
		want   string
	}{
		{without, context.Canceled, callerIsGone},
		{gone, fmt.Errorf("exec in container c: %w", context.Canceled), "the client has gone"},
		{gone, fault.New(fault.Internal, execIn, "c", "%s", context.Canceled), "the client has gone"},
		{gone, errors.Join(context.Canceled, errors.New("process 7 is still there")), "the client has gone; process 7 is still there"},
		{gone, fault.New(fault.Unavailable, execIn, "c", "the monitor is lost"), "the client has gone; the monitor is lost"},
	} {
		got := fault.From(interrupted(container.Spec{ID: "c"}, c.caller, c.err), execIn, "c")
		if got.Kind != fault.Interrupted || got.Reason != c.want {
			t.Errorf("of %q the history has %+v, want %q", c.err, got, c.want)
		}
	}
}
