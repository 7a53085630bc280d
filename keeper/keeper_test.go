package keeper_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"google.golang.org/protobuf/proto"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/stele-runtime/stele/actors/container"
	"github.com/stele-runtime/stele/actors/host"
	"github.com/stele-runtime/stele/actors/id"
	"github.com/stele-runtime/stele/actors/image"
	"github.com/stele-runtime/stele/actors/sandbox"
	"github.com/stele-runtime/stele/eventlog"
	"github.com/stele-runtime/stele/keeper"
)

const day = 24 * time.Hour

// week keeps what ended for a week, whatever there is else.
func week() keeper.Limits {
	return keeper.Limits{Age: 7 * day, Bytes: 1 << 40, Settled: time.Hour}
}

func (n *town) want(when string, want ...string) {
	n.t.Helper()
	slices.Sort(want)
	if diff := cmp.Diff(want, n.streams()); diff != "" {
		n.t.Errorf("%s, the log has (-want +got):\n%s", when, diff)
	}
}

// A pod goes with its containers once its end is old enough. What lives stays.
func TestAge(t *testing.T) {
	n := newTown(t)
	n.begin("old")
	n.begin("lives")
	n.end("old")
	n.pass(6 * day)
	n.begin("young")
	n.end("young")
	n.keep(week())
	all := []string{"container/lives-c", "container/old-c", "container/young-c", "sandbox/lives", "sandbox/old", "sandbox/young"}
	n.want("after six days", all...)
	n.pass(day + time.Minute)
	before := n.opened().Live.Past()
	n.keep(week())
	n.want("after a week", "container/lives-c", "container/young-c", "sandbox/lives", "sandbox/young")
	if diff := cmp.Diff(before, n.opened().Live.Past(), cmpopts.EquateEmpty()); diff != "" {
		t.Errorf("a start gives other answers (-before +after):\n%s", diff)
	}
	usage, err := n.log.Usage(t.Context())
	if err != nil || usage.Removed[keeper.RuleAge] != 20 {
		t.Errorf("removed: %v (%v)", usage.Removed, err)
	}
}

// The newest pods stay however old they are, until others have ended.
func TestNewestPods(t *testing.T) {
	n := newTown(t)
	limits := week()
	limits.Pods = 2
	for _, pod := range []string{"a", "b", "c"} {
		n.begin(pod)
		n.end(pod)
	}
	n.pass(30 * day)
	n.keep(limits)
	n.want("of three old ones", "container/b-c", "container/c-c", "sandbox/b", "sandbox/c")
	n.begin("d")
	n.end("d")
	n.keep(limits) // A new daemon knows of those that were held.
	n.want("after another one", "container/c-c", "container/d-c", "sandbox/c", "sandbox/d")
	limits.Bytes = 1
	n.keep(limits)
	n.want("without room")
}

// A clock that jumps ahead makes nothing older, and neither does the time for which the node is off.
func TestClockJumps(t *testing.T) {
	n := newTown(t)
	n.begin("a")
	n.end("a")
	n.pass(3 * day)
	n.wall = n.wall.AddDate(1, 0, 0)
	n.keep(week())
	n.want("after a jump", "container/a-c", "sandbox/a")
	n.begin("b") // It says how long the boot has lasted.
	n.wall = n.wall.AddDate(1, 0, 0)
	n.reboot()
	n.pass(3 * day)
	n.wall = n.wall.AddDate(-2, 0, 0)
	n.keep(week())
	n.want("after six days in two boots", "container/a-c", "container/b-c", "sandbox/a", "sandbox/b")
	n.pass(day + time.Minute)
	n.keep(week())
	n.want("after seven days in two boots", "container/b-c", "sandbox/b")
}

// A pod whose network was not detached lives on after its removal.
func TestDebts(t *testing.T) {
	n := newTown(t)
	n.pod("a", sandbox.SandboxRequested{ID: "a"}, sandbox.SandboxPrepared{}, sandbox.NetworkAttached{}, sandbox.SandboxReady{},
		sandbox.StopRequested{}, sandbox.NetworkDetachFailed{}, sandbox.SandboxStopped{}, sandbox.RemoveRequested{}, sandbox.SandboxReleased{}, sandbox.SandboxRemoved{})
	n.pass(30 * day)
	n.keep(week())
	n.want("with a debt", "sandbox/a")
	n.pod("a", sandbox.NetworkDetached{})
	n.keep(week())
	n.want("young again", "sandbox/a")
	n.pass(8 * day)
	n.keep(week())
	n.want("old again")
}

