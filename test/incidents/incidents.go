package incidents

import (
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/stele-runtime/stele/actors/container"
	"github.com/stele-runtime/stele/actors/fault"
	"github.com/stele-runtime/stele/actors/host"
	"github.com/stele-runtime/stele/actors/id"
	"github.com/stele-runtime/stele/actors/sandbox"
	"github.com/stele-runtime/stele/timeline"
)

// Incident is a log, and the name of the pod that it is about; empty for the whole node.
type Incident struct {
	Name, Pod string
	Records   []timeline.Record
}

// All are the incidents, but for the busy node.
func All() []Incident {
	return []Incident{
		{"oom", "shop/web", OutOfMemory()},
		{"network", "shop/web", Network()},
		{"reboot", "shop/web", Reboot()},
		{"pull", "shop/web", SlowPull()},
		{"hostile", "", Hostile()},
		{"node", "", Node(600)},
		{"quiet", "", quiet()},
	}
}

var (
	web     = sandbox.Name{Name: "web", Namespace: "shop", UID: "6f2c"}
	webPod  = id.Sandbox(hexID("a", 1))
	proxied = container.Name{Name: "proxy"}
)

const webImage, proxyImage = "registry.example/shop/web:v1.8.2", "registry.example/mesh/proxy:v3"

// OutOfMemory is a crash loop: each attempt runs out of memory, while a sidecar runs and the
// daemon is killed once.
func OutOfMemory() []timeline.Record {
	s := begin()
	s.ready(webPod, web, "10.86.0.2")
	s.pull(webImage, 3, 1900*ms)
	s.start(webPod, id.Container(hexID("e", 0)), proxied, proxyImage, 128<<20)
	for i, pause := range []time.Duration{1200 * ms, 3 * time.Second, 6 * time.Second, 12 * time.Second, 0} {
		c := id.Container(hexID("c", i))
		s.start(webPod, c, container.Name{Name: "web", Attempt: uint32(i)}, webImage, 64<<20)
		s.exit(2300*ms+time.Duration(i)*170*ms, c, container.Exit{Code: 137, Signal: 9, OOMKilled: true, MemoryPeak: 64 << 20, MemoryLimit: 64 << 20})
		if i == 2 {
			s.node(pause/2, host.DaemonStarted{BootID: s.boot, Version: "1.4.1", PID: 5120, Crashed: true, At: s.at(pause / 2)})
			pause /= 2
		}
		s.now += pause
		if i < 4 {
			s.remove(webPod, c)
		}
	}
	return s.records
}

// Network is a pod whose network cannot be attached, nor detached again.
func Network() []timeline.Record {
	s := begin()
	s.requested(webPod, web)
	s.pod(12*ms, webPod, sandbox.SandboxPrepared{})
	s.pod(900*ms, webPod, sandbox.NetworkAttachFailed{Fault: fault.Fault{Op: "attach network", Kind: fault.Internal, Reason: "plugin bridge: no address left in 10.86.0.0/24"}})
	for i := range 4 {
		after := time.Second << i
		s.pod(after, webPod, sandbox.NetworkDetachFailed{Fault: fault.Fault{Op: "detach network", Kind: fault.Internal, Reason: "plugin bridge: cannot lock /var/lib/cni/networks/pods/lock"}, RetryAt: s.at(3 * after)})
		if i == 0 {
			s.pod(10*ms, webPod, sandbox.SandboxReleased{})
			s.pod(0, webPod, sandbox.SandboxFailed{})
		}
	}
	return s.records
}

// Reboot is a pod on a node that rebooted, and its next sandbox.
func Reboot() []timeline.Record {
	s := begin()
	s.ready(webPod, web, "10.86.0.2")
	c := id.Container(hexID("c", 0))
	s.start(webPod, c, container.Name{Name: "web"}, webImage, 64<<20)
	s.boot = "boot-2"
	s.node(95*time.Second, host.NodeRebooted{Before: "boot-1", Now: "boot-2"})
	s.node(ms, host.DaemonStarted{BootID: s.boot, Version: "1.4.0", PID: 790, At: s.at(ms)})
	s.exit(ms, c, container.Unknown("the node was rebooted", s.at(ms)))
	s.pod(ms, webPod, sandbox.SandboxLost{Fault: fault.Fault{Op: "keep sandbox", Kind: fault.Interrupted, Reason: "the node was rebooted"}})
	s.pod(ms, webPod, sandbox.ContainerStopped{Container: c})
	s.pod(30*ms, webPod, sandbox.NetworkDetached{})
	s.pod(0, webPod, sandbox.SandboxStopped{})
	return s.records
}

