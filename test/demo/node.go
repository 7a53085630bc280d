package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/google/go-containerregistry/pkg/registry"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials/insecure"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/stele-runtime/stele/test/audit"
)

// node is a daemon with everything of its own.
type node struct {
	number int
	// programs is the directory of this and the other programs.
	programs string
	// base holds files that survive a reboot, state those that don't.
	base, state, logs, confDir, socket string
	cgroupParent, bridge, image        string
	scope                              audit.Scope

	registry *httptest.Server
	conn     *grpc.ClientConn
	runtime  runtimeapi.RuntimeServiceClient
	images   runtimeapi.ImageServiceClient
	daemon   *exec.Cmd
	ended    chan struct{}
}

// newNode picks a number that no other demo on the machine uses.
func newNode() (*node, error) {
	if os.Geteuid() != 0 {
		return nil, errors.New("running containers needs root")
	}
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	n := &node{programs: filepath.Dir(self)}
	for ; n.number < 255; n.number++ {
		n.state = fmt.Sprintf("/run/stele-demo%d", n.number)
		err := os.Mkdir(n.state, 0o700)
		if errors.Is(err, fs.ErrExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		name := filepath.Base(n.state)
		n.base, n.bridge, n.cgroupParent = "/var/tmp/"+name, name, "/"+name
		n.logs, n.confDir, n.socket = filepath.Join(n.base, "logs"), filepath.Join(n.base, "cni"), filepath.Join(n.state, "stele.sock")
		n.scope = audit.Scope{
			Root: filepath.Join(n.base, "root"), State: n.state, Dirs: []string{n.base}, Bridges: []string{n.bridge},
			Networks: []string{n.bridge}, IPAM: []string{filepath.Join(n.base, "ipam")}, Cgroups: []string{n.cgroupParent},
		}
		return n, nil
	}
	return nil, errors.New("255 other demos run, or were killed: see /run/stele-demo*")
}

// prepare writes the configuration and serves the image.
func (n *node) prepare() error {
	for _, dir := range []string{n.base, n.logs, n.confDir} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
	}
	if err := n.makeBridge(); err != nil {
		return err
	}
	n.registry = httptest.NewServer(registry.New(registry.Logger(quiet())))
	host := strings.TrimPrefix(n.registry.URL, "http://")
	var err error
	if n.image, err = pushWeb(filepath.Join(n.programs, "stele-demo-web"), host); err != nil {
		return err
	}
	for name, content := range map[string]string{
		"config.toml": fmt.Sprintf("[runtime]\ncgroup_driver = \"cgroupfs\"\n[image]\nregistries_conf = %q\nsignature_policy = %q\n[nri]\nnri_listen = %q\n",
			filepath.Join(n.base, "registries.conf"), filepath.Join(n.base, "policy.json"), filepath.Join(n.base, "nri.sock")),
		"registries.conf": fmt.Sprintf("[[registry]]\nlocation = %q\ninsecure = true\n", host),
		"policy.json":     `{"default": [{"type": "insecureAcceptAnything"}]}`,
		"cni/10-demo.conflist": fmt.Sprintf(`{"cniVersion": "1.1.0", "name": %q, "plugins": [{
			"type": "bridge", "bridge": %q,
			"ipam": {"type": "host-local", "dataDir": %q, "ranges": [[{"subnet": "10.86.%d.0/24", "rangeStart": "10.86.%d.2"}]]}}]}`,
			n.bridge, n.bridge, n.scope.IPAM[0], n.number, n.number),
	} {
		if err := os.WriteFile(filepath.Join(n.base, name), []byte(content), 0o644); err != nil {
			return err
		}
	}
	n.conn, err = grpc.NewClient("unix://"+n.socket, grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithConnectParams(grpc.ConnectParams{
			Backoff:           backoff.Config{BaseDelay: 20 * time.Millisecond, Multiplier: 1.5, MaxDelay: 100 * time.Millisecond},
			MinConnectTimeout: 5 * time.Second,
		}))
	if err != nil {
		return err
	}
	n.runtime, n.images = runtimeapi.NewRuntimeServiceClient(n.conn), runtimeapi.NewImageServiceClient(n.conn)
	return nil
}

// makeBridge makes the pods' bridge and gives it an address. The plugin could do it, too,
// but would enable forwarding on the whole node.
func (n *node) makeBridge() error {
	for _, args := range [][]string{
		{"link", "add", n.bridge, "type", "bridge"},
		{"address", "add", fmt.Sprintf("10.86.%d.1/24", n.number), "dev", n.bridge},
		{"link", "set", n.bridge, "up"},
	} {
		if out, err := exec.Command("ip", args...).CombinedOutput(); err != nil {
			return fmt.Errorf("ip %s: %w: %s", strings.Join(args, " "), err, out)
		}
	}
	return nil
}

