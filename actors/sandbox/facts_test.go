package sandbox_test

import (
	"reflect"

	"github.com/stele-runtime/stele/actors/machinetest"
	"github.com/stele-runtime/stele/actors/sandbox"
)

// retold checks that a state can be had again without its events.
func retold(t machinetest.TB, w *walk) {
	t.Helper()
	var got sandbox.State
	for _, e := range sandbox.Facts(w.Life.State) {
		got = sandbox.Evolve(got, e)
	}
	want := w.Life.State
	for _, s := range []*sandbox.State{&want, &got} {
		s.Retries = nil
		if len(s.Containers) == 0 {
			s.Containers = nil
		}
	}
	if !reflect.DeepEqual(got, want) {
		t.Fatalf("the facts of a state lead to\n%+v\nwant\n%+v\n%s", got, want, w.Life.History())
	}
	gone := w.Life.State
	for _, e := range sandbox.Vanished(gone) {
		gone = sandbox.Evolve(gone, e)
	}
	if !sandbox.Ended(gone) {
		t.Fatalf("what vanished is %s and owes %v\n%s", gone.Phase, sandbox.Owed(gone), w.Life.History())
	}
}
