package daemon

import (
	"regexp"
	"testing"

	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/stele-runtime/stele/actors/id"
	"github.com/stele-runtime/stele/executors/spec"
	"github.com/stele-runtime/stele/executors/spec/confine"
	"github.com/stele-runtime/stele/projections"
)

// noModes leaves pods as they are.
type noModes struct{}

func (noModes) Sandbox(_ id.Sandbox, _ string, c *runtimeapi.PodSandboxConfig) (*runtimeapi.PodSandboxConfig, func(bool), error) {
	return c, func(bool) {}, nil
}

func (noModes) Container(c *runtimeapi.ContainerConfig, _ *runtimeapi.PodSandboxConfig) *runtimeapi.ContainerConfig {
	return c
}

func levelOf(c *runtimeapi.PodSandboxConfig) string {
	return c.GetLinux().GetSecurityContext().GetSelinuxOptions().GetLevel()
}

func TestLevels(t *testing.T) {
	var recorded []*projections.Sandbox
	l := &Levels{
		UserModes: noModes{}, Sandboxes: func() []*projections.Sandbox { return recorded },
		Host: &spec.HostFacts{Node: confine.Node{SELinux: true, Contexts: confine.Contexts{Process: "u:r:t:s0"}}},
	}
	give := func(pod string, config *runtimeapi.PodSandboxConfig) (*runtimeapi.PodSandboxConfig, func(bool)) {
		t.Helper()
		c, settle, err := l.Sandbox(id.Sandbox(pod), "runc", config)
		if err != nil {
			t.Fatal(err)
		}
		return c, settle
	}
	asked := &runtimeapi.PodSandboxConfig{}
	first, settle := give("a", asked)
	if !regexp.MustCompile(`^s0:c\d+,c\d+$`).MatchString(levelOf(first)) || levelOf(asked) != "" {
		t.Fatalf("level %q; the request has %q", levelOf(first), levelOf(asked))
	}
	// As if the other's number were the same: reserved, then recorded, then removed.
	second, _ := give("a", asked)
	if levelOf(second) == levelOf(first) {
		t.Error("a level that is reserved was given again")
	}
	settle(true)
	recorded = []*projections.Sandbox{{Shown: projections.ShowSandbox(first)}}
	third, settle := give("a", asked)
	if levelOf(third) == levelOf(first) {
		t.Error("a recorded pod's level was given again")
	}
	settle(true)
	recorded = nil
	if fourth, _ := give("a", asked); levelOf(fourth) != levelOf(first) {
		t.Errorf("the level of a pod that is gone is not free: %s, then %s", levelOf(first), levelOf(fourth))
	}
	own := withLevel(asked, "s0:c7")
	if got, _ := give("b", own); levelOf(got) != "s0:c7" {
		t.Errorf("the pod's own level became %s", levelOf(got))
	}
	l.Host.SELinux = false
	if got, _ := give("c", asked); got != asked {
		t.Error("a level on a node without SELinux")
	}
}

func TestLevelAt(t *testing.T) {
	for n, want := range map[int]string{0: "s0:c0,c1", 1020: "s0:c0,c1021", 1021: "s0:c1,c2", levels - 1: "s0:c1020,c1021"} {
		if got := levelAt(n); got != want {
			t.Errorf("%d is %s, want %s", n, got, want)
		}
	}
}
