package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// tell tells the story on the terminal.
func tell(ctx context.Context, n *node, wait bool) error {
	headline("Start the daemon")
	if err := n.start(ctx); err != nil {
		return err
	}
	say("stele serve runs with pid %d, its socket is %s", n.pid(), n.socket)

	headline("Run a pod")
	p, err := n.runPod(ctx)
	if err != nil {
		return err
	}
	say("pod        %s", p.pod)
	say("container  %s, pid %d", p.container, p.pid)
	say("address    %s", p.ip)

	headline("Ask it over HTTP, and read its log")
	if err := p.visit(ctx); err != nil {
		return err
	}
	log, err := os.ReadFile(p.log)
	if err != nil {
		return err
	}
	show(p.log, string(log))

	headline("The pod's history so far")
	history, err := n.stele(ctx, "events", podName)
	if err != nil {
		return err
	}
	show("stele events "+podName, history)

	headline("Kill the daemon with SIGKILL, and start another")
	killed := n.pid()
	n.kill()
	say("pid %d is dead. Without a daemon the pod answers:", killed)
	if err := p.visit(ctx); err != nil {
		return err
	}
	if err := n.start(ctx); err != nil {
		return err
	}
	say("stele serve runs again, with pid %d. Its pod is the same:", n.pid())
	if err := n.compare(ctx, p); err != nil {
		return err
	}
	if err := p.visit(ctx); err != nil {
		return err
	}

	headline("Go on by yourself")
	endpoint := "unix://" + n.socket
	show("with the daemon's own commands", fmt.Sprintf(
		"bin/stele inspect %[1]s --listen %[2]s\nbin/stele inspect %[1]s --listen %[2]s -o html >demo.html\nbin/stele events  %[1]s --listen %[2]s\nbin/stele replay --step --listen %[2]s\ncurl http://%[3]s:8080/\n", podName, endpoint, p.ip))
	show("with crictl", fmt.Sprintf(
		"export CONTAINER_RUNTIME_ENDPOINT=%[1]s\ncrictl pods\ncrictl ps\ncrictl logs %[2]s\ncrictl inspectp %[3]s\n",
		endpoint, short(p.container), short(p.pod)))
	if wait {
		say("The pod serves until Ctrl-C, which leaves nothing behind.")
		<-ctx.Done()
	}
	return nil
}

// podName is how people name the demo's pod.
const podName = "demo/web"

// pod is the demo's pod.
type pod struct {
	pod, container, ip, log string
	pid                     int
}

// runPod pulls the image and runs the web server, as the kubelet would.
func (n *node) runPod(ctx context.Context) (*pod, error) {
	if _, err := n.images.PullImage(ctx, &runtimeapi.PullImageRequest{Image: &runtimeapi.ImageSpec{Image: n.image}}); err != nil {
		return nil, fmt.Errorf("pull %s: %w", n.image, err)
	}
	say("pulled     %s", n.image)
	sandbox := &runtimeapi.PodSandboxConfig{
		Metadata:     &runtimeapi.PodSandboxMetadata{Name: "web", Namespace: "demo", Uid: "demo-web-0"},
		Hostname:     "web",
		LogDirectory: n.logs,
		Labels:       map[string]string{"app": "web"},
		Linux: &runtimeapi.LinuxPodSandboxConfig{
			CgroupParent: n.cgroupParent,
			SecurityContext: &runtimeapi.LinuxSandboxSecurityContext{
				NamespaceOptions: &runtimeapi.NamespaceOption{Pid: runtimeapi.NamespaceMode_CONTAINER},
			},
		},
	}
	ran, err := n.runtime.RunPodSandbox(ctx, &runtimeapi.RunPodSandboxRequest{Config: sandbox})
	if err != nil {
		return nil, fmt.Errorf("run the pod: %w", err)
	}
	config := &runtimeapi.ContainerConfig{
		Metadata: &runtimeapi.ContainerMetadata{Name: "web"},
		Image:    &runtimeapi.ImageSpec{Image: n.image},
		LogPath:  "web.log",
		Linux: &runtimeapi.LinuxContainerConfig{SecurityContext: &runtimeapi.LinuxContainerSecurityContext{
			NamespaceOptions: sandbox.Linux.SecurityContext.NamespaceOptions,
			RunAsUser:        &runtimeapi.Int64Value{Value: 65534},
			ReadonlyRootfs:   true,
		}},
	}
	created, err := n.runtime.CreateContainer(ctx, &runtimeapi.CreateContainerRequest{
		PodSandboxId: ran.PodSandboxId, Config: config, SandboxConfig: sandbox,
	})
	if err != nil {
		return nil, fmt.Errorf("create the container: %w", err)
	}
	if _, err := n.runtime.StartContainer(ctx, &runtimeapi.StartContainerRequest{ContainerId: created.ContainerId}); err != nil {
		return nil, fmt.Errorf("start the container: %w", err)
	}
	p := &pod{pod: ran.PodSandboxId, container: created.ContainerId, log: filepath.Join(n.logs, config.LogPath)}
	_, p.ip, p.pid, err = n.look(ctx, p)
	return p, err
}

