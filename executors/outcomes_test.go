package executors

import (
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/stele-runtime/stele/actors/container"
	"github.com/stele-runtime/stele/actors/fault"
	"github.com/stele-runtime/stele/actors/image"
	"github.com/stele-runtime/stele/actors/sandbox"
	"github.com/stele-runtime/stele/executors/registry"
)

var errBroken = errors.New("it is broken")

// The outcome of an effect that ended without one is of the effect's own kind,
// belongs to it, and says why.
func TestFailedOutcomes(t *testing.T) {
	x := New(Config{})
	deadline := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	var outcomes []any
	var effects []any
	for _, f := range []sandbox.Effect{
		sandbox.PrepareSandbox{}, sandbox.AttachNetwork{}, sandbox.StartHolder{}, sandbox.StopContainer{Container: "c"},
		sandbox.RemoveContainer{Container: "c"}, sandbox.StopHolder{}, sandbox.DetachNetwork{}, sandbox.ReleaseSandbox{},
	} {
		effects, outcomes = append(effects, f), append(outcomes, x.SandboxFailed(f, errBroken))
	}
	for _, f := range []container.Effect{
		container.PrepareRootfs{}, container.CreateRuntime{}, container.StartRuntime{}, container.SignalStop{}, container.AwaitGrace{Deadline: deadline},
		container.Kill{}, container.Execute{Exec: "x"}, container.RotateLog{Reopen: 7}, container.DeleteRuntime{}, container.ReleaseRootfs{},
	} {
		effects, outcomes = append(effects, f), append(outcomes, x.ContainerFailed(f, errBroken))
	}
	for _, f := range []image.Effect{image.FetchImage{Pull: "p"}, image.DeleteImage{}, image.LoadImages{Load: "l"}} {
		effects, outcomes = append(effects, f), append(outcomes, x.ImageFailed(f, errBroken))
	}
	for i, f := range effects {
		effect, outcome := reflect.ValueOf(f), reflect.ValueOf(outcomes[i])
		if want := effect.Type().Name() + "Done"; outcome.Type().Name() != want {
			t.Errorf("%T ended as %T", f, outcomes[i])
			continue
		}
		if err := outcome.FieldByName("Err"); err.IsValid() && err.Interface() != any(errBroken) {
			t.Errorf("%T lost its cause: %+v", f, outcomes[i])
		}
		for _, field := range []string{"Container", "Exec", "Reopen", "Pull", "Deadline"} {
			if own := effect.FieldByName(field); own.IsValid() && !reflect.DeepEqual(outcome.FieldByName(field).Interface(), own.Interface()) {
				t.Errorf("%T is not the outcome of %+v", outcomes[i], f)
			}
		}
		if at := outcome.FieldByName("At"); at.IsValid() && at.IsZero() {
			t.Errorf("%T has no time, and a machine has no clock to retry by", outcomes[i])
		}
	}
}

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

func TestPullFault(t *testing.T) {
	for cause, kind := range map[error]fault.Kind{
		registry.ErrInvalidReference: fault.Invalid, registry.ErrNotFound: fault.NotFound, registry.ErrUnauthorized: fault.Unauthorized,
		registry.ErrRateLimited: fault.RateLimited, registry.ErrPolicy: fault.SignatureRefused, registry.ErrUnavailable: fault.Unavailable,
		registry.ErrUnsupportedPlatform: fault.Precondition, errBroken: fault.Internal,
	} {
		err := RegistryFault("pull image", "web:1", fmt.Errorf("pull: %w: because", cause))
		if fault.KindOf(err) != kind || !strings.Contains(err.Error(), "because") {
			t.Errorf("%v becomes %v", cause, err)
		}
	}
}
