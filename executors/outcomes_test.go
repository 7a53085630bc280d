package executors

import (
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"

	"github.com/stele-runtime/stele/actors/container"
	"github.com/stele-runtime/stele/actors/fault"
	"github.com/stele-runtime/stele/actors/sandbox"
	"github.com/stele-runtime/stele/executors/registry"
)

var errBroken = errors.New("it is broken")

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
