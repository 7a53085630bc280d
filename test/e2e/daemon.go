package e2e

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"sync"
	"syscall"
	"testing"
	"time"

	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// Daemon is the daemon under test: a process that can be ended and started again.
type Daemon struct {
	t       testing.TB
	client  *Client
	program string
	args    []string
	process *process
}

// in returns the daemon for a subtest.
func (d *Daemon) in(t testing.TB) *Daemon {
	inner := *d
	inner.t, inner.client = t, d.client.in(t)
	return &inner
}

// Launch starts the daemon without waiting.
func (d *Daemon) Launch() {
	d.t.Helper()
	if err := d.process.start(d.program, d.args); err != nil {
		d.t.Fatal(err)
	}
}

// Start starts the daemon and waits until it says that it is ready.
func (d *Daemon) Start() {
	d.t.Helper()
	d.Launch()
	d.WaitReady()
}

// WaitReady waits until Status says that runtime and network are ready.
func (d *Daemon) WaitReady() {
	d.t.Helper()
	var last string
	for deadline := time.Now().Add(patience); ; time.Sleep(20 * time.Millisecond) {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		status, err := d.client.Runtime.Status(ctx, &runtimeapi.StatusRequest{})
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
		if !d.process.running() {
			d.t.Fatalf("the daemon ended at its start: %v\n%s", d.process.ended(), tail(d.process.log, 50))
		}
		if time.Now().After(deadline) {
			d.t.Fatalf("the daemon is not ready: %s\n%s", last, tail(d.process.log, 50))
		}
	}
}

// Kill9 kills the daemon, and nothing else.
func (d *Daemon) Kill9() {
	d.t.Helper()
	if !d.process.running() {
		d.t.Fatalf("the daemon has ended before it was killed: %v", d.process.ended())
	}
	d.process.kill()
}

// Stop ends the daemon as systemd would. Containers go on.
func (d *Daemon) Stop() {
	d.t.Helper()
	if err := d.process.signal(syscall.SIGTERM); err != nil {
		d.t.Fatalf("stop the daemon: %v", err)
	}
	select {
	case <-d.process.done:
	case <-time.After(patience):
		d.t.Errorf("the daemon does not end at SIGTERM")
		d.process.kill()
		return
	}
	if err := d.process.ended(); err != nil {
		d.t.Errorf("the daemon ended at SIGTERM with %v", err)
	}
}

// Log is all that the daemon's starts have logged.
func (d *Daemon) Log() string {
	d.t.Helper()
	content, err := os.ReadFile(d.process.log)
	if err != nil {
		d.t.Fatal(err)
	}
	return string(content)
}

// PID is the daemon's.
func (d *Daemon) PID() int {
	d.process.mu.Lock()
	defer d.process.mu.Unlock()
	return d.process.cmd.Process.Pid
}

// process is the daemon's process, and its log, which all its starts share.
type process struct {
	log string
	// boot is a file that replaces the kernel's boot id; may be empty.
	boot string
	// inherited is a descriptor that its parent leaves to it; may be nil.
	inherited *os.File

	mu   sync.Mutex
	cmd  *exec.Cmd
	done chan struct{}
	err  error
}

func (p *process) start(program string, args []string) error {
	log, err := os.OpenFile(p.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	defer log.Close()
	cmd := exec.Command(program, args...)
	if p.boot != "" {
		cmd = exec.Command("sh", append([]string{"-c", `mount --bind "$0" /proc/sys/kernel/random/boot_id && exec "$@"`, p.boot, program}, args...)...)
		// Its mounts are the daemon's and the monitor's alone, and go with them.
		cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS}
	}
	cmd.Stdout, cmd.Stderr = log, log
	if p.inherited != nil {
		cmd.ExtraFiles = []*os.File{p.inherited}
	}
	// Races are logged; the daemon goes on, so that the test can.
	cmd.Env = append(os.Environ(), "GORACE=halt_on_error=0 exitcode=0", "GOTRACEBACK=all")
	if err := cmd.Start(); err != nil {
		return err
	}
	done := make(chan struct{})
	p.mu.Lock()
	p.cmd, p.done, p.err = cmd, done, nil
	p.mu.Unlock()
	go func() {
		err := cmd.Wait()
		p.mu.Lock()
		p.err = err
		p.mu.Unlock()
		close(done)
	}()
	return nil
}

func (p *process) running() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.done == nil {
		return false
	}
	select {
	case <-p.done:
		return false
	default:
		return true
	}
}

// ended is how the process ended; nil also while it runs.
func (p *process) ended() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.err
}

func (p *process) signal(s os.Signal) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.cmd.Process.Signal(s)
}

// kill kills the process if it runs and waits for its end.
func (p *process) kill() {
	if !p.running() {
		return
	}
	// An error means that it has just ended by itself.
	_ = p.signal(os.Kill)
	<-p.done
}

var troubleSigns = regexp.MustCompile(`(?m)^(WARNING: DATA RACE|panic: |fatal error: |SIGSEGV)`)

// trouble finds what a daemon's log must not have, with the lines after it.
func (p *process) trouble() []string {
	content, err := os.ReadFile(p.log)
	if err != nil {
		return []string{err.Error()}
	}
	var found []string
	for _, at := range troubleSigns.FindAllIndex(content, 5) {
		found = append(found, string(content[at[0]:min(len(content), at[0]+4000)]))
	}
	return found
}
