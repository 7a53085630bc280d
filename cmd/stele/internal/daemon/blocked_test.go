package daemon

import (
	"errors"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/stele-runtime/stele/actors/container"
	"github.com/stele-runtime/stele/actors/entity"
	"github.com/stele-runtime/stele/actors/fault"
	"github.com/stele-runtime/stele/actors/id"
	"github.com/stele-runtime/stele/actors/sandbox"
	"github.com/stele-runtime/stele/executors/monitor"
	"github.com/stele-runtime/stele/executors/syscalls"
)

// swapoff is a report of calls, by both conventions, of one that has no name, and of others.
func swapoff(of string, count uint64, stop bool) monitor.Blocked {
	call := func(arch syscalls.Arch, number int32) monitor.BlockedCall {
		return monitor.BlockedCall{Syscall: monitor.Syscall{Arch: uint32(arch), Number: number}, Count: count}
	}
	return monitor.Blocked{
		ContainerID: of, Stop: stop, Others: 5,
		Calls: []monitor.BlockedCall{call(syscalls.AMD64, 168), call(syscalls.AMD64, 9999), call(syscalls.I386, 115)},
	}
}

const wasBlocked = ": {Calls:[{Name:swapoff Count:2} {Name:syscall 9999 Count:1} {Name: Count:5}] Stop:false}"

func TestBlocked(t *testing.T) {
	for name, tc := range map[string]struct {
		err   error
		tries int
	}{
		"recorded": {nil, 1}, "the container is gone": {fault.New(fault.NotFound, "", "", "gone"), 1},
		"a broken stream": {errors.New("panic"), recordTries},
	} {
		t.Run(name, func(t *testing.T) {
			asked := &trace{}
			x := Blocked{
				Monitor: &watcher{trace: asked, blocked: []monitor.Blocked{swapoff("a", 1, false), swapoff("b", 1, false)}},
				Actors:  &actors{trace: asked, container: tc.err}, Views: &views{}, Logger: quiet,
			}
			following(t, x.Follow, func() {
				var want []string
				for _, of := range []string{"a", "b"} {
					for range tc.tries {
						want = append(want, of+wasBlocked)
					}
				}
				asked.expect(t, want...)
			})
		})
	}
}

// What the log refuses is tried until it takes it: a container's end may depend on it.
func TestBlockedIsNotDropped(t *testing.T) {
	asked := &trace{}
	x := Blocked{
		Monitor: &watcher{trace: asked, blocked: []monitor.Blocked{swapoff("a", 1, false), swapoff("b", 1, false)}},
		Actors:  &actors{trace: asked, container: fault.New(fault.Unavailable, "", "", "full")}, Views: &views{}, Logger: quiet,
	}
	following(t, x.Follow, func() {
		for _, line := range asked.all() {
			if line != "a"+wasBlocked {
				t.Errorf("recorded: %s", line)
			}
		}
		if len(asked.all()) < recordTries {
			t.Errorf("tried only %d times", len(asked.all()))
		}
	})
}

func TestBlockedMetrics(t *testing.T) {
	views := &views{past: entity.Past{
		Sandboxes: map[id.Sandbox]entity.Restored[sandbox.State]{
			"p": {State: sandbox.State{ID: "p", Name: sandbox.Name{Name: "web", Namespace: "shop", UID: "u1"}}},
		},
		Containers: map[id.Container]entity.Restored[container.State]{
			"a":    {State: container.State{ID: "a", Sandbox: "p", Name: container.Name{Name: "c", Attempt: 2}}},
			"twin": {State: container.State{ID: "twin", Sandbox: "p", Name: container.Name{Name: "c", Attempt: 2}}},
			"lost": {State: container.State{ID: "lost", Sandbox: "q", Name: container.Name{Name: "d"}}},
		},
	}}
	x := &Blocked{Views: views}
	for of, count := range map[id.Container]uint64{"a": 3, "twin": 4, "lost": 5, "gone": 6} {
		x.note(of, []container.BlockedSyscall{{Name: "swapoff", Count: count}, {Count: 1}})
	}
	registry := prometheus.NewRegistry()
	registry.MustRegister(x)
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]float64{}
	for _, family := range families {
		for _, m := range family.GetMetric() {
			labels := m.GetLabel()
			got[family.GetName()+" "+labels[0].GetValue()+" "+labels[1].GetValue()] = m.GetCounter().GetValue()
		}
	}
	const name = "container_runtime_crio_containers_seccomp_notifier_count_total "
	for series, want := range map[string]float64{
		"k8s_c_web_shop_u1_2 swapoff": 7, "k8s_c_web_shop_u1_2 others": 2, "k8s_d___0 swapoff": 5, "k8s_d___0 others": 1,
	} {
		if got[name+series] != want {
			t.Errorf("%s is %v, want %v", series, got[name+series], want)
		}
	}
	if len(got) != 4 {
		t.Errorf("the series are %v", got)
	}
	x.note("a", nil)
	if len(x.last) != 3 {
		t.Errorf("containers that are gone are remembered: %v", x.last)
	}
}
