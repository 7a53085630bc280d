package e2e

import (
	"context"
	"crypto/rand"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials/insecure"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/stele-runtime/stele/test/audit"
)

// daemon is the process, and its log, which goes on when it is started again.
type daemon struct {
	log string
	// boot is a file that the daemon takes for the kernel's boot id; empty for that itself.
	boot string

	mu   sync.Mutex
	cmd  *exec.Cmd
	done chan struct{}
	err  error
}

// Start starts the daemon and waits until it says that it is ready.
func (h *Harness) Start() {
	h.t.Helper()
	h.Launch()
	h.WaitReady()
}

// Launch starts the daemon without waiting.
func (h *Harness) Launch() {
	h.t.Helper()
	args := []string{
		"serve", "--config", filepath.Join(filepath.Dir(h.Root), "config.toml"), "--root", h.Root, "--state", h.State,
		"--listen", "unix://" + h.Socket, "--cni-conf-dir", h.ConfDir,
		"--cni-plugin-dirs", strings.Join(h.Programs.PluginDirs, ","), "--monitor", h.Programs.Monitor,
		"--runtime", "runc=" + h.Programs.Runc,
	}
	for name, path := range h.options.Handlers {
		args = append(args, "--runtime", name+"="+path)
	}
	if h.options.LogLevel != "" {
		args = append(args, "--log-level", h.options.LogLevel)
	}
	if err := h.daemon.start(h.Programs.Stele, args); err != nil {
		h.t.Fatal(err)
	}
}

// connect makes the clients. The connection comes back by itself when the daemon
// does.
func (h *Harness) connect() {
	h.t.Helper()
	conn, err := grpc.NewClient("unix://"+h.Socket,
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithConnectParams(grpc.ConnectParams{
			Backoff:           backoff.Config{BaseDelay: 20 * time.Millisecond, Multiplier: 1.5, MaxDelay: 100 * time.Millisecond},
			MinConnectTimeout: 5 * time.Second,
		}),
		// As the kubelet has it.
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(16<<20)))
	if err != nil {
		h.t.Fatal(err)
	}
	h.t.Cleanup(func() { conn.Close() })
	h.Runtime, h.Images = runtimeapi.NewRuntimeServiceClient(conn), runtimeapi.NewImageServiceClient(conn)
}

// WaitReady waits until Status says that runtime and network are ready.
func (h *Harness) WaitReady() {
	h.t.Helper()
	var last string
	for deadline := time.Now().Add(patience); ; time.Sleep(20 * time.Millisecond) {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		status, err := h.Runtime.Status(ctx, &runtimeapi.StatusRequest{})
		cancel()
		if err != nil {
			last = err.Error()
		} else {
			ready := 0
			for _, c := range status.Status.Conditions {
				if c.Status && (c.Type == runtimeapi.RuntimeReady || c.Type == runtimeapi.NetworkReady) {
					ready++
				}
			}
			if ready == 2 {
				return
			}
			last = fmt.Sprint(status.Status.Conditions)
		}
		if !h.daemon.running() {
			h.t.Fatalf("the daemon ended at its start: %v\n%s", h.daemon.ended(), tail(h.daemon.log, 50))
		}
		if time.Now().After(deadline) {
			h.t.Fatalf("the daemon is not ready: %s\n%s", last, tail(h.daemon.log, 50))
		}
	}
}

// Kill9 kills the daemon, and nothing else.
func (h *Harness) Kill9() {
	h.t.Helper()
	if !h.daemon.running() {
		h.t.Fatalf("the daemon has ended before it was killed: %v", h.daemon.ended())
	}
	h.daemon.kill()
}

