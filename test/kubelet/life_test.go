package kubelet

import (
	"fmt"
	"io"
	"path/filepath"
	"strings"

	core "k8s.io/api/core/v1"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
)

func running(n *node) {
	p := n.runReady(manifest("running", n.tester("server", "serve", ":8080")))
	status := p.status()
	if subnet := fmt.Sprintf("10.85.%d.", n.Number); !strings.HasPrefix(status.PodIP, subnet) {
		n.t.Fatalf("the pod's address is %q, want one of %s0/24", status.PodIP, subnet)
	}
	body := n.web(status.PodIP + ":8080")
	if want := fmt.Sprintf(`"Hostname":"%s"`, p.name); !strings.Contains(body, want) {
		n.t.Errorf("%s answers %s, want %s", status.PodIP, body, want)
	}
	server := container(status, "server")
	same(n.t, "restarts", server.RestartCount, 0)
	same(n.t, "image", server.Image, n.Tester)
	if !strings.HasPrefix(server.ContainerID, "stele://") {
		n.t.Errorf("container id %q", server.ContainerID)
	}
	same(n.t, "QoS class", status.QOSClass, core.PodQOSBestEffort)
}

// web gets a page, as soon as somebody answers.
func (n *node) web(address string) string {
	n.t.Helper()
	var body []byte
	n.until(address+" answers", func() error {
		answer, err := client.Get("http://" + address + "/")
		if err != nil {
			return err
		}
		defer answer.Body.Close()
		body, err = io.ReadAll(answer.Body)
		return err
	})
	return string(body)
}

func restarts(n *node) {
	p := n.write(manifest("crashes", n.shell("crash", "echo life $(date +%s%N); exit 7")))
	status := p.wait("is in CrashLoopBackOff after two lives", func(s core.PodStatus) bool {
		c := container(s, "crash")
		return c.RestartCount >= 1 && c.State.Waiting != nil && c.State.Waiting.Reason == "CrashLoopBackOff"
	})
	last := container(status, "crash").LastTerminationState.Terminated
	if last == nil || last.ExitCode != 7 || last.Reason != "Error" {
		n.t.Errorf("the last life ended as %v, want exit code 7 and reason Error", last)
	}
	// One sandbox for all lives.
	same(n.t, "sandboxes", len(p.sandboxes()), 1)
}

func completes(n *node) {
	m := manifest("completes", n.shell("job", "exit 0"))
	m.Spec.RestartPolicy = core.RestartPolicyNever
	status := n.write(m).wait("has Succeeded", func(s core.PodStatus) bool { return s.Phase == core.PodSucceeded })
	done := container(status, "job").State.Terminated
	if done == nil || done.Reason != "Completed" || done.StartedAt.IsZero() || done.FinishedAt.Before(&done.StartedAt) {
		n.t.Errorf("it ended as %v, want Completed with its times", done)
	}
}

func hooks(n *node) {
	main := n.shell("main", `trap 'echo term >>/share/order; exit 0' TERM; echo main >>/share/order; while :; do sleep 0.1; done`)
	main.Lifecycle = &core.Lifecycle{
		PostStart: &core.LifecycleHandler{Exec: &core.ExecAction{Command: []string{"sh", "-c", "until grep -q main /share/order; do sleep 0.1; done; echo postStart >>/share/order"}}},
		PreStop:   &core.LifecycleHandler{Exec: &core.ExecAction{Command: []string{"sh", "-c", "sleep 1; echo preStop >>/share/order"}}},
	}
	dir, volume := n.share("hooks", &main)
	m := manifest("hooks", main)
	grace := int64(60)
	m.Spec.Volumes, m.Spec.TerminationGracePeriodSeconds = []core.Volume{volume}, &grace
	p := n.runReady(m)
	n.waitFile(filepath.Join(dir, "order"), "main\npostStart")
	p.delete()
	p.waitEnded()
	n.waitFile(filepath.Join(dir, "order"), "main\npostStart\npreStop\nterm")
}

