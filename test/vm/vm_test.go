package vm

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"
)

// core are the tests of test/e2e that see what differs in the guest: cgroup v2, systemd, an
// older kernel, other runtimes.
const core = "TestNode|TestLife|TestNoCgroupParent|TestNamespaces|TestStopContainer|TestKillWhilePodsRun"

// hugepages reserves some of 2 MB.
const hugepages = "hugepages=8"

// testsWithin bounds a run of tests in the guest. Each takes one to three minutes on a quiet machine.
const testsWithin = 20 * time.Minute

// TestNode runs the core on each kind of node in turn, on one machine: it takes longest to
// boot.
func TestNode(t *testing.T) {
	m := start(t, hugepages)
	for _, driver := range []string{"systemd", "cgroupfs"} {
		for runtime, path := range map[string]string{"runc": "/payload/runc", "crun": "/usr/bin/crun"} {
			t.Run(driver+"/"+runtime, func(t *testing.T) {
				tests := core
				if driver == "systemd" {
					tests += "|TestAppArmor|TestNoLimitOfProcesses" // the other driver would change nothing of them
				}
				m.runTests(t, "^("+tests+")$", "STELE_E2E_CGROUP_DRIVER="+driver, "STELE_RUNC="+path)
			})
		}
	}
	t.Run("idle pods", func(t *testing.T) {
		var out bytes.Buffer
		code, err := m.Run(testsWithin+2*time.Minute, &out, nil, "/payload/stats.test", "-test.v", "-test.timeout="+testsWithin.String(), "-test.run", "^TestIdlePodsOfTheKernel$")
		if err != nil || code != 0 {
			t.Fatalf("exit code %d, %v\n%s", code, err, &out)
		}
	})
	t.Run("reboot", func(t *testing.T) {
		var out bytes.Buffer
		if _, err := m.runBinary(&out, "^TestReboot$", "STELE_E2E_REBOOT=before", "STELE_RUNC=/payload/runc"); !errors.Is(err, errRebooted) {
			t.Fatalf("the guest did not reboot: %v\n%s", err, &out)
		}
		m.runTests(t, "^TestReboot$", "STELE_E2E_REBOOT=after", "STELE_RUNC=/payload/runc")
	})
}

// start boots the guest with everything that the tests need.
func start(t *testing.T, kernelArgs string) *Machine {
	t.Helper()
	if testing.Short() {
		t.Skip("an emulated machine takes minutes")
	}
	for _, program := range []string{"qemu-system-x86_64", "mmdebstrap", "mke2fs"} {
		if _, err := exec.LookPath(program); err != nil {
			t.Skipf("%s is not installed: nothing is seen of cgroup v2, systemd and SELinux", program)
		}
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		cache = os.TempDir() // without a home
	}
	guest, err := BuildGuest(t.Context(), filepath.Join(cache, "stele-test", "guest"))
	if unavailable := (*Unavailable)(nil); errors.As(err, &unavailable) {
		t.Skipf("nothing is seen of cgroup v2, systemd and SELinux: %v", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	files, err := payload()
	if err != nil {
		t.Fatal(err)
	}
	boot := func() (*Machine, error) {
		// Not with the test's context, which ends before the cleanup reads the journal.
		return Boot(context.WithoutCancel(t.Context()), guest, Options{Files: files, KernelArgs: kernelArgs, Dir: t.TempDir()})
	}
	m, err := boot()
	if err != nil {
		t.Logf("once more, as the guest did not come up: %v", err)
		m, err = boot()
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			var log bytes.Buffer
			_, err := m.Run(2*time.Minute, &log, nil, "sh", "-c", "journalctl -b --no-pager | tail -100")
			t.Logf("the guest's journal: %v\n%s", err, &log)
		}
		m.End()
	})
	return m
}