// SlowPull is a start that waited for its image.
func SlowPull() []timeline.Record {
	s := begin()
	for i := range 4 {
		pod := id.Sandbox(hexID("b", i))
		s.ready(pod, sandbox.Name{Name: fmt.Sprintf("api-%d", i), Namespace: "shop", UID: fmt.Sprint(i)}, fmt.Sprintf("10.86.0.%d", 10+i))
		s.start(pod, id.Container(hexID("d", i)), container.Name{Name: "api"}, proxyImage, 0)
	}
	s.ready(webPod, web, "10.86.0.2")
	s.pull(webImage, 5, 41*time.Second)
	s.start(webPod, id.Container(hexID("c", 0)), container.Name{Name: "web"}, webImage, 64<<20)
	return s.records
}

// Script is what hostile names try to have run: it would leave a mark in the document.
const Script = `</script><script>document.documentElement.dataset.hit=1</script><img src=x onerror="document.documentElement.dataset.hit=1"><!--<script>`

// Hostile has markup, scripts, secrets and characters that turn the direction of writing in
// all texts that come from elsewhere.
func Hostile() []timeline.Record {
	s := begin()
	evil := Script + "\u202e\u0000\u2028{{.}}${1}`"
	s.ready(webPod, sandbox.Name{Name: "web" + evil, Namespace: "shop" + evil, UID: evil}, evil)
	c := id.Container(hexID("c", 0))
	s.start(webPod, c, container.Name{Name: "web" + evil}, "lab.test/"+evil, 64<<20)
	s.container(ms, c, container.OutputLost{Bytes: 9, Reason: evil})
	s.exit(time.Second, c, container.Exit{Code: 1, Note: evil + " https://me:hunter2@lab.test/x?hunter2"})
	s.node(time.Second, host.MonitorLost{Reason: evil})
	s.node(time.Second, host.NetworkUnconfigured{Problem: "\"'" + evil})
	s.pod(time.Second, webPod, sandbox.SandboxLost{Fault: fault.Fault{Op: evil, Kind: fault.Interrupted, Reason: evil}})
	s.pull(evil, 1, time.Second)
	return s.records
}

func quiet() []timeline.Record {
	s := begin()
	s.ready(webPod, web, "10.86.0.2")
	s.start(webPod, id.Container(hexID("c", 0)), container.Name{Name: "web"}, webImage, 64<<20)
	return s.records
}

var apps = []string{"web", "api", "cart", "search", "mail", "report", "login", "stock", "price", "audit"}

// Node is a node with at least that many events: pods come and go, some of them badly.
func Node(events int) []timeline.Record {
	s := begin()
	dice := rand.New(rand.NewPCG(1, 2))
	for n := 0; len(s.records) < events; n++ {
		s.onePod(dice, n)
		s.now += time.Duration(dice.IntN(4000)) * ms
		if n%60 == 17 {
			s.node(ms, host.MonitorLost{Reason: "signal: killed"})
			s.node(80*ms, host.MonitorStarted{Version: "1.4.0", PID: 900})
		}
		if n%90 == 40 {
			s.node(ms, host.DaemonStopped{})
			s.node(900*ms, host.DaemonStarted{BootID: s.boot, Version: "1.4.1", PID: 900 + n, At: s.at(900 * ms)})
		}
	}
	return s.records
}

// onePod is the life of a pod, or the part of it that fits.
func (s *story) onePod(dice *rand.Rand, n int) {
	app := apps[dice.IntN(len(apps))]
	pod := id.Sandbox(hexID("a", n))
	s.ready(pod, sandbox.Name{Name: fmt.Sprintf("%s-%04x", app, n*40503&0xffff), Namespace: "shop", UID: fmt.Sprint(n)}, fmt.Sprintf("10.86.%d.%d", n>>8&0xff, n&0xff))
	c := id.Container(hexID("c", n*10))
	s.start(pod, c, container.Name{Name: app}, "registry.example/shop/"+app+":v1", 64<<20)
	runs := time.Duration(500+dice.IntN(20000)) * ms
	switch fate := dice.IntN(20); {
	case fate == 0:
		s.exit(runs, c, container.Exit{Code: 137, Signal: 9, OOMKilled: true, MemoryPeak: 64 << 20, MemoryLimit: 64 << 20})
	case fate == 1:
		s.exit(runs, c, container.Exit{Code: 1})
	case fate < 8:
		s.exit(runs, c, container.Exit{})
		s.remove(pod, c)
		s.pod(ms, pod, sandbox.StopRequested{})
		s.pod(20*ms, pod, sandbox.NetworkDetached{})
		s.pod(0, pod, sandbox.SandboxStopped{})
		s.pod(time.Second, pod, sandbox.RemoveRequested{})
		s.pod(20*ms, pod, sandbox.SandboxReleased{})
		s.pod(0, pod, sandbox.SandboxRemoved{})
	case fate < 12:
		s.container(runs, c, container.StopRequested{Request: "r1", Deadline: s.at(runs + 10*time.Second)})
		s.container(ms, c, container.StopSignalled{})
		s.container(10*time.Second, c, container.KillRequested{By: container.ByCall, GraceOver: true})
		s.container(5*ms, c, container.Killed{})
		s.exit(5*ms, c, container.Exit{Code: 137, Signal: 9})
	}
}
