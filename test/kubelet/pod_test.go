package kubelet

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	core "k8s.io/api/core/v1"
	meta "k8s.io/apimachinery/pkg/apis/meta/v1"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
)

const namespace = "default"

// pod is a pod on the node: a static one, or the API server's.
type pod struct {
	n *node
	// name is the kubelet's: a static pod's has the node's at its end.
	name string
	// remove has the kubelet delete it; it may be gone.
	remove func() error
}

// manifest makes a pod that ends quickly when it is deleted: a shell as pid 1 does not listen
// to SIGTERM.
func manifest(name string, containers ...core.Container) *core.Pod {
	grace := int64(1)
	return &core.Pod{
		TypeMeta:   meta.TypeMeta{APIVersion: "v1", Kind: "Pod"},
		ObjectMeta: meta.ObjectMeta{Name: name, Namespace: namespace},
		Spec:       core.PodSpec{Containers: containers, TerminationGracePeriodSeconds: &grace},
	}
}

// shell makes a container that runs a script in the busybox image.
func (n *node) shell(name, script string) core.Container {
	return core.Container{
		Name: name, Image: n.Busybox, ImagePullPolicy: core.PullIfNotPresent,
		Command: []string{"sh", "-c", script},
	}
}

// tester makes a container that runs the tester of the e2e tests.
func (n *node) tester(name string, args ...string) core.Container {
	return core.Container{Name: name, Image: n.Tester, ImagePullPolicy: core.PullIfNotPresent, Args: args}
}

// write puts a manifest where the kubelet finds it, and takes it away when the test ends.
func (n *node) write(manifest *core.Pod) *pod {
	n.t.Helper()
	file := filepath.Join(n.manifests(), manifest.Name+".json")
	p := &pod{n: n, name: manifest.Name + "-" + nodeName, remove: func() error {
		if err := os.Remove(file); !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		return nil
	}}
	content, err := json.Marshal(manifest)
	if err != nil {
		n.t.Fatal(err)
	}
	// Renamed, as the kubelet watches the directory.
	hidden := n.path(manifest.Name + ".json")
	if err := os.WriteFile(hidden, content, 0o644); err != nil {
		n.t.Fatal(err)
	}
	if err := os.Rename(hidden, file); err != nil {
		n.t.Fatal(err)
	}
	p.endWithTest()
	return p
}

// endWithTest deletes the pod when the test ends.
func (p *pod) endWithTest() {
	p.n.t.Cleanup(func() {
		if p.n.t.Failed() {
			p.tell()
		}
		p.delete()
		p.waitEnded()
	})
}

// run runs a static pod until it is Running.
func (n *node) run(manifest *core.Pod) *pod {
	n.t.Helper()
	p := n.write(manifest)
	p.wait("is Running", func(s core.PodStatus) bool { return s.Phase == core.PodRunning })
	return p
}

// runReady runs a static pod until it is ready.
func (n *node) runReady(manifest *core.Pod) *pod {
	n.t.Helper()
	p := n.write(manifest)
	p.wait("is ready", ready)
	return p
}

func ready(s core.PodStatus) bool {
	for _, c := range s.Conditions {
		if c.Type == core.PodReady {
			return c.Status == core.ConditionTrue
		}
	}
	return false
}

// statuses are those of all pods, by name.
func (n *node) statuses() (map[string]core.PodStatus, error) {
	var list core.PodList
	if err := n.getJSON("/pods", &list); err != nil {
		return nil, err
	}
	statuses := map[string]core.PodStatus{}
	for _, p := range list.Items {
		statuses[p.Name] = p.Status
	}
	return statuses, nil
}

// status is what the kubelet would report to the API server.
func (p *pod) status() core.PodStatus {
	p.n.t.Helper()
	statuses, err := p.n.statuses()
	if err != nil {
		p.n.t.Fatalf("pod %s: %v", p.name, err)
	}
	status, ok := statuses[p.name]
	if !ok {
		p.n.t.Fatalf("the kubelet has no pod %s", p.name)
	}
	return status
}

// wait waits until the pod's status is as it should be, and returns it.
func (p *pod) wait(what string, condition func(core.PodStatus) bool) (status core.PodStatus) {
	p.n.t.Helper()
	p.n.until("pod "+p.name+" "+what, func() error {
		statuses, err := p.n.statuses()
		if err != nil {
			return err
		}
		if status = statuses[p.name]; condition(status) {
			return nil
		}
		text, err := json.Marshal(status)
		if err != nil {
			return err
		}
		return errors.New(string(text))
	})
	return status
}

// container finds a container's status, also an init container's.
func container(s core.PodStatus, name string) core.ContainerStatus {
	for _, c := range append(s.ContainerStatuses, s.InitContainerStatuses...) {
		if c.Name == name {
			return c
		}
	}
	return core.ContainerStatus{}
}

// delete has the kubelet delete the pod.
func (p *pod) delete() {
	p.n.t.Helper()
	if err := p.remove(); err != nil {
		p.n.t.Errorf("delete pod %s: %v", p.name, err)
	}
}

// waitEnded waits until nothing of the pod runs. The kubelet removes what is left once a minute.
func (p *pod) waitEnded() {
	p.n.t.Helper()
	p.n.until("pod "+p.name+" ends", func() error {
		for _, s := range p.sandboxes() {
			if s.State == cri.PodSandboxState_SANDBOX_READY {
				return fmt.Errorf("its sandbox %s is ready", s.Id)
			}
		}
		return nil
	})
}

