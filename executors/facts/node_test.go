package facts

import (
	"os"
	"strings"
	"testing"
)

func TestDetectHost(t *testing.T) {
	h, err := DetectHost()
	if err != nil {
		t.Fatal(err)
	}
	if !h.Has("CAP_CHOWN") {
		t.Errorf("capabilities: %v", h.Capabilities)
	}
	if h.Has("CAP_SYS_RESOURCE") != (h.MaxRlimits == nil) {
		t.Errorf("CAP_SYS_RESOURCE %v, limits %v", h.Has("CAP_SYS_RESOURCE"), h.MaxRlimits)
	}
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		t.Fatal(err)
	}
	if h.Seccomp != strings.Contains(string(status), "Seccomp_filters:") {
		t.Errorf("seccomp %v", h.Seccomp)
	}
}
