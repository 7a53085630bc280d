package kubelet

import (
	core "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// often makes a probe that fails at once.
func often(handler core.ProbeHandler) *core.Probe {
	return &core.Probe{ProbeHandler: handler, PeriodSeconds: 1, FailureThreshold: 1, TimeoutSeconds: 20}
}

func liveness(n *node) {
	main := n.shell("main", "touch /tmp/live; while :; do sleep 1; done")
	main.LivenessProbe = often(core.ProbeHandler{Exec: &core.ExecAction{Command: []string{"cat", "/tmp/live"}}})
	main.LivenessProbe.InitialDelaySeconds = 1
	p := n.runReady(manifest("liveness", main))
	same(n.t, "restarts of a live container", container(p.status(), "main").RestartCount, 0)
	p.exec("main", "rm", "/tmp/live")
	p.wait("is restarted by its liveness probe", func(s core.PodStatus) bool {
		c := container(s, "main")
		return c.RestartCount == 1 && c.State.Running != nil && c.LastTerminationState.Terminated != nil
	})
}

// execTimeout: a probe that takes too long counts as failed.
func execTimeout(n *node) {
	main := n.shell("main", "while :; do sleep 1; done")
	main.LivenessProbe = often(core.ProbeHandler{Exec: &core.ExecAction{Command: []string{"sleep", "3600"}}})
	main.LivenessProbe.TimeoutSeconds = 1
	n.write(manifest("probe-timeout", main)).wait("is restarted by its slow liveness probe", func(s core.PodStatus) bool {
		return container(s, "main").RestartCount >= 1
	})
}

func readiness(n *node) {
	web := n.shell("web", "mkdir /www; exec httpd -f -p 8080 -h /www")
	web.ReadinessProbe = often(core.ProbeHandler{HTTPGet: &core.HTTPGetAction{Path: "/ready", Port: intstr.FromInt32(8080)}})
	tcp := n.shell("tcp", "until [ -e /tmp/listen ]; do sleep 0.1; done; exec httpd -f -p 9090")
	tcp.ReadinessProbe = often(core.ProbeHandler{TCPSocket: &core.TCPSocketAction{Port: intstr.FromInt32(9090)}})
	p := n.run(manifest("readiness", web, tcp))
	is := func(what string, web, tcp bool) {
		n.t.Helper()
		p.wait(what, func(s core.PodStatus) bool {
			return container(s, "web").Ready == web && container(s, "tcp").Ready == tcp && ready(s) == (web && tcp) &&
				container(s, "web").State.Running != nil && container(s, "tcp").State.Running != nil
		})
	}
	is("is not ready", false, false)
	p.exec("web", "sh", "-c", "until [ -d /www ]; do sleep 0.1; done; touch /www/ready")
	is("has a web server that is ready", true, false)
	p.exec("tcp", "touch", "/tmp/listen")
	is("is ready", true, true)
	p.exec("web", "rm", "/www/ready")
	is("has a web server that is not ready any more", false, true)
	for _, name := range []string{"web", "tcp"} {
		same(n.t, "restarts of "+name, container(p.status(), name).RestartCount, 0)
	}
}

func startup(n *node) {
	service := "startup"
	main := core.Container{Name: "main", Image: n.health, ImagePullPolicy: core.PullIfNotPresent, Args: []string{":7070", "/share/started"}}
	main.StartupProbe = often(core.ProbeHandler{GRPC: &core.GRPCAction{Port: 7070, Service: &service}})
	main.StartupProbe.FailureThreshold = 600
	other := n.shell("other", "while :; do sleep 1; done")
	_, volume := n.share("startup", &main, &other)
	m := manifest("startup", main, other)
	m.Spec.Volumes = []core.Volume{volume}
	p := n.run(m)
	status := p.wait("runs and has not started", func(s core.PodStatus) bool { return container(s, "main").State.Running != nil })
	if started := container(status, "main").Started; started == nil || *started {
		n.t.Errorf("started is %v before its probe succeeds", started)
	}
	p.exec("other", "touch", "/share/started")
	p.wait("has started", func(s core.PodStatus) bool {
		started := container(s, "main").Started
		return started != nil && *started && ready(s)
	})
}