// start starts the daemon and waits until it is ready.
func (n *node) start(ctx context.Context) error {
	runc, err := findRunc()
	if err != nil {
		return err
	}
	log, err := os.OpenFile(n.log(), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	defer log.Close()
	n.daemon = exec.Command(filepath.Join(n.programs, "stele"), "serve",
		"--config", filepath.Join(n.base, "config.toml"), "--root", n.scope.Root, "--state", n.state, "--listen", "unix://"+n.socket,
		"--cni-conf-dir", n.confDir, "--runtime", "runc="+runc, "--monitor", filepath.Join(n.programs, "stele-monitor"))
	n.daemon.Stdout, n.daemon.Stderr = log, log
	// Ctrl-C is for the demo, which needs the daemon to clean up.
	n.daemon.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := n.daemon.Start(); err != nil {
		return fmt.Errorf("start the daemon: %w", err)
	}
	n.ended = make(chan struct{})
	go func(daemon *exec.Cmd, ended chan struct{}) {
		// Its log shows how it ended.
		_ = daemon.Wait()
		close(ended)
	}(n.daemon, n.ended)
	return n.ready(ctx)
}

// log is the daemon's.
func (n *node) log() string { return filepath.Join(n.base, "daemon.log") }

// ready waits until the daemon reports that runtime and network are ready.
func (n *node) ready(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	for {
		ready := 0
		status, err := n.runtime.Status(ctx, &runtimeapi.StatusRequest{})
		for _, condition := range status.GetStatus().GetConditions() {
			if condition.Status {
				ready++
			}
		}
		if ready == 2 {
			return nil
		}
		select {
		case <-n.ended:
			content, err := os.ReadFile(n.log())
			return errors.Join(fmt.Errorf("the daemon ended:\n%s", content), err)
		case <-ctx.Done():
			return fmt.Errorf("the daemon is not ready: %v, %w", status.GetStatus(), errors.Join(err, context.Cause(ctx)))
		case <-time.After(20 * time.Millisecond):
		}
	}
}

func (n *node) pid() int { return n.daemon.Process.Pid }

// kill kills only the daemon.
func (n *node) kill() {
	// An error means that it has already ended.
	_ = n.daemon.Process.Kill()
	<-n.ended
}

// stele runs a stele command against the daemon.
func (n *node) stele(ctx context.Context, args ...string) (string, error) {
	out, err := exec.CommandContext(ctx, filepath.Join(n.programs, "stele"), append(args, "--listen", "unix://"+n.socket)...).CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("stele %s: %w\n%s", strings.Join(args, " "), err, out)
	}
	return string(out), nil
}

// clear removes the pods, stops the daemon and all that outlives it on purpose, and
// checks that nothing is left.
func (n *node) clear() error {
	headline("Clean up")
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	var errs []error
	if n.ended != nil {
		errs = append(errs, n.end(ctx))
	}
	// The rest outlives the daemon on purpose (monitor, bridge), or the daemon could not
	// be asked.
	errs = append(errs, audit.Clear(n.scope))
	if n.conn != nil {
		errs = append(errs, n.conn.Close())
	}
	if n.registry != nil {
		n.registry.Close()
	}
	leaks, err := audit.Lasting(n.scope, nil, 10*time.Second)
	for _, leak := range leaks {
		errs = append(errs, fmt.Errorf("left behind: %s", leak))
	}
	errs = append(errs, err, os.RemoveAll(n.base), os.RemoveAll(n.state))
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("clean up: %w", err)
	}
	say("pods, daemon, monitor, %s and %s are gone.", n.bridge, n.base)
	return nil
}

// end makes the daemon remove its pods, and stops it. A killed daemon is started again:
// it knows what to remove.
func (n *node) end(ctx context.Context) error {
	ready := n.start
	if n.running() {
		ready = n.ready
	}
	if err := ready(ctx); err != nil {
		return err
	}
	err := errors.Join(n.removePods(ctx), n.daemon.Process.Signal(syscall.SIGTERM))
	select {
	case <-n.ended:
	case <-ctx.Done():
		n.kill()
	}
	return err
}

func (n *node) running() bool {
	select {
	case <-n.ended:
		return false
	default:
		return true
	}
}

func (n *node) removePods(ctx context.Context) error {
	pods, err := n.runtime.ListPodSandbox(ctx, &runtimeapi.ListPodSandboxRequest{})
	if err != nil {
		return fmt.Errorf("list pods: %w", err)
	}
	for _, pod := range pods.Items {
		if _, err := n.runtime.StopPodSandbox(ctx, &runtimeapi.StopPodSandboxRequest{PodSandboxId: pod.Id}); err != nil {
			return fmt.Errorf("stop pod %s: %w", pod.Id, err)
		}
		if _, err := n.runtime.RemovePodSandbox(ctx, &runtimeapi.RemovePodSandboxRequest{PodSandboxId: pod.Id}); err != nil {
			return fmt.Errorf("remove pod %s: %w", pod.Id, err)
		}
	}
	return nil
}

// findRunc prefers the runtime that `make deps` built: the machine's may be too old.
func findRunc() (string, error) {
	for _, candidate := range []string{os.Getenv("STELE_RUNC"), "/usr/lib/stele/bin/runc", "runc"} {
		if path, err := exec.LookPath(candidate); err == nil {
			return filepath.Abs(path)
		}
	}
	return "", errors.New("no runc: `make deps` installs it")
}
