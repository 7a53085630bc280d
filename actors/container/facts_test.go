package container_test

import (
	"reflect"

	"github.com/stele-runtime/stele/actors/container"
	"github.com/stele-runtime/stele/actors/machinetest"
)

// retold checks that a state can be had again without its events.
func retold(t machinetest.TB, w *walk) {
	t.Helper()
	var got container.State
	for _, e := range container.Facts(w.Life.State) {
		got = container.Evolve(got, e)
	}
	want := w.Life.State
	want.Execs, want.Retries, got.Retries = nil, nil, nil
	if normal := plain(want); !reflect.DeepEqual(plain(got), normal) {
		t.Fatalf("the facts of a state lead to\n%+v\nwant\n%+v\n%s", plain(got), normal, w.Life.History())
	}
	gone := w.Life.State
	for _, e := range container.Vanished(gone) {
		gone = container.Evolve(gone, e)
	}
	if !container.Ended(gone) {
		t.Fatalf("what vanished is %s and owes %v\n%s", gone.Phase, container.Owed(gone), w.Life.History())
	}
}

// plain has no difference between empty and absent.
func plain(s container.State) container.State {
	if len(s.Stopping.Requests) == 0 {
		s.Stopping.Requests = nil
	}
	if len(s.Resources.InForce) == 0 {
		s.Resources.InForce = nil
	}
	return s
}
