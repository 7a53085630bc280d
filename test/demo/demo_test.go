package main

import (
	"bufio"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// programs builds what `make run` runs.
func programs(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	for name, pkg := range map[string]string{
		"stele": "cmd/stele", "stele-monitor": "cmd/stele-monitor", "stele-demo": "test/demo", "stele-demo-web": "test/demo/web",
	} {
		cmd := exec.Command("go", "build", "-tags", "containers_image_openpgp,exclude_graphdriver_btrfs",
			"-o", filepath.Join(dir, name), "github.com/stele-runtime/stele/"+pkg)
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("build %s: %v\n%s", name, err, out)
		}
	}
	return dir
}

// TestDemo tells the whole story, and again with an interruption at three of its
// chapters: when there is no pod yet, when there is half of one, and when there is
// no daemon. Nothing may be left.
func TestDemo(t *testing.T) {
	dir := programs(t)
	t.Run("to the end", func(t *testing.T) {
		cmd := exec.Command(filepath.Join(dir, "stele-demo"))
		cmd.Env = append(os.Environ(), "DEMO_EXIT=1")
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		for _, want := range []string{"Hello from pod web: request 3", "demo/web: pod ready", "CONTAINER_RUNNING", "crictl ps", "are gone"} {
			if !strings.Contains(string(out), want) {
				t.Errorf("the demo doesn't say %q:\n%s", want, out)
			}
		}
		nothingLeft(t, string(out))
	})
	for _, chapter := range []string{"Start the daemon", "Run a pod", "Kill the daemon with SIGKILL, and start another"} {
		t.Run("interrupted at "+chapter, func(t *testing.T) {
			cmd := exec.Command(filepath.Join(dir, "stele-demo"))
			stdout, err := cmd.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			cmd.Stderr = cmd.Stdout
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			var out strings.Builder
			interrupted := false
			for lines := bufio.NewScanner(stdout); lines.Scan(); {
				out.WriteString(lines.Text() + "\n")
				if lines.Text() == "== "+chapter {
					interrupted = true
					if err := cmd.Process.Signal(syscall.SIGINT); err != nil {
						t.Error(err)
					}
				}
			}
			if err := cmd.Wait(); err != nil {
				t.Errorf("%v\n%s", err, out.String())
			}
			if !interrupted {
				t.Errorf("there is no such chapter:\n%s", out.String())
			}
			nothingLeft(t, out.String())
		})
	}
}

func nothingLeft(t *testing.T, out string) {
	t.Helper()
	for _, pattern := range []string{"/run/stele-demo*", "/var/tmp/stele-demo*", "/sys/class/net/stele-demo*", "/sys/fs/cgroup/*/stele-demo*"} {
		if left, err := filepath.Glob(pattern); err != nil || len(left) > 0 {
			t.Errorf("left behind: %v, %v\n%s", left, err, out)
		}
	}
}
