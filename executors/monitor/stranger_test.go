package monitor_test

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/stele-runtime/stele/executors/monitor/wire"
	pb "github.com/stele-runtime/stele/proto/monitor/v1"
)

// strangerVariable makes the test binary a process that connects to the socket
// that it names.
const strangerVariable = "STELE_TEST_STRANGER"

// The stranger's exit codes.
const (
	strangerWelcome = 0
	strangerRefused = 10
	strangerHungUp  = 11
)

func beStranger(path string) int {
	conn, err := wire.Dial(path)
	if errors.Is(err, syscall.EACCES) {
		return strangerRefused
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer conn.Close()
	sendErr := conn.Send(&pb.Request{Call: &pb.Request_Hello{Hello: &pb.Hello{MinVersion: 1, MaxVersion: 1}}})
	reply := new(pb.Reply)
	_, err = conn.Receive(reply)
	switch {
	case err == nil && reply.GetWelcome() != nil:
		return strangerWelcome
	case errors.Is(err, io.EOF) || errors.Is(err, syscall.ECONNRESET) || errors.Is(sendErr, syscall.EPIPE):
		return strangerHungUp
	default:
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
}

func TestStrangers(t *testing.T) {
	n := newNode(t)
	dir := filepath.Join(n.config.StateDir, "monitor")
	socket := filepath.Join(dir, "monitor.sock")
	for path, want := range map[string]os.FileMode{dir: 0o700 | os.ModeDir, socket: 0o600 | os.ModeSocket} {
		info, err := os.Stat(path)
		if err != nil || info.Mode() != want {
			t.Errorf("%s has mode %v (%v), want %v", path, info.Mode(), err, want)
		}
	}
	connect := func(uid uint32) int {
		// A copy that others can execute.
		self, err := os.ReadFile("/proc/self/exe")
		if err != nil {
			t.Fatal(err)
		}
		binary := filepath.Join(n.dir, "stranger")
		if err := os.WriteFile(binary, self, 0o755); err != nil {
			t.Fatal(err)
		}
		cmd := exec.Command(binary)
		cmd.Dir = "/"
		cmd.Env = []string{strangerVariable + "=" + socket}
		cmd.Stderr = os.Stderr
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uid, Gid: uid}}
		var exit *exec.ExitError
		if err := cmd.Run(); err != nil && !errors.As(err, &exit) {
			t.Fatal(err)
		}
		return cmd.ProcessState.ExitCode()
	}
	if err := os.Chmod(n.dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if got := connect(0); got != strangerWelcome {
		t.Errorf("root got %d", got)
	}
	if got := connect(65534); got != strangerRefused {
		t.Errorf("nobody got %d", got)
	}
	// Even if the permissions allow it.
	for path, mode := range map[string]os.FileMode{n.config.StateDir: 0o755, dir: 0o755, socket: 0o777} {
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
	}
	if got := connect(65534); got != strangerHungUp {
		t.Errorf("nobody got %d through the open doors", got)
	}
}

func TestVersions(t *testing.T) {
	n := newNode(t)
	conn, err := wire.Dial(filepath.Join(n.config.StateDir, "monitor", "monitor.sock"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if err := conn.Send(&pb.Request{Id: 1, Call: &pb.Request_Hello{Hello: &pb.Hello{MinVersion: 1000, MaxVersion: 1001}}}); err != nil {
		t.Fatal(err)
	}
	reply := new(pb.Reply)
	if _, err := conn.Receive(reply); err != nil || reply.GetFailure().GetCode() != pb.Failure_CODE_UNSUPPORTED_VERSION {
		t.Errorf("a daemon of the future got %v, %v", reply, err)
	}
	if _, err := conn.Receive(reply); !errors.Is(err, io.EOF) {
		t.Errorf("then it got %v, %v", reply, err)
	}
}

// What a monitor may link: it must stay small.
func TestDependencies(t *testing.T) {
	out, err := exec.Command("go", "list", "-deps", "github.com/stele-runtime/stele/cmd/stele-monitor").Output()
	if err != nil {
		t.Fatal(err)
	}
	checkDependencies(t, string(out))
}