// A container of a pod that lives goes by itself, and one that no pod knows, too.
func TestContainers(t *testing.T) {
	n := newTown(t)
	n.begin("a")
	n.endContainer("a", "a-c")
	n.beginContainer("a", "second")
	n.container("orphan", container.ContainerRequested{ID: "orphan", Sandbox: "none"}, container.RemoveRequested{}, container.RuntimeDeleted{}, container.RootfsReleased{}, container.ContainerRemoved{})
	n.pass(8 * day)
	n.keep(week())
	n.want("after a week", "container/second", "sandbox/a")
	// Its pod, which ends later, no longer names the first one; the second goes with it.
	if types := n.types("sandbox/a"); slices.Contains(types, "sandbox.ContainerForgotten.v1") {
		t.Errorf("the pod still has %v", types)
	}
	n.endContainer("a", "second")
	n.pass(6 * day)
	n.pod("a", sandbox.StopRequested{}, sandbox.SandboxStopped{}, sandbox.RemoveRequested{}, sandbox.SandboxReleased{}, sandbox.SandboxRemoved{})
	n.pass(2 * day)
	n.keep(week())
	n.want("while its pod is young", "container/second", "sandbox/a")
	n.pass(6 * day)
	n.keep(week())
	n.want("with its pod")
}

// Of what lives, the records that leave no trace are removed after an hour, whatever the daemon
// that does it has seen.
func TestSettled(t *testing.T) {
	n := newTown(t)
	n.begin("a")
	n.execs("a", 500)
	k := n.keep(week())
	n.pass(30 * time.Minute)
	n.execs("a", 500)
	n.container("a-c", container.ExecRequested{Exec: "open", Command: []string{"sleep"}})
	n.pass(31 * time.Minute)
	before := n.opened().Live.Past()
	n.settle(k)
	if types := n.types("container/a-c"); len(types) != 5+1001 {
		t.Errorf("after an hour there are %d records", len(types))
	}
	n.pass(time.Hour)
	n.keep(week())
	// The last one stays, although nothing follows.
	if types := n.types("container/a-c"); len(types) != 6 {
		t.Errorf("after two hours there are %v", types)
	}
	if diff := cmp.Diff(before, n.opened().Live.Past(), cmpopts.EquateEmpty()); diff != "" {
		t.Errorf("a start gives other answers (-before +after):\n%s", diff)
	}
	n.container("a-c", container.ExecEnded{Exec: "open"})
	n.pass(2 * time.Hour)
	n.keep(week())
	if types := n.types("container/a-c"); len(types) != 6 || types[5] != "container.ExecEnded.v1" {
		t.Errorf("the last record has to stay: %v", types)
	}
	n.container("a-c", container.LogReopenRequested{Reopen: 1})
	n.pass(2 * time.Hour)
	n.keep(week())
	if types := n.types("container/a-c"); len(types) != 6 || types[5] != "container.LogReopenRequested.v1" {
		t.Errorf("what follows lets it go: %v", types)
	}
}

// What the next start reads stays, and the states are saved so that it need not read it. Nothing
// else may happen on the node meanwhile.
func TestSettledBehindTheSavedStates(t *testing.T) {
	n := newTown(t)
	n.begin("a")
	n.execs("a", 500)
	middle := n.log.Last() - 500
	n.execs("a", 500)
	v := &saves{views: views{n.opened()}, at: middle}
	k := n.keeper(v, week())
	n.pass(2 * time.Hour)
	n.settle(k)
	if types := n.types("container/a-c"); len(types) != 5+1500 {
		t.Errorf("with states of the middle saved there are %d records", len(types))
	}
	n.pass(time.Minute)
	n.settle(k)
	if types := n.types("container/a-c"); len(types) != 6 {
		t.Errorf("after they were saved there are %d records", len(types))
	}
	if v.saved != 1 {
		t.Errorf("they were saved %d times", v.saved)
	}
}

// saves are views whose states are saved when the keeper asks for it.
type saves struct {
	views
	at    eventlog.Sequence
	saved int
}

func (s *saves) Saved(context.Context) (eventlog.Sequence, bool, error) { return s.at, true, nil }
func (s *saves) Save()                                                  { s.at, s.saved = s.Sequence(), s.saved+1 }

