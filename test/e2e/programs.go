package e2e

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/stele-runtime/stele/test/images"
)

// buildTags are the product's, as in the Makefile.
const buildTags = "containers_image_openpgp,exclude_graphdriver_btrfs"

// Programs are what tests run.
type Programs struct {
	// Stele and Monitor are the product.
	Stele, Monitor string
	// Tester runs in containers; as "flaky" in PluginDir it is a CNI plugin.
	Tester, PluginDir string
	// NRIPlugin is an NRI plug-in.
	NRIPlugin string
	// Runc is the OCI runtime, PluginDirs are where CNI plugins are.
	Runc       string
	PluginDirs []string

	imagesOnce      sync.Once
	busybox, tester v1.Image
}

// BuildPrograms builds the programs into dir, the daemon with the race detector
// if race is set, and finds those that come from elsewhere.
func BuildPrograms(dir string, race bool) (*Programs, error) {
	const module = "github.com/stele-runtime/stele"
	p := programsIn(dir)
	daemon := []string{"build", "-tags", buildTags, "-o", p.Stele}
	if race {
		daemon = append(daemon, "-race")
	}
	for _, build := range []struct {
		cgo  bool
		args []string
	}{
		{race, append(daemon, module+"/cmd/stele")},
		{false, []string{"build", "-o", p.Monitor, module + "/cmd/stele-monitor"}},
		{false, []string{"build", "-o", p.Tester, module + "/test/e2e/tester"}},
		{false, []string{"build", "-o", p.NRIPlugin, module + "/test/e2e/nriplugin"}},
	} {
		cmd := exec.Command("go", build.args...)
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
		if build.cgo {
			cmd.Env = append(os.Environ(), "CGO_ENABLED=1")
		}
		if out, err := cmd.CombinedOutput(); err != nil {
			return nil, fmt.Errorf("go %s: %w\n%s", strings.Join(build.args, " "), err, out)
		}
	}
	return p, p.find()
}

// FoundPrograms are in dir, for a machine without Go.
func FoundPrograms(dir string) (*Programs, error) {
	p := programsIn(dir)
	return p, p.find()
}

func programsIn(dir string) *Programs {
	return &Programs{
		Stele: filepath.Join(dir, "stele"), Monitor: filepath.Join(dir, "stele-monitor"),
		Tester: filepath.Join(dir, "tester"), PluginDir: filepath.Join(dir, "plugins"), NRIPlugin: filepath.Join(dir, "nriplugin"),
	}
}

// find makes the plugin of the tests, and finds the runtime and the other plugins.
func (p *Programs) find() (err error) {
	if err := os.MkdirAll(p.PluginDir, 0o755); err != nil {
		return err
	}
	if err := os.Link(p.Tester, filepath.Join(p.PluginDir, "flaky")); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	if p.Runc, err = findRunc(); err != nil {
		return err
	}
	for _, dir := range []string{os.Getenv("STELE_CNI_BIN"), "/opt/cni/bin", "/usr/lib/cni"} {
		if _, err := os.Stat(filepath.Join(dir, "bridge")); dir != "" && err == nil {
			p.PluginDirs = append(p.PluginDirs, dir)
		}
	}
	if len(p.PluginDirs) == 0 {
		return errors.New("no CNI plugins: `make deps` installs them")
	}
	p.PluginDirs = append(p.PluginDirs, p.PluginDir)
	return nil
}

func findRunc() (string, error) {
	for _, candidate := range []string{os.Getenv("STELE_RUNC"), "/usr/lib/stele/bin/runc", "runc"} {
		if path, err := exec.LookPath(candidate); err == nil {
			return filepath.Abs(path)
		}
	}
	return "", errors.New("no runc: `make deps` installs it")
}

// images makes the images that every daemon gets, once.
func (p *Programs) images(t testing.TB) (busybox, tester v1.Image) {
	t.Helper()
	p.imagesOnce.Do(func() {
		p.busybox = images.Busybox(t, v1.Config{})
		p.tester = images.FromProgram(t, p.Tester, v1.Config{})
	})
	return p.busybox, p.tester
}
