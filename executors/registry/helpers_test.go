package registry

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"golang.org/x/sys/unix"

	"github.com/stele-runtime/stele/executors/storage"
	"github.com/stele-runtime/stele/test/images"
)

func TestMain(m *testing.M) {
	if storage.Reexec() {
		return
	}
	if text := os.Getenv(childVariable); text != "" {
		pullForEver(text)
		return
	}
	// Layers are unpacked by copies of the test program, which under the race detector
	// would each sleep for a second when they end.
	_ = os.Setenv("GORACE", "atexit_sleep_ms=0 "+os.Getenv("GORACE"))
	os.Exit(m.Run())
}

// node is a store and a puller, as in a daemon, set up for a registry.
type node struct {
	root   string
	store  *storage.Store
	puller *Puller
}

type nodeOptions struct {
	Root, RegistriesConf, RegistriesConfDir, PolicyPath string

	// Change changes the puller's options; a child process doesn't get it.
	Change func(*Options) `json:"-"`
}

// with changes the options of a node's puller.
func with(change func(*Options)) func(*nodeOptions) {
	return func(o *nodeOptions) { o.Change = change }
}

func newNode(t testing.TB, server *images.Server, change ...func(*nodeOptions)) *node {
	t.Helper()
	root, err := os.MkdirTemp("", "stele-registry-")
	if err != nil {
		t.Fatal(err)
	}
	// The store syncs a lot, which these tests, unlike benchmarks, need not wait for.
	_, bench := t.(*testing.B)
	onTmpfs := !bench
	if onTmpfs {
		if err := unix.Mount("stele-registry", root, "tmpfs", 0, "mode=0700"); err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() {
		mounts, err := os.ReadFile("/proc/self/mountinfo")
		if err != nil {
			t.Error(err)
		}
		for line := range strings.Lines(string(mounts)) {
			if at := strings.Fields(line)[4]; strings.HasPrefix(at, root+"/") {
				t.Errorf("%s is still mounted", at)
				_ = unix.Unmount(at, unix.MNT_DETACH)
			}
		}
		if onTmpfs {
			if err := unix.Unmount(root, unix.MNT_DETACH); err != nil {
				t.Errorf("unmount %s: %v", root, err)
			}
		}
		if err := os.RemoveAll(root); err != nil {
			t.Error(err)
		}
	})
	options := nodeOptions{Root: root, RegistriesConf: server.RegistriesConf, RegistriesConfDir: server.RegistriesConfDir}
	for _, f := range change {
		f(&options)
	}
	n, err := openNode(options)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(n.store.Close)
	return n
}

func openNode(options nodeOptions) (*node, error) {
	quiet := slog.New(slog.NewTextHandler(io.Discard, nil))
	dir := filepath.Join(options.Root, "images")
	store, err := storage.Open(storage.Options{
		GraphRoot:  filepath.Join(options.Root, "storage"),
		RunRoot:    filepath.Join(options.Root, "run"),
		ShortNames: ShortNames(options.RegistriesConf, options.RegistriesConfDir, dir),
		Logger:     quiet,
	})
	if err != nil {
		return nil, err
	}
	pullerOptions := Options{
		Store:             store.Images,
		Dir:               dir,
		RegistriesConf:    options.RegistriesConf,
		RegistriesConfDir: options.RegistriesConfDir,
		PolicyPath:        options.PolicyPath,
		AuthFile:          filepath.Join(options.Root, "auth.json"),
		RetryDelay:        time.Millisecond,
		Logger:            quiet,
	}
	if options.Change != nil {
		options.Change(&pullerOptions)
	}
	puller, err := New(pullerOptions)
	if err != nil {
		store.Close()
		return nil, err
	}
	return &node{root: options.Root, store: store, puller: puller}, nil
}

func (n *node) pull(t testing.TB, ref string) Pulled {
	t.Helper()
	pulled, err := n.puller.Pull(context.Background(), PullRequest{Ref: ref})
	if err != nil {
		t.Fatal(err)
	}
	return pulled
}

// temporary lists leftovers of pulls in the temporary directory, except layers that are
// kept for a retry.
func (n *node) temporary(t *testing.T) []string {
	t.Helper()
	left, err := filepath.Glob(filepath.Join(n.root, "images", tempDir, "*"))
	if err != nil {
		t.Fatal(err)
	}
	return slices.DeleteFunc(left, func(path string) bool { return filepath.Base(path) == keptDir })
}

// expectNoImages checks that a failed pull left no image.
func (n *node) expectNoImages(t *testing.T) {
	t.Helper()
	if left := n.temporary(t); len(left) > 0 {
		t.Errorf("temporary files are left: %q", left)
	}
	listed, err := n.store.Images.List(context.Background())
	if err != nil || len(listed) > 0 {
		t.Errorf("images are %+v, %v; want none", listed, err)
	}
}

// small is an image with as many layers as texts.
func small(t testing.TB, platform v1.Platform, texts ...string) v1.Image {
	t.Helper()
	spec := images.Spec{Platform: platform}
	for i, text := range texts {
		spec.Layers = append(spec.Layers, []images.File{
			{Path: fmt.Sprintf("file%d", i), Mode: 0o644, Content: []byte(text)},
		})
	}
	return images.Build(t, spec)
}

func expectKind(t *testing.T, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Errorf("error is %v, want of the kind %v", err, want)
	}
	var e *Error
	if !errors.As(err, &e) {
		t.Errorf("error is a %T, want *Error", err)
	}
}

// A child is a copy of the test program that pulls one image again and again until
// it is killed.
const childVariable = "STELE_REGISTRY_TEST_CHILD"

type childJob struct {
	Options nodeOptions
	Ref     string
	Once    bool // ends after the first pull
}

func pullForEver(text string) {
	var job childJob
	if err := json.Unmarshal([]byte(text), &job); err != nil {
		panic(err)
	}
	n, err := openNode(job.Options)
	if err != nil {
		panic(err)
	}
	fmt.Println("ready")
	for {
		pulled, err := n.puller.Pull(context.Background(), PullRequest{Ref: job.Ref})
		if err != nil {
			panic(err)
		}
		if job.Once {
			return
		}
		if err := n.store.Images.Remove(context.Background(), pulled.ImageID); err != nil {
			panic(err)
		}
	}
}

// runChild runs a child that ends by itself.
func runChild(t *testing.T, job childJob, environment ...string) (output []byte, err error) {
	t.Helper()
	text, err := json.Marshal(job)
	if err != nil {
		t.Fatal(err)
	}
	command := exec.Command("/proc/self/exe")
	command.Env = append(append(os.Environ(), environment...), childVariable+"="+string(text))
	return command.CombinedOutput()
}

// startChild starts a child; kill ends it with SIGKILL.
func startChild(t *testing.T, job childJob) (kill func()) {
	t.Helper()
	text, err := json.Marshal(job)
	if err != nil {
		t.Fatal(err)
	}
	command := exec.Command("/proc/self/exe")
	command.Env = append(os.Environ(), childVariable+"="+string(text))
	var stderr strings.Builder
	command.Stderr = &stderr
	stdout, err := command.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	if line, err := bufio.NewReader(stdout).ReadString('\n'); err != nil || line != "ready\n" {
		_ = command.Wait()
		t.Fatalf("child said %q, %v: %s", line, err, stderr.String())
	}
	return func() {
		if err := command.Process.Kill(); err != nil {
			t.Errorf("kill child: %v", err)
		}
		if _ = command.Wait(); command.ProcessState.Exited() {
			t.Errorf("child ended by itself: %s", stderr.String())
		}
	}
}
