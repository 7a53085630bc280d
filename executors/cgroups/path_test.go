package cgroups

import (
	"errors"
	"path"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func manager(t testing.TB, driver Driver) *Manager {
	t.Helper()
	m, err := NewManager(&Node{Layout: V2}, driver, "")
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func TestContainerPath(t *testing.T) {
	for _, tc := range []struct {
		driver       Driver
		parent, want string
		relative     string
	}{
		{Cgroupfs, "", "/stele/pod1/stele-c1", "/stele/pod1/stele-c1"},
		{Cgroupfs, "/kubepods/burstable/pod12", "/kubepods/burstable/pod12/stele-c1", "/kubepods/burstable/pod12/stele-c1"},
		{Cgroupfs, "kubepods/pod12", "/kubepods/pod12/stele-c1", "/kubepods/pod12/stele-c1"},
		{Cgroupfs, "/kubepods//pod12/", "/kubepods/pod12/stele-c1", "/kubepods/pod12/stele-c1"},
		{Systemd, "kubepods.slice/kubepods-pod12.slice/", "kubepods-pod12.slice:stele:c1", "/kubepods.slice/kubepods-pod12.slice/stele-c1.scope"},
		{Systemd, "", "system.slice:stele:c1", "/system.slice/stele-c1.scope"},
		{Systemd, "kubepods-pod12.slice", "kubepods-pod12.slice:stele:c1", "/kubepods.slice/kubepods-pod12.slice/stele-c1.scope"},
		{
			Systemd, "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-podab_cd.slice",
			"kubepods-burstable-podab_cd.slice:stele:c1",
			"/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-podab_cd.slice/stele-c1.scope",
		},
	} {
		m := manager(t, tc.driver)
		got, err := m.ContainerPath(tc.parent, "pod1", "c1")
		if err != nil || got != tc.want {
			t.Errorf("%s, parent %q: %q, %v; want %q", tc.driver, tc.parent, got, err, tc.want)
			continue
		}
		rel, err := m.containerRelative(got, "c1")
		if err != nil || rel != tc.relative {
			t.Errorf("%s, %q: is at %q, %v; want %q", tc.driver, got, rel, err, tc.relative)
		}
	}
}

func TestHostileParents(t *testing.T) {
	for _, tc := range []struct {
		driver Driver
		parent string
	}{
		{Cgroupfs, "/"},
		{Cgroupfs, "//"},
		{Cgroupfs, "kubepods/../../etc/"},
		{Cgroupfs, "kubepods.slice/"},
		{Cgroupfs, "/kubepods/../../etc"},
		{Cgroupfs, "/kubepods/.."},
		{Cgroupfs, "/kubepods/./x"},
		{Cgroupfs, "/a\nb"},
		{Cgroupfs, "/a\x00b"},
		{Cgroupfs, "/a b"},
		{Cgroupfs, "/kubepods.slice/kubepods-pod1.slice"},
		{Cgroupfs, "/" + strings.Repeat("a/", 1200) + "b"},
		{Cgroupfs, "/" + strings.Repeat("a", 256)},
		{Systemd, "/kubepods/pod1"},
		{Systemd, "kubepods"},
		{Systemd, ".slice"},
		{Systemd, "a--b.slice"},
		{Systemd, "-a.slice"},
		{Systemd, "/"},
		{Systemd, "a.slice/b/"},
		{Systemd, "/a.slice/../b.slice"},
		{Systemd, "a:b.slice"},
		{Systemd, "a.slice\n"},
	} {
		_, err := manager(t, tc.driver).ContainerPath(tc.parent, "pod1", "c1")
		if pe := (*ParentError)(nil); !errors.As(err, &pe) {
			t.Errorf("%s, parent %.40q: error %v, want a ParentError", tc.driver, tc.parent, err)
		}
	}
}

func TestHostileIDs(t *testing.T) {
	m := manager(t, Cgroupfs)
	for _, id := range []string{"", "..", ".", "a/b", "../x", "a b", "a\n", "-a", strings.Repeat("a", 129)} {
		if p, err := m.ContainerPath("", "pod1", id); err == nil {
			t.Errorf("container id %q: got %q", id, p)
		}
		if p, err := m.ContainerPath("", id, "c1"); err == nil {
			t.Errorf("sandbox id %q: got %q", id, p)
		}
		if err := m.RemoveSandbox(t.Context(), "", id); err == nil {
			t.Errorf("remove sandbox %q: no error", id)
		}
	}
	for _, p := range []string{"/kubepods/pod1", "/kubepods/stele-other", "/kubepods/../stele-c1", "stele-c1", "a.slice:x:c1", "/stele-c1/"} {
		if err := m.RemoveContainer(t.Context(), p, "c1"); err == nil {
			t.Errorf("remove container c1 at %q: no error", p)
		}
	}
}

// Whatever parent is accepted, the container's cgroup is a clean path of its
// own, below that parent.
func TestAcceptedParentsContain(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		driver := rapid.SampledFrom([]Driver{Cgroupfs, Systemd}).Draw(t, "driver")
		parent := rapid.StringMatching(`/?([a-c.:-]{0,4}/){0,3}[a-c.-]{0,4}(\.slice)?`).Draw(t, "parent")
		m := &Manager{node: &Node{}, driver: driver, root: "/stele"}
		p, err := m.ContainerPath(parent, "pod1", "c1")
		if err != nil {
			return
		}
		rel, err := m.containerRelative(p, "c1")
		if err != nil {
			t.Fatalf("parent %q gives %q, which has no place: %v", parent, p, err)
		}
		if path.Clean(rel) != rel || !strings.HasPrefix(rel, "/") || slices.Contains(strings.Split(rel, "/"), "..") {
			t.Fatalf("parent %q gives %q at %q", parent, p, rel)
		}
		if driver == Cgroupfs && parent != "" && path.Dir(rel) != path.Clean("/"+parent) {
			t.Fatalf("parent %q gives %q, which isn't in it", parent, rel)
		}
	})
}

func TestNewManagerRefusesUnknownDriver(t *testing.T) {
	if _, err := NewManager(&Node{}, "openrc", ""); err == nil {
		t.Error("driver openrc was accepted")
	}
	if _, err := NewManager(&Node{}, Cgroupfs, "stele"); err == nil {
		t.Error("a relative root was accepted")
	}
}
