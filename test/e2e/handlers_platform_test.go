package e2e

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"google.golang.org/grpc/codes"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/stele-runtime/stele/test/images"
)

// TestPlatformRuntimes: a container of an image for another platform is made, used and removed by
// the handler's runtime for it, also by the next daemon; others are not.
func TestPlatformRuntimes(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	log, program := filepath.Join(dir, "log"), filepath.Join(dir, "wasm")
	script := "#!/bin/sh\necho \"$*\" >>" + log + "\nexec " + programs.Runc + " \"$@\"\n"
	if err := os.WriteFile(program, []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	h := New(t, programs, Options{Config: "[runtime.handlers.runc]\npath = 'runc'\nplatform_runtime_paths = {'wasi/wasm32' = '" + program + "', 'plan9/mips' = '" + dir + "/none'}\n"})
	name := func(platform v1.Platform) string {
		image := images.Busybox(t, v1.Config{})
		file, err := image.ConfigFile()
		if err != nil {
			t.Fatal(err)
		}
		file = file.DeepCopy()
		file.OS, file.Architecture = platform.OS, platform.Architecture
		if image, err = mutate.ConfigFile(image, file); err != nil {
			t.Fatal(err)
		}
		name := h.Registry.Push(t, platform.OS+"/"+platform.Architecture+":latest", image)
		h.Pull(name)
		return name
	}
	pod := h.RunPod(h.PodConfig("platforms"))
	plain := pod.Run(h.ContainerConfig("plain"))
	config := h.ContainerConfig("wasm")
	config.Image.Image = name(v1.Platform{OS: "wasi", Architecture: "wasm32"})
	id := pod.Run(config)
	if got := h.Exec(id, "echo", "hello"); got != "hello" {
		t.Errorf("the command says %q", got)
	}
	h.Daemon.Kill9()
	h.Daemon.Start()
	h.Exec(id, "true")
	h.Exec(plain, "true")
	h.StopContainer(id, 0)
	h.RemoveContainer(id)
	said, err := os.ReadFile(log)
	if err != nil {
		t.Fatal(err)
	}
	for _, command := range []string{" create ", " exec "} {
		if !strings.Contains(string(said), command) {
			t.Errorf("the platform's runtime was not called for%s:\n%s", command, said)
		}
	}
	if strings.Contains(string(said), plain) {
		t.Errorf("the platform's runtime was called for another container:\n%s", said)
	}
	config = h.ContainerConfig("absent")
	config.Image.Image = name(v1.Platform{OS: "plan9", Architecture: "mips"})
	_, err = pod.TryCreate(config)
	h.Refused(err, codes.Unavailable, "runtime_handler", "plan9/mips", dir+"/none")
	if status, err := h.Runtime.Status(h.Context(), &runtimeapi.StatusRequest{}); err != nil || !status.Status.Conditions[0].Status {
		t.Errorf("the node is not ready: %v, %v", status, err)
	}
}
