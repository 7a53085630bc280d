package monitor_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// tools are the programs that the tests run, found or built once.
var tools struct {
	// static is a monitor that runs in a container too, whatever monitor is.
	monitor, static, runc, busybox string
}

func TestMain(m *testing.M) {
	if path := os.Getenv(strangerVariable); path != "" {
		os.Exit(beStranger(path))
	}
	os.Exit(runTests(m))
}

func runTests(m *testing.M) int {
	dir, err := os.MkdirTemp("", "stele-monitor-test-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	tools.static, tools.monitor = filepath.Join(dir, "static"), filepath.Join(dir, "stele-monitor")
	if err := build(tools.static, "CGO_ENABLED=0"); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	if raceDetector {
		err = build(tools.monitor, "CGO_ENABLED=1", "-race")
	} else {
		err = os.Link(tools.static, tools.monitor)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	tools.runc = find("runc", os.Getenv("STELE_RUNC"), "/usr/lib/stele/bin/runc")
	tools.busybox = find("busybox", "/bin/busybox")
	return m.Run()
}

// build builds the monitor.
func build(path, env string, flags ...string) error {
	args := append([]string{"build", "-o", path}, flags...)
	cmd := exec.Command("go", append(args, "github.com/stele-runtime/stele/cmd/stele-monitor")...)
	cmd.Env = append(os.Environ(), env)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("build the monitor: %w\n%s", err, out)
	}
	return nil
}

// find returns the first of the paths that exists, or else what PATH has.
func find(name string, paths ...string) string {
	for _, path := range paths {
		if _, err := os.Stat(path); path != "" && err == nil {
			return path
		}
	}
	path, err := exec.LookPath(name)
	if err != nil {
		return ""
	}
	return path
}
