package monitor_test

import (
	"strings"
	"testing"
)

// checkDependencies fails for every package that has no place in the monitor.
func checkDependencies(t *testing.T, packages string) {
	t.Helper()
	allowed := []string{
		"github.com/stele-runtime/stele/cmd/stele-monitor",
		"github.com/stele-runtime/stele/executors/lean",
		"github.com/stele-runtime/stele/executors/monitor/",
		"github.com/stele-runtime/stele/proto/monitor/",
		"golang.org/x/sys/",
		"google.golang.org/protobuf/",
	}
	for name := range strings.Lines(packages) {
		name = strings.TrimSpace(name)
		first, _, _ := strings.Cut(name, "/")
		ok := !strings.Contains(first, ".") && name != "net" && !strings.HasPrefix(name, "net/")
		for _, prefix := range allowed {
			ok = ok || strings.HasPrefix(name, prefix)
		}
		if !ok {
			t.Errorf("stele-monitor links %s: it is to stay small, and has no use for networks, gRPC, Kubernetes or images", name)
		}
	}
}
