package kubelet

import (
	"bytes"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/yaml"

	"github.com/stele-runtime/stele/test/e2e"
	"github.com/stele-runtime/stele/test/images"
)

// patience is how long anything may take before a test gives up. A kubelet looks at some
// things once a minute.
const patience = 4 * time.Minute

const (
	nodeName   = "node"
	kubeletURL = "https://127.0.0.1:10250"
)

// node is a machine with Stele and a kubelet.
type node struct {
	*e2e.Harness
	t testing.TB
	// health is the name of an image with the program health.
	health string
	// dir has the kubelet's files.
	dir     string
	kubelet *process
	// flags are the kubelet's beside the usual ones.
	flags []string
}

// newNode starts Stele and a kubelet, which end with the test.
func newNode(t testing.TB, options e2e.Options, flags ...string) *node {
	t.Helper()
	return newNodeOn(t, e2e.New(t, programs.Programs, options), flags...)
}

// newNodeOn starts a kubelet beside the harness's daemon.
func newNodeOn(t testing.TB, h *e2e.Harness, flags ...string) *node {
	t.Helper()
	n := &node{Harness: h, t: t, dir: filepath.Join(filepath.Dir(h.Root), "kubelet"), flags: flags}
	n.health = h.Registry.Push(t, "kubelet/health:latest", images.FromProgram(t, programs.health, v1.Config{}))
	h.Pull(n.health)
	for _, dir := range []string{n.manifests(), n.path("conf.d"), n.path("plugins"), n.path("certificates"), n.path("root")} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	n.makeCgroupRoot()
	n.kubelet = &process{log: n.path("kubelet.log")}
	n.configure(nil)
	dropIn := strings.ReplaceAll(pagesFiles(t)[pagesDropIn], pagesSocket, "unix://"+n.Socket)
	if err := os.WriteFile(n.path("conf.d", filepath.Base(pagesDropIn)), []byte(dropIn), 0o644); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(n.finish)
	n.startKubelet()
	return n
}

// in returns the node for a subtest.
func (n *node) in(t testing.TB) *node {
	inner := *n
	inner.t, inner.Harness = t, n.Harness.In(t)
	return &inner
}

func (n *node) path(names ...string) string {
	return filepath.Join(append([]string{n.dir}, names...)...)
}

func (n *node) manifests() string { return n.path("manifests") }

// configure writes the kubelet's configuration: a node's usual one as far as this machine
// allows, with changes. Where Stele is, a file of docs/kubeadm.md says.
func (n *node) configure(changes map[string]any) {
	n.t.Helper()
	config := map[string]any{
		"apiVersion": "kubelet.config.k8s.io/v1beta1", "kind": "KubeletConfiguration",
		"staticPodPath": n.manifests(), "podLogsDir": n.Logs, "volumePluginDir": n.path("plugins"),
		"address": "127.0.0.1", "port": 10250,
		"authentication": map[string]any{"anonymous": map[string]any{"enabled": true}, "webhook": map[string]any{"enabled": false}},
		"authorization":  map[string]any{"mode": "AlwaysAllow"},
		"cgroupDriver":   "cgroupfs", "cgroupRoot": n.CgroupParent, "failCgroupV1": false,
		// Not what this machine's kernel and rights, or its full disk, have to do with Stele.
		"enforceNodeAllocatable": []string{}, "oomScoreAdj": 0, "failSwapOn": false, "makeIPTablesUtilChains": false,
		"evictionHard":        map[string]string{"memory.available": "1Mi", "nodefs.available": "1Mi", "imagefs.available": "1Mi"},
		"containerLogMaxSize": "1Mi", "containerLogMaxFiles": 3, "containerLogMonitorInterval": "3s",
		"imageGCHighThresholdPercent": 100, "serializeImagePulls": false,
		"featureGates": map[string]bool{"EventedPLEG": true, "PodAndContainerStatsFromCRI": true, "CRIListStreaming": true},
	}
	for key, value := range changes {
		config[key] = value
	}
	content, err := yaml.Marshal(config)
	if err != nil {
		n.t.Fatal(err)
	}
	if err := os.WriteFile(n.path("config.yaml"), content, 0o644); err != nil {
		n.t.Fatal(err)
	}
}

func (n *node) startKubelet() {
	n.t.Helper()
	args := append([]string{
		"--config=" + n.path("config.yaml"), "--config-dir=" + n.path("conf.d"), "--root-dir=" + n.path("root"), "--cert-dir=" + n.path("certificates"),
		"--hostname-override=" + nodeName, "--node-ip=" + nodeAddress, "--v=3",
	}, n.flags...)
	if err := n.kubelet.start(programs.kubelet, args...); err != nil {
		n.t.Fatal(err)
	}
	n.until("the kubelet is healthy", func() error {
		if !n.kubelet.running() {
			n.t.Fatalf("the kubelet has ended: %s\n%s", n.kubelet.cmd.ProcessState, tail(n.kubelet.log, 50))
		}
		_, err := n.get("/healthz")
		return err
	})
}

