package executors

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stele-runtime/stele/actors/fault"
	"github.com/stele-runtime/stele/executors/oci"
)

// A program that is installed, replaced, broken or removed is noticed at the next look; one that
// did not change is asked again only when its answer is old.
func TestHandlerIsWatched(t *testing.T) {
	program := filepath.Join(t.TempDir(), "runtime")
	write := func(content string) {
		t.Helper()
		// By another file, as packages do.
		if err := os.WriteFile(program+".new", []byte(content), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(program+".new", program); err != nil {
			t.Fatal(err)
		}
	}
	questions, broken := 0, errors.New("broken")
	h := NewHandler(program, func(context.Context) (*oci.Driver, error) {
		questions++
		content, err := os.ReadFile(program)
		if err == nil && strings.Contains(string(content), "broken") {
			err = broken
		}
		if err != nil {
			return nil, err
		}
		return &oci.Driver{}, nil
	})
	var told []error
	h.Changed = func(problem error) { told = append(told, problem) }
	all := Handlers{"x": h}
	if err := all.Usable("x"); fault.KindOf(err) != fault.Unavailable || !strings.Contains(err.Error(), "not been asked yet") {
		t.Errorf("before the first answer: %v", err)
	}
	var last asked
	steps := []struct {
		what      string
		do        func()
		questions int
		problem   error
		told      int
	}{
		{"missing", func() {}, 1, os.ErrNotExist, 1},
		{"still missing", func() {}, 2, os.ErrNotExist, 1},
		{"installed", func() { write("good") }, 3, nil, 2},
		{"unchanged", func() {}, 3, nil, 2},
		{"unchanged for long", func() { last.at = last.at.Add(-askEvery) }, 4, nil, 2},
		{"replaced by one that is broken", func() { write("broken") }, 5, broken, 3},
		{"repaired", func() { write("good again") }, 6, nil, 4},
		{"removed", func() { _ = os.Remove(program) }, 7, os.ErrNotExist, 5},
	}
	var driver *oci.Driver
	for _, s := range steps {
		s.do()
		last = h.look(t.Context(), last)
		if questions != s.questions || !errors.Is(h.Usable(), s.problem) || len(told) != s.told {
			t.Errorf("%s: asked %d times, %v, told %v", s.what, questions, h.Usable(), told)
		}
		if err := all.Usable("x"); (err == nil) != (s.problem == nil) {
			t.Errorf("%s: %v", s.what, err)
		}
		if s.problem == nil {
			driver, _ = h.Driver()
		}
	}
	// What runs can still be ended; nothing new is made.
	if got, err := all.driver("x"); err != nil || got != driver || driver == nil {
		t.Errorf("the driver of what runs: %v, %v", got, err)
	}
	drivers := Drivers{Handlers: all}
	if _, _, err := drivers.handler("x"); fault.KindOf(err) != fault.Unavailable {
		t.Errorf("the driver for what is new: %v", err)
	}
}

// A good program that fails once, on a busy node, stays usable.
func TestHandlerFailsOnce(t *testing.T) {
	var fails error
	h := NewHandler("true", func(context.Context) (*oci.Driver, error) { return &oci.Driver{}, fails })
	last := h.look(t.Context(), asked{})
	fails = context.DeadlineExceeded
	for _, usable := range []bool{true, false} {
		last.at = last.at.Add(-askEvery)
		last = h.look(t.Context(), last)
		if err := h.Usable(); (err == nil) != usable {
			t.Errorf("%v, want usable: %v", err, usable)
		}
	}
	fails = nil
	if last = h.look(t.Context(), last); h.Usable() != nil {
		t.Errorf("%v", h.Usable())
	}
}

// Nobody waits for a runtime that hangs but who needs its driver, and that until nobody asks it
// any more.
func TestHandlerHangs(t *testing.T) {
	hangs := make(chan struct{})
	h := NewHandler("true", func(ctx context.Context) (*oci.Driver, error) {
		close(hangs)
		<-ctx.Done()
		return nil, ctx.Err()
	})
	ctx, cancel := context.WithCancel(t.Context())
	following, needing := make(chan struct{}), make(chan error, 1)
	go func() { h.Follow(ctx); close(following) }()
	go func() { _, err := h.Driver(); needing <- err }()
	<-hangs
	if err := h.Usable(); !errors.Is(err, errNotAsked) {
		t.Errorf("%v", err)
	}
	if h.Features() != nil {
		t.Error("it has features")
	}
	select {
	case err := <-needing:
		t.Errorf("a driver: %v", err)
	default:
	}
	cancel()
	<-following
	if err := <-needing; !errors.Is(err, errUnwatched) {
		t.Errorf("%v", err)
	}
}