// look asks the daemon for the pod's state.
func (n *node) look(ctx context.Context, p *pod) (state, ip string, pid int, err error) {
	status, err := n.runtime.PodSandboxStatus(ctx, &runtimeapi.PodSandboxStatusRequest{PodSandboxId: p.pod})
	if err != nil {
		return "", "", 0, fmt.Errorf("status of the pod: %w", err)
	}
	container, err := n.runtime.ContainerStatus(ctx, &runtimeapi.ContainerStatusRequest{ContainerId: p.container, Verbose: true})
	if err != nil {
		return "", "", 0, fmt.Errorf("status of the container: %w", err)
	}
	var info struct{ PID int }
	if err := json.Unmarshal([]byte(container.Info["info"]), &info); err != nil {
		return "", "", 0, fmt.Errorf("status of the container: its information: %w", err)
	}
	return container.Status.State.String(), status.Status.GetNetwork().GetIp(), info.PID, nil
}

// compare shows that the pod has not changed.
func (n *node) compare(ctx context.Context, p *pod) error {
	state, ip, pid, err := n.look(ctx, p)
	if err != nil {
		return err
	}
	running := runtimeapi.ContainerState_CONTAINER_RUNNING.String()
	if state != running || ip != p.ip || pid != p.pid {
		return fmt.Errorf("after the restart the container is %s with pid %d at %s; want %s, %d, %s", state, pid, ip, running, p.pid, p.ip)
	}
	say("container  %s, pid %d, at %s: %s", short(p.container), pid, ip, state)
	return nil
}

// visit requests the page, once the server answers.
func (p *pod) visit(ctx context.Context) error {
	url := "http://" + p.ip + ":8080/"
	client := http.Client{Timeout: 5 * time.Second}
	for deadline := time.Now().Add(20 * time.Second); ; {
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
		if err != nil {
			return err
		}
		answer, err := client.Do(request)
		if err == nil {
			body, err := io.ReadAll(io.LimitReader(answer.Body, 1<<10))
			answer.Body.Close()
			if err != nil {
				return err
			}
			show("GET "+url, string(body))
			return nil
		}
		if ctx.Err() != nil || time.Now().After(deadline) {
			return fmt.Errorf("the pod doesn't answer: %w", err)
		}
		time.Sleep(50 * time.Millisecond)
	}
}

func headline(text string) { fmt.Printf("\n== %s\n", text) }

func say(format string, args ...any) { fmt.Printf("   "+format+"\n", args...) }

// show prints a text under a title.
func show(title, text string) {
	say("%s", title)
	for line := range strings.Lines(text) {
		say("  | %s", strings.TrimRight(line, "\n"))
	}
}

func short(id string) string { return id[:min(len(id), 13)] }
