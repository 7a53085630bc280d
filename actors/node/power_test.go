package node_test

import (
	"testing"
	"time"

	"github.com/stele-runtime/stele/actors/container"
	"github.com/stele-runtime/stele/actors/id"
	"github.com/stele-runtime/stele/actors/image"
	"github.com/stele-runtime/stele/actors/sandbox"
	"github.com/stele-runtime/stele/eventlog/memlog"
)

// blackout takes from the log what no answer promised to outlive the boot, and starts a
// daemon in the next one.
func blackout(t *testing.T, d *drivers) *drivers {
	t.Helper()
	d = driversWith(t, memlog.PowerFailure(d.log, memlog.Options{BootID: "boot-2"}, d.log.Volatile()))
	booted(t, d, "boot-2")
	return d
}

// TestPowerFailure: when the node loses power right after an answer, what exists is known,
// and ends.
func TestPowerFailure(t *testing.T) {
	n, d := fresh(t)
	s := run(t, n, runOf("pod"))
	c := create(t, n, createOf(s.ID, "web"))
	if _, err := n.Container(t.Context(), c.ID, container.Start{}, container.StartAnswer); err != nil {
		t.Fatal(err)
	}
	other := create(t, n, createOf(s.ID, "other"))
	if d.log.Volatile() == 0 {
		t.Error("each step of a pod waits for the disk")
	}
	n.Close(t.Context())
	d = blackout(t, d)
	// The one whose program may have run says so. Of the other one, the request was synced
	// and nothing after it: it is undone, like a creation that was under way.
	eventually(t, func() bool {
		past := restore(t, d.log)
		_, there := past.Containers[other.ID]
		return !there && past.Containers[c.ID].State.Run.Exit.Unknown != "" && past.Sandboxes[s.ID].State.Phase == sandbox.Stopped
	})
	for _, undone := range []string{"c-other: delete", "c-other: release rootfs", "s-pod: detach network"} {
		if d.times(undone) == 0 {
			t.Errorf("not after the boot: %s", undone)
		}
	}
}

// A reported exit survives the power failure unchanged.
func TestPowerFailureAfterExit(t *testing.T) {
	n, d := fresh(t)
	s := run(t, n, runOf("pod"))
	c := create(t, n, createOf(s.ID, "web"))
	if err := n.Exited(t.Context(), string(c.ID), container.Process{}, container.Exit{Code: 3, At: time.Now()}); err != nil {
		t.Fatal(err)
	}
	n.Close(t.Context())
	d = blackout(t, d)
	if got := restore(t, d.log).Containers[c.ID].State; got.Run.Exit.Code != 3 || !got.Run.ExitSeen {
		t.Errorf("it ended with 3, and is %s with %+v", got.Phase, got.Run.Exit)
	}
}

// What was removed may be listed again, and is removed again.
func TestPowerFailureAfterRemoval(t *testing.T) {
	n, d := fresh(t)
	s := run(t, n, runOf("pod"))
	create(t, n, createOf(s.ID, "web"))
	stop(t, n, s.ID)
	remove(t, n, s.ID)
	n.Close(t.Context())
	d = blackout(t, d)
	eventually(t, func() bool { return restore(t, d.log).Sandboxes[s.ID].State.Phase == sandbox.Stopped })
	remove(t, d.node, s.ID)
	if past := restore(t, d.log); len(past.Sandboxes)+len(past.Containers) > 0 {
		t.Errorf("left: %+v", past)
	}
}

// Nothing about images is lost.
func TestPowerFailureAfterPull(t *testing.T) {
	n, d := fresh(t)
	pull := id.Pull("p")
	if _, err := n.Image(t.Context(), "ref", image.RequestPull{Ref: "ref", Pull: pull}, image.PullAnswer(pull)); err != nil {
		t.Fatal(err)
	}
	if lost := d.log.Volatile(); lost > 0 {
		t.Errorf("%d appends of an image or the node itself are volatile", lost)
	}
}
