package e2e

import (
	"encoding/json"
	"os"
	"strings"
	"testing"

	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

func TestVersionAndStatus(t *testing.T) {
	t.Parallel()
	h := New(t, programs, Options{Handlers: map[string]string{"second": programs.Runc}})

	version, err := h.Runtime.Version(h.Context(), &runtimeapi.VersionRequest{})
	if err != nil {
		t.Fatal(err)
	}
	if version.RuntimeName != "stele" || version.RuntimeVersion == "" || version.RuntimeApiVersion != "v1" {
		t.Errorf("Version: %v", version)
	}
	if shown := h.Stele("version"); !strings.Contains(shown, "stele") {
		t.Errorf("stele version: %q", shown)
	}

	config, err := h.Runtime.RuntimeConfig(h.Context(), &runtimeapi.RuntimeConfigRequest{})
	if err != nil {
		t.Fatal(err)
	}
	if config.GetLinux() == nil {
		t.Errorf("RuntimeConfig has no cgroup driver: %v", config)
	}

	status, err := h.Runtime.Status(h.Context(), &runtimeapi.StatusRequest{Verbose: true})
	if err != nil {
		t.Fatal(err)
	}
	handlers := map[string]bool{}
	for _, handler := range status.RuntimeHandlers {
		handlers[handler.Name] = true
	}
	// To the kubelet the entry with the empty name is the default.
	for _, name := range []string{"", "runc", "second"} {
		if !handlers[name] {
			t.Errorf("Status tells the handlers %v, want %q among them", status.RuntimeHandlers, name)
		}
	}
	if len(status.Info) == 0 {
		t.Error("a verbose Status has no information")
	}
	for key, value := range status.Info {
		if !json.Valid([]byte(value)) {
			t.Errorf("the information %q is not JSON: %q", key, value)
		}
	}
	if quiet, err := h.Runtime.Status(h.Context(), &runtimeapi.StatusRequest{}); err != nil || len(quiet.Info) != 0 {
		t.Errorf("Status has information that nobody asked for: %v, %v", quiet, err)
	}
}

// Without a CNI configuration the node reports that its network is not ready, and why; it
// notices a new one.
func TestNetworkReadinessFollowsTheConfiguration(t *testing.T) {
	t.Parallel()
	h := New(t, programs, Options{})
	conf := h.ConfDir + "/10-e2e.conflist"
	if err := os.Remove(conf); err != nil {
		t.Fatal(err)
	}
	network := func() *runtimeapi.RuntimeCondition {
		status, err := h.Runtime.Status(h.Context(), &runtimeapi.StatusRequest{})
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range status.Status.Conditions {
			if c.Type == runtimeapi.NetworkReady {
				return c
			}
		}
		t.Fatalf("Status has no %s: %v", runtimeapi.NetworkReady, status)
		return nil
	}
	h.Eventually("the network is not ready any more", func() bool { return !network().Status })
	if c := network(); c.Reason == "" || !strings.Contains(c.Message, h.ConfDir) {
		t.Errorf("the condition doesn't say where it looked: %v", c)
	}
	_, err := h.TryRunPod(h.PodConfig("early"))
	if err == nil {
		t.Error("a pod ran without a network")
	}
	h.WriteNetwork()
	h.Eventually("the network is ready again", func() bool { return network().Status })
	h.RunPod(h.PodConfig("later"))
}
