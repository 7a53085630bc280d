package daemon

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/stele-runtime/stele/actors/fault"
	"github.com/stele-runtime/stele/actors/id"
	"github.com/stele-runtime/stele/actors/sandbox"
	"github.com/stele-runtime/stele/executors/spec/usermode"
	"github.com/stele-runtime/stele/executors/subids"
	"github.com/stele-runtime/stele/projections"
)

const usersAnnotation = "io.kubernetes.cri-o.userns-mode"

// modes has 30 ids for pods, and the pods that it is given.
func modes(t *testing.T, pods *[]*projections.Sandbox) *UserModes {
	path := filepath.Join(t.TempDir(), "subids")
	if err := os.WriteFile(path, []byte("containers:200000:30\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	return &UserModes{
		Allowed: map[string][]string{"runc": usermode.Keys()}, Rules: usermode.Rules{MinUID: -1, MinGID: -1},
		IDs:       subids.Files{UIDs: path, GIDs: path, Owner: "containers"},
		Sandboxes: func() []*projections.Sandbox { return *pods },
	}
}

func asking(value string) *runtimeapi.PodSandboxConfig {
	return &runtimeapi.PodSandboxConfig{Annotations: map[string]string{usersAnnotation: value}}
}

// named is asking, by a pod of that name.
func named(name, value string) *runtimeapi.PodSandboxConfig {
	config := asking(value)
	config.Metadata = &runtimeapi.PodSandboxMetadata{Name: name, Namespace: "shop", Uid: "uid-" + name}
	return config
}

// recorded is a pod as the log has it.
func recorded(pod id.Sandbox, config *runtimeapi.PodSandboxConfig) *projections.Sandbox {
	s := &projections.Sandbox{Shown: projections.ShowSandbox(config)}
	s.State.ID = pod
	s.State.Name = sandbox.Name{Name: config.GetMetadata().GetName(), Namespace: "shop", UID: config.GetMetadata().GetUid()}
	return s
}

// first is the first id that a pod got, 0 for none.
func first(config *runtimeapi.PodSandboxConfig) uint32 {
	for _, m := range config.GetLinux().GetSecurityContext().GetNamespaceOptions().GetUsernsOptions().GetUids() {
		return m.HostId
	}
	return 0
}

func TestUserModes(t *testing.T) {
	var pods []*projections.Sandbox
	u := modes(t, &pods)
	run := func(pod id.Sandbox) (*runtimeapi.PodSandboxConfig, func(bool)) {
		t.Helper()
		config, settle, err := u.Sandbox(pod, "runc", named(string(pod), "auto:size=10"))
		if err != nil {
			t.Fatal(err)
		}
		return config, settle
	}
	// Before they are recorded, and after.
	a, settleA := run("a")
	b, settleB := run("b")
	pods = append(pods, recorded("a", a))
	settleA(true)
	c, settleC := run("c")
	if first(a) != 200000 || first(b) != 200010 || first(c) != 200020 {
		t.Errorf("%v, %v, %v", a, b, c)
	}
	// Repeated requests need none: of a recorded pod, and of one that is not yet.
	for name, want := range map[string]uint32{"a": 200000, "c": 200020} {
		if again, settle, err := u.Sandbox(id.Sandbox("again-"+name), "runc", named(name, "auto:size=10")); err != nil || first(again) != want {
			t.Errorf("%s again: %v, %v", name, again, err)
		} else {
			settle(true)
		}
	}
	if _, _, err := u.Sandbox("d", "runc", named("d", "auto:size=1")); fault.KindOf(err) != fault.Invalid || !strings.Contains(err.Error(), usersAnnotation) {
		t.Errorf("more than there are: %v", err)
	}
	// Refused: free at once.
	settleC(true)
	if d, settle := run("d"); first(d) != 200020 {
		t.Errorf("%v", d)
	} else {
		settle(true)
	}
	// The caller left: it may be recorded yet.
	settleB(false)
	if d, settle := run("d"); first(d) != 200020 {
		t.Errorf("%v", d)
	} else {
		settle(true)
	}
	pods = append(pods, recorded("b", b))
	_, settle := run("e")
	settle(true)
	// Removed pods leave theirs.
	pods = nil
	if e, settle := run("e"); first(e) != 200000 {
		t.Errorf("%v", e)
	} else {
		settle(true)
	}
	if len(u.reserved) > 0 {
		t.Errorf("still reserved: %v", u.reserved)
	}
}

// What does not ask, or may not, stays as it is.
func TestUserModesLeaveAlone(t *testing.T) {
	u := modes(t, new([]*projections.Sandbox))
	kubelets := withUsers(asking("auto"), &runtimeapi.UserNamespace{Mode: runtimeapi.NamespaceMode_POD, Uids: []*runtimeapi.IDMapping{{HostId: 1000, Length: 10}}})
	for name, c := range map[string]struct {
		handler string
		config  *runtimeapi.PodSandboxConfig
	}{
		"no annotation": {"runc", &runtimeapi.PodSandboxConfig{}}, "not allowed": {"crun", asking("auto")}, "has one": {"runc", kubelets},
		"another key": {"runc", &runtimeapi.PodSandboxConfig{Annotations: map[string]string{usersAnnotation + ".x": "auto"}}},
	} {
		if got, _, err := u.Sandbox("a", c.handler, c.config); err != nil || got != c.config {
			t.Errorf("%s: %v, %v", name, got, err)
		}
	}
	if _, _, err := u.Sandbox("a", "runc", asking("host")); fault.KindOf(err) != fault.Invalid {
		t.Errorf("a bad mode: %v", err)
	}
	u.IDs.Owner = "nobody-has-this-name"
	if _, _, err := u.Sandbox("a", "runc", asking("auto")); fault.KindOf(err) != fault.Precondition || !strings.Contains(err.Error(), usersAnnotation) {
		t.Errorf("no ids: %v", err)
	}
	if _, settle, err := u.Sandbox("a", "runc", withUsers(asking("auto"), &runtimeapi.UserNamespace{Mode: runtimeapi.NamespaceMode_NODE})); err == nil {
		settle(true)
		t.Error("the kubelet's NODE is what it sends when the pod says nothing, and has no effect")
	}
}

func TestUserModesOfContainers(t *testing.T) {
	u := modes(t, new([]*projections.Sandbox))
	users := &runtimeapi.UserNamespace{
		Mode: runtimeapi.NamespaceMode_POD,
		Uids: []*runtimeapi.IDMapping{{HostId: 1000, Length: 1}}, Gids: []*runtimeapi.IDMapping{{ContainerId: 5, HostId: 2000, Length: 2}},
	}
	pod := withUsers(asking("auto"), users)
	as := func(options *runtimeapi.UserNamespace) *runtimeapi.ContainerConfig {
		return &runtimeapi.ContainerConfig{Linux: &runtimeapi.LinuxContainerConfig{SecurityContext: &runtimeapi.LinuxContainerSecurityContext{
			RunAsUser: &runtimeapi.Int64Value{Value: 1000}, RunAsGroup: &runtimeapi.Int64Value{Value: 2001}, SupplementalGroups: []int64{2000, 7},
			NamespaceOptions: &runtimeapi.NamespaceOption{UsernsOptions: options},
		}}}
	}
	asked := as(&runtimeapi.UserNamespace{Mode: runtimeapi.NamespaceMode_NODE})
	got := u.Container(asked, pod)
	want := as(users)
	s := want.Linux.SecurityContext
	s.RunAsUser.Value, s.RunAsGroup.Value, s.SupplementalGroups = 0, 6, []int64{5, 7}
	if !proto.Equal(got, want) || !proto.Equal(asked, as(&runtimeapi.UserNamespace{Mode: runtimeapi.NamespaceMode_NODE})) {
		t.Errorf("%v\nwant %v\nasked for %v", got, want, asked)
	}
	kubelets := as(users)
	if u.Container(kubelets, pod) != kubelets {
		t.Error("the kubelet's own mappings were changed")
	}
	for _, other := range []*runtimeapi.PodSandboxConfig{asking("auto"), withUsers(&runtimeapi.PodSandboxConfig{}, users)} {
		if u.Container(asked, other) != asked {
			t.Errorf("a container of %v was changed", other)
		}
	}
}