func inOrder(n *node) {
	say := func(name string) core.Container {
		return n.shell(name, "sleep 0.5; echo "+name+" >>/share/order")
	}
	stay := func(name string) core.Container {
		return n.shell(name, "trap 'echo "+name+" ends >>/share/order; exit 0' TERM; echo "+name+" >>/share/order; while :; do sleep 0.1; done")
	}
	first, sidecar, second, main := say("first"), stay("sidecar"), say("second"), stay("main")
	always := core.ContainerRestartPolicyAlways
	sidecar.RestartPolicy = &always
	sidecar.StartupProbe = &core.Probe{
		ProbeHandler:  core.ProbeHandler{Exec: &core.ExecAction{Command: []string{"grep", "-q", "sidecar", "/share/order"}}},
		PeriodSeconds: 1, FailureThreshold: 60,
	}
	dir, volume := n.share("order", &first, &sidecar, &second, &main)
	m := manifest("order", main)
	grace := int64(60)
	m.Spec.InitContainers = []core.Container{first, sidecar, second}
	m.Spec.Volumes, m.Spec.TerminationGracePeriodSeconds = []core.Volume{volume}, &grace
	p := n.runReady(m)
	order := filepath.Join(dir, "order")
	n.waitFile(order, "first\nsidecar\nsecond\nmain")
	status := p.status()
	for _, name := range []string{"first", "second"} {
		if done := container(status, name).State.Terminated; done == nil || done.ExitCode != 0 {
			n.t.Errorf("init container %s is %v", name, container(status, name).State)
		}
	}
	if container(status, "sidecar").State.Running == nil {
		n.t.Errorf("the sidecar is %v", container(status, "sidecar").State)
	}
	p.delete()
	p.waitEnded()
	n.waitFile(order, "first\nsidecar\nsecond\nmain\nmain ends\nsidecar ends")
}

func gracefulDeletion(n *node) {
	main := n.shell("main", `trap 'sleep 2; echo done >/share/done; exit 5' TERM; echo ready; while :; do sleep 0.1; done`)
	dir, volume := n.share("graceful", &main)
	m := manifest("graceful", main)
	grace := int64(120)
	m.Spec.Volumes, m.Spec.TerminationGracePeriodSeconds = []core.Volume{volume}, &grace
	p := n.runReady(m)
	p.waitLog("main", "ready")
	id := p.containerID("main")
	ended := n.exits(id)
	p.delete()
	p.waitEnded()
	n.waitFile(filepath.Join(dir, "done"), "done")
	same(n.t, "exit code", <-ended, 5)
}

func graceZero(n *node) {
	m := manifest("zero", n.shell("main", `trap 'echo no' TERM; echo ready; while :; do sleep 0.1; done`))
	grace := int64(0)
	m.Spec.TerminationGracePeriodSeconds = &grace
	p := n.runReady(m)
	p.waitLog("main", "ready")
	ended := n.exits(p.containerID("main"))
	p.delete()
	p.waitEnded()
	same(n.t, "exit code", <-ended, 137)
}

// exits sends a container's exit code once it has ended. It subscribes to the events, as the
// kubelet may remove the container at once.
func (n *node) exits(id string) <-chan int32 {
	n.t.Helper()
	events, err := n.Runtime.GetContainerEvents(n.Context(), &cri.GetEventsRequest{})
	if err != nil {
		n.t.Fatal(err)
	}
	// Events come from now on only when the daemon has answered.
	if _, err := events.Header(); err != nil {
		n.t.Fatal(err)
	}
	code := make(chan int32, 1)
	go func() {
		defer close(code)
		for {
			event, err := events.Recv()
			if err != nil {
				return
			}
			for _, s := range event.GetContainersStatuses() {
				if s.GetId() == id && s.GetState() == cri.ContainerState_CONTAINER_EXITED {
					code <- s.GetExitCode()
					return
				}
			}
		}
	}()
	return code
}

func terminationMessages(n *node) {
	file := n.shell("file", "echo -n the file says so >/dev/termination-log; exit 3")
	fallback := n.shell("fallback", "echo the log says so; exit 4")
	fallback.TerminationMessagePolicy = core.TerminationMessageFallbackToLogsOnError
	m := manifest("messages", file, fallback)
	m.Spec.RestartPolicy = core.RestartPolicyNever
	status := n.write(m).wait("has Failed", func(s core.PodStatus) bool { return s.Phase == core.PodFailed })
	for name, want := range map[string]core.ContainerStateTerminated{
		"file": {ExitCode: 3, Message: "the file says so"}, "fallback": {ExitCode: 4, Message: "the log says so\n"},
	} {
		if got := container(status, name).State.Terminated; got == nil || got.ExitCode != want.ExitCode || got.Message != want.Message {
			n.t.Errorf("%s ended as %v, want code %d and message %q", name, got, want.ExitCode, want.Message)
		}
	}
}