func (n *node) stopKubelet() {
	n.t.Helper()
	if err := n.kubelet.stop(); err != nil {
		n.t.Errorf("stop the kubelet: %v", err)
	}
}

// finish ends the kubelet and removes what it leaves on a node when it ends. Everything of pods
// is left to the harness, which looks for leaks.
func (n *node) finish() {
	n.t.Helper()
	n.until("the kubelet removes its pods' cgroups", n.podCgroupsGone)
	n.stopKubelet()
	if n.t.Failed() {
		n.t.Logf("the kubelet's log:\n%s", tail(n.kubelet.log, 100))
	}
	for _, controller := range hierarchies(n.t) {
		for _, own := range []string{"kubepods/besteffort", "kubepods/burstable", "kubepods"} {
			if err := os.Remove(filepath.Join(controller, n.CgroupParent, own)); err != nil && !errors.Is(err, fs.ErrNotExist) {
				n.t.Errorf("remove the kubelet's cgroups: %v", err)
			}
		}
	}
	_ = syscall.Unmount(n.path("root"), syscall.MNT_DETACH)
}

// podCgroupsGone is nil when no pod has a cgroup.
func (n *node) podCgroupsGone() error {
	for _, controller := range hierarchies(n.t) {
		for _, class := range []string{"kubepods", "kubepods/besteffort", "kubepods/burstable"} {
			left, err := filepath.Glob(filepath.Join(controller, n.CgroupParent, class, "pod*"))
			if err == nil && len(left) > 0 {
				err = fmt.Errorf("there is %s", left[0])
			}
			if err != nil {
				return err
			}
		}
	}
	return nil
}

// hierarchies are the mount points of all cgroup hierarchies.
func hierarchies(t testing.TB) (points []string) {
	t.Helper()
	if unified() {
		return []string{"/sys/fs/cgroup"}
	}
	found, err := filepath.Glob("/sys/fs/cgroup/*/cgroup.procs")
	if err != nil {
		t.Fatal(err)
	}
	for _, procs := range found {
		// v1 has links: cpu is cpu,cpuacct.
		dir := filepath.Dir(procs)
		if info, err := os.Lstat(dir); err == nil && info.IsDir() {
			points = append(points, dir)
		}
	}
	return points
}

// makeCgroupRoot makes the cgroup in which the kubelet makes its own; the kubelet wants it to be
// there. The harness removes it.
func (n *node) makeCgroupRoot() {
	n.t.Helper()
	for _, controller := range hierarchies(n.t) {
		dir := filepath.Join(controller, n.CgroupParent)
		if err := os.MkdirAll(dir, 0o755); err != nil {
			n.t.Fatal(err)
		}
		// v1: a cpuset has nothing until it is told.
		for _, file := range []string{"cpuset.cpus", "cpuset.mems"} {
			value, err := os.ReadFile(filepath.Join(controller, file))
			if err != nil {
				continue
			}
			if err := os.WriteFile(filepath.Join(dir, file), value, 0); err != nil {
				n.t.Fatal(err)
			}
		}
	}
}

// until waits until f has no error.
func (n *node) until(what string, f func() error) {
	n.t.Helper()
	for deadline := time.Now().Add(patience); ; time.Sleep(100 * time.Millisecond) {
		err := f()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			n.t.Fatalf("waited in vain: %s: %v", what, err)
		}
	}
}

var client = &http.Client{Timeout: time.Minute, Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}}

// restConfig is for client-go's streams.
func restConfig() *rest.Config {
	return &rest.Config{Host: kubeletURL, TLSClientConfig: rest.TLSClientConfig{Insecure: true}}
}

// get asks the kubelet for a path.
func (n *node) get(path string) ([]byte, error) { return n.ask(http.MethodGet, path, nil) }

func (n *node) ask(method, path string, query url.Values) ([]byte, error) {
	u := kubeletURL + path
	if len(query) > 0 {
		u += "?" + query.Encode()
	}
	request, err := http.NewRequest(method, u, nil)
	if err != nil {
		return nil, err
	}
	answer, err := client.Do(request)
	if err != nil {
		return nil, err
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(answer.Body)
	if err == nil && answer.StatusCode >= 300 {
		err = fmt.Errorf("%s %s: %s: %s", method, path, answer.Status, bytes.TrimSpace(body))
	}
	return body, err
}

// getJSON asks the kubelet for a path and decodes the answer.
func (n *node) getJSON(path string, into any) error {
	body, err := n.get(path)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(body, into); err != nil {
		return fmt.Errorf("%s: %w: %s", path, err, body)
	}
	return nil
}

func tail(path string, lines int) string {
	content, err := os.ReadFile(path)
	if err != nil {
		return err.Error()
	}
	all := strings.Split(strings.TrimRight(string(content), "\n"), "\n")
	return strings.Join(all[max(0, len(all)-lines):], "\n")
}