func (p *pod) label() map[string]string { return map[string]string{"io.kubernetes.pod.name": p.name} }

// sandboxes are the pod's, asked of Stele.
func (p *pod) sandboxes() []*cri.PodSandbox {
	p.n.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	answer, err := p.n.Runtime.ListPodSandbox(ctx, &cri.ListPodSandboxRequest{Filter: &cri.PodSandboxFilter{LabelSelector: p.label()}})
	if err != nil {
		p.n.t.Errorf("list the sandboxes of %s: %v", p.name, err)
	}
	return answer.GetItems()
}

// containerID is the id of a container that runs.
func (p *pod) containerID(name string) string {
	p.n.t.Helper()
	_, id, _ := strings.Cut(container(p.status(), name).ContainerID, "://")
	if id == "" {
		p.n.t.Fatalf("pod %s has no container %s", p.name, name)
	}
	return id
}

// exec runs a command in a container by the kubelet, which must succeed, and returns its output.
func (p *pod) exec(container string, command ...string) string {
	p.n.t.Helper()
	out, err := p.tryExec(container, command...)
	if err != nil {
		p.n.t.Fatalf("run %q in %s of %s: %v", command, container, p.name, err)
	}
	return out
}

func (p *pod) tryExec(container string, command ...string) (string, error) {
	out, stderr, err := p.execWith(spdy, container, "", command...)
	if err != nil {
		err = fmt.Errorf("%w: stderr %q", err, stderr)
	}
	return strings.TrimRight(out, "\n"), err
}

// log is a container's log as the kubelet gives it.
func (p *pod) log(container string, query url.Values) string {
	p.n.t.Helper()
	body, err := p.n.ask(http.MethodGet, "/containerLogs/"+namespace+"/"+p.name+"/"+container, query)
	if err != nil {
		p.n.t.Fatal(err)
	}
	return string(body)
}

// waitLog waits until a container's log has a text.
func (p *pod) waitLog(container, text string) {
	p.n.t.Helper()
	p.n.until(fmt.Sprintf("the log of %s of %s has %q", container, p.name, text), func() error {
		body, err := p.n.ask(http.MethodGet, "/containerLogs/"+namespace+"/"+p.name+"/"+container, nil)
		if err == nil && !strings.Contains(string(body), text) {
			err = fmt.Errorf("it is %q", body)
		}
		return err
	})
}

// share makes a directory of the node that a pod mounts at /share.
func (n *node) share(name string, containers ...*core.Container) (dir string, volume core.Volume) {
	n.t.Helper()
	dir = n.path("share-" + name)
	if err := os.Mkdir(dir, 0o777); err != nil {
		n.t.Fatal(err)
	}
	if err := os.Chmod(dir, 0o777); err != nil {
		n.t.Fatal(err)
	}
	for _, c := range containers {
		c.VolumeMounts = append(c.VolumeMounts, core.VolumeMount{Name: "share", MountPath: "/share"})
	}
	return dir, core.Volume{Name: "share", VolumeSource: core.VolumeSource{HostPath: &core.HostPathVolumeSource{Path: dir}}}
}

// withScratch gives all containers of a pod an emptyDir at /share.
func withScratch(m *core.Pod) *core.Pod {
	m.Spec.Volumes = append(m.Spec.Volumes, core.Volume{Name: "scratch", VolumeSource: core.VolumeSource{EmptyDir: &core.EmptyDirVolumeSource{}}})
	for i := range m.Spec.Containers {
		c := &m.Spec.Containers[i]
		c.VolumeMounts = append(c.VolumeMounts, core.VolumeMount{Name: "scratch", MountPath: "/share"})
	}
	return m
}

// waitFile waits until a file of the node has a content.
func (n *node) waitFile(path, want string) {
	n.t.Helper()
	n.until("file "+filepath.Base(path)+" is complete", func() error {
		content, err := os.ReadFile(path)
		if err == nil && strings.TrimSpace(string(content)) != strings.TrimSpace(want) {
			err = fmt.Errorf("got %q, want %q", content, want)
		}
		return err
	})
}

// tell logs what is known of a pod.
func (p *pod) tell() {
	p.n.t.Helper()
	if statuses, err := p.n.statuses(); err == nil {
		text, _ := json.MarshalIndent(statuses[p.name], "", " ")
		p.n.t.Logf("status of %s at %s:\n%s", p.name, time.Now().Format(time.RFC3339Nano), text)
	}
	if log, err := os.ReadFile(p.n.kubelet.log); err == nil {
		var lines []string
		for line := range strings.Lines(string(log)) {
			if strings.Contains(line, p.name) {
				lines = append(lines, line)
			}
		}
		p.n.t.Logf("the kubelet on %s:\n%s", p.name, strings.Join(lines[max(0, len(lines)-60):], ""))
	}
	for _, s := range p.sandboxes() {
		p.n.t.Logf("events of %s:\n%s", s.Id, tailText(p.n.Stele("events", s.Id), 60))
	}
}

func tailText(text string, lines int) string {
	all := strings.Split(strings.TrimRight(text, "\n"), "\n")
	return strings.Join(all[max(0, len(all)-lines):], "\n")
}

// same fails the test if got is not want.
func same[T comparable](t testing.TB, what string, got, want T) {
	t.Helper()
	if got != want {
		t.Errorf("%s: got %v, want %v", what, got, want)
	}
}
