package daemon

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stele-runtime/stele/actors/container"
	"github.com/stele-runtime/stele/actors/entity"
	"github.com/stele-runtime/stele/actors/host"
	"github.com/stele-runtime/stele/actors/id"
	"github.com/stele-runtime/stele/actors/sandbox"
	"github.com/stele-runtime/stele/eventlog"
)

// booting is a boot with fakes around it: a daemon with containers that are alive and
// gone, sandboxes with and without a holder, and damaged streams.
func booting(bootID string) (*Boot, *trace, *doer, *watcher) {
	past := entity.Past{
		Sandboxes: map[id.Sandbox]entity.Restored[sandbox.State]{
			"pod":      {State: sandbox.State{ID: "pod", Holder: sandbox.Holder{PID: 7}}},
			"host-net": {State: sandbox.State{ID: "host-net", HostNetwork: true}},
			"detached": {State: sandbox.State{ID: "detached", Network: sandbox.Network{Detached: true}, Holder: sandbox.Holder{PID: 8, Exited: true}}},
		},
		Containers: map[id.Container]entity.Restored[container.State]{
			"alive": {State: container.State{ID: "alive", Phase: container.Running, Creation: container.Creation{Process: container.Process{PID: 9}}}},
			"dead":  {State: container.State{ID: "dead", Phase: container.Exited}},
		},
	}
	past.Host.State.BootID = "before"
	t := &trace{}
	do, watch := &doer{trace: t}, &watcher{trace: t}
	b := &Boot{
		Actors: &actors{trace: t}, Monitor: watch, Executor: do, Network: do,
		Views: &views{past: past, damaged: map[eventlog.Stream]string{"sandbox/torn": "torn"}},
		Start: host.StartDaemon{BootID: bootID}, Logger: quiet,
	}
	return b, t, do, watch
}

const (
	portsCollected = "collect host ports: removed [stray]"
	networksKept   = "collect networks but [pod torn], bounded true"
	booted         = " with 2 containers"
	quarantined    = "record host.ReportQuarantine"
	unknownExit    = ", pid 0: -1 the daemon and the monitor were both gone"
)

// What should run but is not watched is killed, and its exit recorded.
func TestBootEndsWhatIsLost(t *testing.T) {
	b, asked, _, _ := booting("before")
	if err := b.Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	asked.expect(t, "list", portsCollected, networksKept, "boot before"+booted, quarantined,
		"kill container alive", "exited alive"+unknownExit, "kill holder of pod", "exited pod"+unknownExit)
}

// An exit is recorded only after the kill: it allows the kubelet to start another
// instance.
func TestLostProcessIsKilledBeforeItsExitIsRecorded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, asked, do, watch := booting("before")
		watch.list = []string{"pod"}
		do.kill = errors.New("the runtime is gone")
		b.Actors.(*actors).exited = func(try int) error {
			if try == 1 {
				return errors.New("the log is full")
			}
			return nil
		}
		if err := b.Run(t.Context()); err != nil {
			t.Fatal(err)
		}
		background := NewBackground(quiet)
		background.Go("lost", b.FollowLost)
		time.Sleep(lostRetry + time.Second)
		synctest.Wait()
		const kill = "kill container alive"
		asked.expect(t, "list", portsCollected, networksKept, "boot before"+booted, quarantined, kill, kill)
		do.setKill(nil)
		time.Sleep(time.Hour)
		background.End()
		exited := "exited alive" + unknownExit
		asked.expect(t, "list", portsCollected, networksKept, "boot before"+booted, quarantined, kill, kill, kill, exited, kill, exited)
	})
}

// What the monitor watches is left alone.
func TestBootLeavesWhatIsWatched(t *testing.T) {
	b, asked, _, watch := booting("before")
	watch.list = []string{"alive", "pod"}
	if err := b.Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	asked.expect(t, "list", portsCollected, networksKept, "boot before"+booted, quarantined)
}

// After a reboot no process can be lost, but files may have come back. Those of a
// container with a damaged stream stay.
func TestBootAfterReboot(t *testing.T) {
	b, asked, _, _ := booting("now")
	b.Views.(*views).damaged["container/broken"] = "broken"
	delete(b.Views.(*views).damaged, "sandbox/torn")
	if err := b.Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	asked.expect(t, "list", portsCollected, "collect networks but [pod], bounded true", "collect containers: removed [stray]", "boot now"+booted, quarantined)
}

// Without an answer from the monitor nothing is taken for lost.
func TestBootWithoutMonitor(t *testing.T) {
	b, asked, _, watch := booting("before")
	watch.err = errors.New("gone")
	if err := b.Run(t.Context()); err == nil || err.Error() != "ask the monitor what it watches: gone" {
		t.Errorf("the boot ended with %v", err)
	}
	asked.expect(t, "list")
}

// Garbage that cannot be collected, or a report that is not recorded, ends no boot.
func TestBootGoesOn(t *testing.T) {
	b, asked, do, _ := booting("now")
	do.gc, do.collect = errors.New("no plugin"), errors.New("no disk")
	b.Actors.(*actors).host = errors.New("no log")
	if err := b.Run(t.Context()); err != nil {
		t.Error(err)
	}
	if got := asked.all(); got[len(got)-1] != quarantined {
		t.Errorf("asked %q", got)
	}
}

func TestBootID(t *testing.T) {
	if b, err := BootID(); err != nil || len(b) != 36 {
		t.Errorf("the boot id is %q, %v", b, err)
	}
}