// The node's and the images' streams lose their beginning, and an image that is not used goes.
func TestNeverEnding(t *testing.T) {
	n := newTown(t)
	n.host(host.PodCIDRChanged{CIDR: "10.0.0.0/24"})
	for range 50 {
		n.host(host.NetworkConfigured{Network: "n"}, host.NetworkUnconfigured{})
	}
	used := func(i int) {
		n.image("used", image.PullRequested{Ref: "used", Pull: id.Pull(fmt.Sprint(i))}, image.ImagePulled{Pull: id.Pull(fmt.Sprint(i)), ImageID: "i"})
	}
	for i := range 50 {
		used(i)
	}
	n.image("idle", image.PullRequested{Ref: "idle", Pull: "p"}, image.PullFailed{Pull: "p"})
	n.pass(8 * day)
	used(50)
	n.image("busy", image.PullRequested{Ref: "busy", Pull: "p"})
	n.pass(8 * day)
	n.image("used", image.RemoveRequested{Ref: "used"})
	before := n.opened().Live.Past()
	n.keep(week())
	if diff := cmp.Diff(before, n.opened().Live.Past(), cmpopts.EquateEmpty()); diff != "" {
		t.Errorf("a start gives other answers (-before +after):\n%s", diff)
	}
	for stream, want := range map[eventlog.Stream]int{"node": 1, "image/used": 1, "image/busy": 1, "image/idle": 0} {
		if types := n.types(stream); len(types) != want {
			t.Errorf("%s has %d records, want %d", stream, len(types), want)
		}
	}
	n.at["image/idle"] = 0
	n.image("idle", image.PullRequested{Ref: "idle", Pull: "again"})
	if pulls := n.opened().Live.Pulls(); len(pulls) != 3 {
		t.Errorf("an image that was removed cannot be pulled again: %v", pulls)
	}
}

// For the size, what ended first goes first, however young; then what lives is thinned out, and
// nothing else of it is touched.
func TestSize(t *testing.T) {
	n := newTown(t)
	n.begin("lives")
	n.config, _ = proto.Marshal(&runtimeapi.PodSandboxConfig{Hostname: strings.Repeat("x", 1<<18)})
	for i := range 20 {
		pod := fmt.Sprintf("p%02d", i)
		n.begin(pod)
		n.end(pod)
	}
	usage, err := n.log.Usage(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	limits := week()
	limits.Pods, limits.Bytes = 100, (usage.RecordBytes*4/5+24<<20)*8/7
	n.keep(limits)
	left := n.streams()
	if slices.Contains(left, "sandbox/p00") || slices.Contains(left, "container/p00-c") || !slices.Contains(left, "sandbox/p19") || !slices.Contains(left, "sandbox/lives") {
		t.Errorf("the log has %v", left)
	}
	n.execs("lives", 100)
	before := n.opened().Live.Past()
	limits.Bytes = 1
	k := n.keep(limits)
	n.want("without room", "container/lives-c", "sandbox/lives")
	if !k.Stats().TooLarge {
		t.Error("it is not reported that what lives is too large")
	}
	if types := n.types("container/lives-c"); len(types) != 6 {
		t.Errorf("what lives has %v", types)
	}
	if diff := cmp.Diff(before, n.opened().Live.Past(), cmpopts.EquateEmpty()); diff != "" {
		t.Errorf("a start gives other answers (-before +after):\n%s", diff)
	}
	if len(n.opened().History.Ended()) > 0 {
		t.Error("what is gone is remembered")
	}
}

// A stream that could not be read goes once nothing is left of what it was about, and the node's
// record of that is old.
func TestClosedStream(t *testing.T) {
	n := newTown(t)
	n.begin("a")
	n.pod("a", sandbox.SandboxRequested{ID: "other"}) // it cannot be followed
	n.host(host.StreamClosed{Stream: "sandbox/a"})
	n.container("a-c", container.ContainerExited{}, container.RemoveRequested{}, container.RuntimeDeleted{}, container.RootfsReleased{}, container.ContainerRemoved{})
	n.pass(8 * day)
	n.keep(week())
	n.want("after a week")
}

// What was removed is reported with the rule.
func TestOnRecord(t *testing.T) {
	n := newTown(t)
	n.begin("a")
	n.execs("a", 10)
	n.container("a-c", container.LogReopenRequested{Reopen: 1})
	n.pass(2 * time.Hour)
	n.keep(week())
	for _, err := range n.log.ReadStream(t.Context(), "container/a-c", 1) {
		gap, is := errors.AsType[*eventlog.GapError](err)
		if err != nil && (!is || gap.From != 6 || gap.Through != 25 || gap.Rules[keeper.RuleSettled] != 20) {
			t.Errorf("%v", err)
		}
		if is {
			return
		}
	}
	t.Error("nothing is reported")
}