// TestLabels runs the tests of SELinux, enforced.
func TestLabels(t *testing.T) {
	m := start(t, "security=selinux selinux=1 enforcing=0")
	// Not from the boot on: the policy knows nothing of the agent's service.
	var out bytes.Buffer
	if code, err := m.Run(time.Minute, &out, nil, "setenforce", "1"); code != 0 || err != nil {
		t.Fatalf("enforce the policy: code %d, %v\n%s", code, err, &out)
	}
	m.runTests(t, "^TestSELinux$", "STELE_E2E_CGROUP_DRIVER=systemd", "STELE_RUNC=/payload/runc")
}

// programs is a directory for what payload builds; dropped with the test binary.
var programs string

func TestMain(m *testing.M) {
	var err error
	if programs, err = os.MkdirTemp("", "stele-vm-"); err != nil {
		fmt.Fprintln(os.Stderr, "a directory for the programs under test:", err)
		os.Exit(1)
	}
	code := m.Run()
	_ = os.RemoveAll(programs)
	os.Exit(code)
}

// payload builds the product and its tests, all static, once.
var payload = sync.OnceValues(func() (map[string]string, error) {
	const module = "github.com/stele-runtime/stele"
	const tags = "containers_image_openpgp,exclude_graphdriver_btrfs"
	files := map[string]string{}
	for name, build := range map[string][]string{
		"agent":         {"build", module + "/test/vm/agent"},
		"stele":         {"build", "-tags", tags, module + "/cmd/stele"},
		"stele-monitor": {"build", module + "/cmd/stele-monitor"},
		"tester":        {"build", module + "/test/e2e/tester"},
		"nriplugin":     {"build", module + "/test/e2e/nriplugin"},
		"e2e.test":      {"test", "-c", "-tags", tags, module + "/test/e2e"},
		"stats.test":    {"test", "-c", module + "/executors/stats"},
	} {
		files[name] = filepath.Join(programs, name)
		last := len(build) - 1
		cmd := exec.Command("go", append(build[:last:last], "-ldflags=-s -w", "-o", files[name], build[last])...)
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := cmd.CombinedOutput(); err != nil {
			return nil, fmt.Errorf("%s: %w\n%s", cmd, err, out)
		}
	}
	for _, from := range []string{"/usr/lib/stele/bin/runc", "/opt/cni/bin/bridge", "/opt/cni/bin/host-local", "/opt/cni/bin/loopback", "/opt/cni/bin/portmap"} {
		files[filepath.Base(from)] = from
	}
	return files, nil
})

// runBinary runs tests of test/e2e in the guest.
func (m *Machine) runBinary(out *bytes.Buffer, names string, env ...string) (code int, err error) {
	env = append(env, "STELE_E2E_PROGRAMS=/payload", "STELE_CNI_BIN=/payload", "HOME=/root")
	// The tests' own deadline comes first, and says where they hang.
	return m.Run(testsWithin+2*time.Minute, out, env, "/payload/e2e.test", "-test.v", "-test.parallel=2", "-test.timeout="+testsWithin.String(), "-test.run", names)
}

// ended matches what a test binary prints at the end of a test, and of a subtest.
var ended = regexp.MustCompile(`(?m)^ *--- (PASS|FAIL|SKIP): (\S+)`)

// runTests runs tests of test/e2e in the guest; each becomes a subtest.
func (m *Machine) runTests(t *testing.T, names string, env ...string) {
	t.Helper()
	var out bytes.Buffer
	code, err := m.runBinary(&out, names, env...)
	if err != nil {
		t.Fatalf("%v\n%s", err, &out)
	}
	seen := ended.FindAllStringSubmatch(out.String(), -1)
	for _, test := range seen {
		t.Run(strings.TrimPrefix(test[2], "Test"), func(t *testing.T) {
			switch test[1] {
			case "FAIL":
				t.Fail()
			case "SKIP":
				t.Skip("skipped in the guest")
			}
		})
	}
	if code != 0 || len(seen) == 0 {
		t.Errorf("the tests in the guest ended with %d:\n%s", code, &out)
	}
}
