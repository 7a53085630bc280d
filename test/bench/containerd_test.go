package bench

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/stele-runtime/stele/test/audit"
)

// containerdDir is where `test/deps/install.sh bench` puts containerd and ctr.
const containerdDir = "/usr/lib/stele/containerd"

// containerdConfig is what differs from containerd's defaults: where its files are,
// that nothing is made or listened on elsewhere (its own programs' directory is
// /opt/containerd, NRI's socket is in /run/nri, the shims' in /run/containerd), and that
// it is quiet.
const containerdConfig = `version = 4
imports = []
root = %[1]q
state = %[2]q
disabled_plugins = ["io.containerd.internal.v1.opt", "io.containerd.nri.v1.nri", "io.containerd.server.v1.ttrpc"]

[debug]
level = "warn"

[plugins."io.containerd.server.v1.grpc"]
address = %[3]q
`

// containerd is a daemon that pulls images, and nothing else.
type containerd struct{ socket string }

// startContainerd starts a daemon that ends with the benchmark.
func startContainerd(b *testing.B) *containerd {
	b.Helper()
	// The disk is that of the product's store. The path is short, since a socket's is.
	dir, err := os.MkdirTemp("/var/tmp", "stele-bench-")
	if err != nil {
		b.Fatal(err)
	}
	scope := audit.Scope{Dirs: []string{dir}}
	b.Cleanup(func() {
		if err := audit.Clear(scope); err != nil {
			// What is still mounted must not be emptied.
			b.Error(err)
			return
		}
		if err := os.RemoveAll(dir); err != nil {
			b.Error(err)
		}
	})
	c := &containerd{filepath.Join(dir, "containerd.sock")}
	config := filepath.Join(dir, "config.toml")
	content := fmt.Sprintf(containerdConfig, filepath.Join(dir, "root"), filepath.Join(dir, "state"), c.socket)
	if err := os.WriteFile(config, []byte(content), 0o600); err != nil {
		b.Fatal(err)
	}

	daemon := exec.Command(filepath.Join(containerdDir, "containerd"), "--config", config)
	var said bytes.Buffer
	daemon.Stdout, daemon.Stderr = &said, &said
	if err := daemon.Start(); err != nil {
		b.Fatalf("`test/deps/install.sh bench` installs containerd: %v", err)
	}
	ended := make(chan error, 1)
	go func() { ended <- daemon.Wait() }()
	b.Cleanup(func() {
		stop(b, daemon.Process, ended)
		// Only now that it has ended can it be read.
		if b.Failed() {
			b.Logf("containerd said:\n%s", said.String())
		}
		audit.Check(b, scope, nil)
	})
	for deadline := time.Now().Add(patience); ; time.Sleep(20 * time.Millisecond) {
		_, err := c.ctr(b, "version")
		if err == nil {
			return c
		}
		select {
		case end := <-ended:
			ended <- end
			b.Fatalf("containerd ended at its start: %v", end)
		default:
		}
		if time.Now().After(deadline) {
			b.Fatalf("containerd does not answer: %v", err)
		}
	}
}

// stop ends a daemon as systemd would.
func stop(b *testing.B, daemon *os.Process, ended <-chan error) {
	b.Helper()
	if err := daemon.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
		b.Errorf("stop containerd: %v", err)
	}
	select {
	case err := <-ended:
		if err != nil {
			b.Errorf("containerd ended with %v", err)
		}
	case <-time.After(patience):
		b.Error("containerd does not end at SIGTERM")
		if err := daemon.Kill(); err != nil {
			b.Error(err)
		}
		<-ended
	}
}

// ctr runs a command of containerd's own client, and returns what it says on its
// standard output: warnings about the machine are on the other one.
func (c *containerd) ctr(b *testing.B, args ...string) (out []byte, err error) {
	ctx, cancel := context.WithTimeout(b.Context(), patience)
	defer cancel()
	command := exec.CommandContext(ctx, filepath.Join(containerdDir, "ctr"),
		append([]string{"--address", c.socket, "--namespace", "bench"}, args...)...)
	var said bytes.Buffer
	command.Stderr = &said
	if out, err = command.Output(); err != nil {
		return nil, fmt.Errorf("ctr %s: %w: %s", args[0], err, said.Bytes())
	}
	return out, nil
}

// pull has the daemon fetch and unpack an image.
func (c *containerd) pull(b *testing.B, name string, timed func(func() error)) (undo func()) {
	b.Helper()
	timed(func() error {
		_, err := c.ctr(b, "images", "pull", "--plain-http", "--snapshotter", "overlayfs", name)
		return err
	})
	// It would also be content with the layers as they came.
	if c.snapshots(b) == 0 {
		b.Fatalf("containerd pulled %s without unpacking it", name)
	}
	return func() {
		b.Helper()
		// Synchronously: what the image alone needed is collected when this returns.
		if _, err := c.ctr(b, "images", "rm", "--sync", name); err != nil {
			b.Fatal(err)
		}
		if n := c.snapshots(b); n > 0 {
			b.Fatalf("containerd kept %d snapshots of %s", n, name)
		}
	}
}

// snapshots is how many there are.
func (c *containerd) snapshots(b *testing.B) int {
	b.Helper()
	out, err := c.ctr(b, "snapshots", "--snapshotter", "overlayfs", "ls")
	if err != nil {
		b.Fatal(err)
	}
	// The first line has the columns' names.
	return bytes.Count(out, []byte("\n")) - 1
}
