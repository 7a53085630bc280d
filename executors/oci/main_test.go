package oci_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// tools are the programs that the tests run, found or built once.
var tools struct{ monitor, runc, busybox string }

func TestMain(m *testing.M) { os.Exit(runTests(m)) }

func runTests(m *testing.M) int {
	dir, err := os.MkdirTemp("", "stele-oci-test-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	tools.monitor = filepath.Join(dir, "stele-monitor")
	build := exec.Command("go", "build", "-o", tools.monitor, "github.com/stele-runtime/stele/cmd/stele-monitor")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "build the monitor: %v\n%s", err, out)
		return 1
	}
	tools.runc = find("runc", os.Getenv("STELE_RUNC"), "/usr/lib/stele/bin/runc")
	tools.busybox = find("busybox", "/bin/busybox")
	return m.Run()
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
