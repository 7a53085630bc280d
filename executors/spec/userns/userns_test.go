package userns

import (
	"errors"
	"strings"
	"testing"

	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/stele-runtime/stele/actors/fault"
	"github.com/stele-runtime/stele/executors/spec/refusal"
)

func podOf(users *cri.UserNamespace) *cri.PodSandboxConfig {
	return &cri.PodSandboxConfig{Linux: &cri.LinuxPodSandboxConfig{SecurityContext: &cri.LinuxSandboxSecurityContext{
		NamespaceOptions: &cri.NamespaceOption{UsernsOptions: users},
	}}}
}

// two are ranges in two pieces, as no kubelet of today sends them.
func two() *cri.UserNamespace {
	return &cri.UserNamespace{
		Mode: cri.NamespaceMode_POD,
		Uids: []*cri.IDMapping{{ContainerId: 100, HostId: 5000, Length: 10}, {HostId: 200000, Length: 100}},
		Gids: []*cri.IDMapping{{HostId: 300000, Length: 4294667295}},
	}
}

func TestTranslation(t *testing.T) {
	users := Of(podOf(two()))
	for inside, want := range map[uint32]uint32{0: 200000, 99: 200099, 100: 5000, 109: 5009} {
		if got, mapped := users.UID(inside); got != want || !mapped {
			t.Errorf("user %d is %d on the node (%t), want %d", inside, got, mapped, want)
		}
	}
	for _, inside := range []uint32{110, 4294967295} {
		if got, mapped := users.UID(inside); mapped {
			t.Errorf("user %d, who is not mapped, is %d", inside, got)
		}
	}
	if got, mapped := users.GID(4294667294); got != 4294967294 || !mapped {
		t.Errorf("the last group is %d (%t)", got, mapped)
	}
	if uid, gid := users.Root(); uid != 200000 || gid != 300000 {
		t.Errorf("root is %d:%d", uid, gid)
	}
}

// Pods without options, as of older kubelets, and of the mode NODE have the node's users.
func TestNodesUsers(t *testing.T) {
	for _, pod := range []*cri.PodSandboxConfig{nil, {}, podOf(nil), podOf(&cri.UserNamespace{Mode: cri.NamespaceMode_NODE})} {
		users := Of(pod)
		if users != nil {
			t.Fatalf("%v has %+v", pod, users)
		}
		if got, mapped := users.UID(1000); got != 1000 || !mapped {
			t.Errorf("user 1000 is %d (%t)", got, mapped)
		}
		if uid, gid := users.Root(); uid != 0 || gid != 0 {
			t.Errorf("root is %d:%d", uid, gid)
		}
		if !users.Same(nil, nil) || users.Same(two().Uids, two().Gids) {
			t.Error("the node's users have mappings")
		}
	}
}

func TestSame(t *testing.T) {
	users := Of(podOf(two()))
	if !users.Same(two().Uids, two().Gids) || !users.Same(nil, nil) || users.Same(two().Gids, two().Uids) || users.Same(two().Uids, nil) {
		t.Error("mappings are told apart wrongly")
	}
}

func TestAcceptedRanges(t *testing.T) {
	for _, ranges := range [][]*cri.IDMapping{
		{{HostId: 1, Length: 1}},
		{{HostId: 4294967294, Length: 1}},
		{{HostId: 1, Length: 4294967294}},
		two().Uids,
		// Side by side, in any order.
		{{ContainerId: 20, HostId: 1000, Length: 10}, {HostId: 1020, Length: 10}, {ContainerId: 10, HostId: 1010, Length: 10}},
	} {
		if err := CheckRanges("uids", ranges); err != nil {
			t.Errorf("%v: %v", ranges, err)
		}
	}
}

func TestRefusedRanges(t *testing.T) {
	for want, ranges := range map[string][]*cri.IDMapping{
		"uids":                 {},
		"uids[0].length":       {{HostId: 1}},
		"uids[1].length":       {{HostId: 1, Length: 1}, nil},
		"uids[0].host_id":      {{HostId: 4294967295, Length: 1}},
		"uids[0].container_id": {{ContainerId: 1, HostId: 1, Length: 4294967295}},
		"uids[1].host_id":      {{HostId: 10, Length: 1}, {ContainerId: 1, Length: 1}},
		"uids.host_id":         {{HostId: 10, Length: 10}, {ContainerId: 10, HostId: 5, Length: 6}},
		"uids.container_id":    {{HostId: 10, Length: 10}, {ContainerId: 9, HostId: 50, Length: 1}},
	} {
		err := CheckRanges("uids", ranges)
		f, ok := errors.AsType[*refusal.FieldError](err)
		if !ok || f.Field != want || f.Kind != fault.Invalid {
			t.Errorf("%v: %v, want %s", ranges, err, want)
		}
	}
}

func TestContainersOptions(t *testing.T) {
	of := func(users *cri.UserNamespace) *cri.NamespaceOption { return &cri.NamespaceOption{UsernsOptions: users} }
	node := &cri.UserNamespace{Mode: cri.NamespaceMode_NODE}
	other := two()
	other.Uids[0].HostId++
	for name, c := range map[string]struct {
		container *cri.NamespaceOption
		pod       *cri.PodSandboxConfig
		fits      bool
	}{
		"none":                      {nil, podOf(two()), true},
		"none of the pod's":         {of(nil), podOf(two()), true},
		"the pod's":                 {of(two()), podOf(two()), true},
		"both the node's":           {of(node), podOf(node), true},
		"the node's, by an old pod": {of(node), podOf(nil), true},
		"other ranges":              {of(other), podOf(two()), false},
		"the node's":                {of(node), podOf(two()), false},
		"its own":                   {of(two()), podOf(node), false},
	} {
		err := CheckContainer("options", c.container, c.pod)
		if (err == nil) != c.fits || err != nil && !strings.HasPrefix(err.Error(), "options.userns_options ") {
			t.Errorf("%s: %v", name, err)
		}
	}
}