// Stop ends the daemon as systemd would. Containers go on.
func (h *Harness) Stop() {
	h.t.Helper()
	if err := h.daemon.signal(syscall.SIGTERM); err != nil {
		h.t.Fatalf("stop the daemon: %v", err)
	}
	select {
	case <-h.daemon.done:
	case <-time.After(patience):
		h.t.Errorf("the daemon does not end at SIGTERM")
		h.daemon.kill()
		return
	}
	if err := h.daemon.ended(); err != nil {
		h.t.Errorf("the daemon ended at SIGTERM with %v", err)
	}
}

// PowerFailure does to a daemon with OwnBoot what one does to a node: nothing is left of
// what the kernel had, and of the log what it was when KeepLog returned.
func (h *Harness) PowerFailure(log map[string][]byte) {
	h.t.Helper()
	h.Kill9()
	if err := audit.Clear(h.Scope); err != nil {
		h.t.Fatal(err)
	}
	if err := os.RemoveAll(h.State); err != nil {
		h.t.Fatal(err)
	}
	for path, content := range log {
		if err := os.WriteFile(path, content, 0o600); err != nil {
			h.t.Fatal(err)
		}
	}
	h.newBoot()
	h.Start()
}

func (h *Harness) newBoot() { h.write(h.daemon.boot, rand.Text()+"\n") }

// KeepLog reads the files of the event log.
func (h *Harness) KeepLog() map[string][]byte {
	h.t.Helper()
	kept := map[string][]byte{}
	for _, name := range []string{"events.db", "events.db.journal"} {
		path := filepath.Join(h.Root, name)
		content, err := os.ReadFile(path)
		if err != nil {
			h.t.Fatal(err)
		}
		kept[path] = content
	}
	return kept
}

// PID is the daemon's.
func (h *Harness) PID() int {
	h.daemon.mu.Lock()
	defer h.daemon.mu.Unlock()
	return h.daemon.cmd.Process.Pid
}

func (d *daemon) start(program string, args []string) error {
	log, err := os.OpenFile(d.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	defer log.Close()
	cmd := exec.Command(program, args...)
	if d.boot != "" {
		cmd = exec.Command("sh", append([]string{"-c", `mount --bind "$0" /proc/sys/kernel/random/boot_id && exec "$@"`, d.boot, program}, args...)...)
		// Its mounts are the daemon's and the monitor's alone, and go with them.
		cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS}
	}
	cmd.Stdout, cmd.Stderr = log, log
	// The log tells of races; the daemon goes on, so that the test can.
	cmd.Env = append(os.Environ(), "GORACE=halt_on_error=0 exitcode=0", "GOTRACEBACK=all")
	if err := cmd.Start(); err != nil {
		return err
	}
	done := make(chan struct{})
	d.mu.Lock()
	d.cmd, d.done, d.err = cmd, done, nil
	d.mu.Unlock()
	go func() {
		err := cmd.Wait()
		d.mu.Lock()
		d.err = err
		d.mu.Unlock()
		close(done)
	}()
	return nil
}

func (d *daemon) running() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.done == nil {
		return false
	}
	select {
	case <-d.done:
		return false
	default:
		return true
	}
}

// ended is how the process ended; nil also if it has not.
func (d *daemon) ended() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.err
}

func (d *daemon) signal(s os.Signal) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.cmd.Process.Signal(s)
}

// kill kills the process if it runs and waits for its end.
func (d *daemon) kill() {
	if !d.running() {
		return
	}
	// An error means that it has ended by itself meanwhile.
	_ = d.signal(os.Kill)
	<-d.done
}

var troubleSigns = regexp.MustCompile(`(?m)^(WARNING: DATA RACE|panic: |fatal error: |SIGSEGV)`)

// trouble finds what a daemon's log must not have, each with what follows.
func (d *daemon) trouble() []string {
	content, err := os.ReadFile(d.log)
	if err != nil {
		return []string{err.Error()}
	}
	var found []string
	for _, at := range troubleSigns.FindAllIndex(content, 5) {
		found = append(found, string(content[at[0]:min(len(content), at[0]+4000)]))
	}
	return found
}
