package spec

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	specs "github.com/opencontainers/runtime-spec/specs-go"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/stele-runtime/stele/actors/fault"
	"github.com/stele-runtime/stele/executors/spec/confine"
)

func TestParseDefaultMounts(t *testing.T) {
	const text = "# a comment\n\n  /usr/share/secrets/:/run/secrets\n/a:/b:c\n/first:/twice\n/second:/twice/\n"
	got, err := ParseDefaultMounts(text)
	if err != nil {
		t.Fatal(err)
	}
	want := []DefaultMount{
		{Source: "/usr/share/secrets", Destination: "/run/secrets"}, {Source: "/a", Destination: "/b:c"}, {Source: "/second", Destination: "/twice"},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	var many strings.Builder
	for i := range maxDefaultMounts + 1 {
		fmt.Fprintf(&many, "/a:/b%d\n", i)
	}
	for text, word := range map[string]string{
		"/a": "line 1", "\na:/b": "line 2", "/a:b": "absolute", "/a:": "absolute", ":/b": "absolute", "/a\x00:/b": "absolute", "/a:/b\rc": "absolute",
		"/a:/": "nothing can be mounted", "/a:/x/..": "nothing can be mounted", "/a:/proc/self": "nothing can be mounted", "/a:/dev": "nothing can be mounted",
		many.String(): "more than 128",
	} {
		if got, err := ParseDefaultMounts(text); err == nil || !strings.Contains(err.Error(), word) {
			t.Errorf("%.20q: %v, %v", text, got, err)
		}
	}
}

// Nothing is made in a volume of the pod for what the container gets beside.
func TestVolumesAreLeftAlone(t *testing.T) {
	for at, want := range map[string][]string{
		"/data": {"/etc/localtime", "/run/.containerenv", "/run/secrets"},
		"/run":  {"/etc/localtime"}, "/run/secrets": {"/etc/localtime", "/run/.containerenv"},
		"/etc": {"/run/.containerenv", "/run/secrets"}, "/etc/localtime": {"/run/.containerenv", "/run/secrets"},
		"/run/.containerenv": {"/etc/localtime", "/run/secrets"},
	} {
		in := fixture()
		in.Files.ContainerEnv, in.Options.Timezone = "/gift/env", "/gift/zone"
		in.Options.DefaultMounts = []DefaultMount{{Source: "/gift/secrets", Destination: "/run/secrets"}}
		in.node.DefaultMounts = map[string]HostPath{"/gift/secrets": {Path: "/gift/secrets"}}
		in.Container.Mounts = []*cri.Mount{{ContainerPath: at, HostPath: "/srv"}}
		plan, err := in.plan()
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, m := range plan.Spec.Mounts {
			if strings.HasPrefix(m.Source, "/gift/") || strings.HasPrefix(m.Source, in.VolumesDir) {
				got = append(got, m.Destination)
			}
		}
		copied := false
		for _, step := range plan.Steps {
			switch step.(type) {
			case SetTimezone:
				got = append(got, "/etc/localtime")
			case CopyOfNode:
				copied = true
			}
		}
		slices.Sort(got)
		if !slices.Equal(got, want) || copied != slices.Contains(want, "/run/secrets") {
			t.Errorf("with a volume at %s: %v, steps %v, want %v", at, got, plan.Steps, want)
		}
	}
}

// What cannot be looked at fails the container, with the key and the path.
func TestDefaultMountIsAnError(t *testing.T) {
	in := fixture()
	in.Options.DefaultMounts = []DefaultMount{{Source: "/secrets", Destination: "/run/secrets"}}
	in.node.DefaultMounts = map[string]HostPath{"/secrets": {Err: fmt.Errorf("it is broken")}}
	if _, err := in.plan(); err == nil || !strings.Contains(err.Error(), "default_mounts_file: copy /secrets: it is broken") {
		t.Error(err)
	}
	in.node.DefaultMounts = nil
	if _, err := in.plan(); err == nil || !strings.Contains(err.Error(), "/secrets") {
		t.Error(err)
	}
}

// Each mount comes after what it is mounted in, whatever the order of the request.
func TestMountsInTheirOrder(t *testing.T) {
	in := fixture()
	for _, at := range []string{"/a/b/c", "/run/secrets/x", "/a", "/dev/shm/x", "/a/b/", "/etc/hosts"} {
		in.Container.Mounts = append(in.Container.Mounts, &cri.Mount{ContainerPath: at, HostPath: "/srv" + at})
	}
	in.Image.Config.Volumes = map[string]struct{}{"/run/secrets": {}}
	got, err := in.container()
	if err != nil {
		t.Fatal(err)
	}
	at := func(dest string) int {
		return slices.IndexFunc(got.Mounts, func(m specs.Mount) bool { return m.Destination == dest })
	}
	for _, m := range got.Mounts {
		for _, below := range got.Mounts {
			if m.Destination != below.Destination && covers(m.Destination, below.Destination) && at(m.Destination) > at(below.Destination) {
				t.Errorf("%s comes after %s and hides it", m.Destination, below.Destination)
			}
		}
	}
	if len(got.Mounts) != 16 {
		t.Errorf("%d mounts", len(got.Mounts))
	}
}

// With the node's root elsewhere, the system's own directories are still known.
func TestRelabelBelowAnotherRoot(t *testing.T) {
	for path, refused := range map[string]bool{"/host/etc/x": true, "/host/var/lib/kubelet": true, "/host": true, "/host/srv/data": false} {
		in := fixture()
		in.Host.SELinux = true
		in.Host.Contexts = confine.Contexts{Process: "u:r:t:s0", File: "u:o:f:s0"}
		in.Options.HostRoot = "/host"
		in.Container.Mounts = []*cri.Mount{{ContainerPath: "/x", HostPath: "/x", SelinuxRelabel: true}}
		in.node.HostPaths = map[string]HostPath{"/x": {Path: path}}
		if _, err := in.plan(); refused != (err != nil && fault.KindOf(err) == fault.Invalid) {
			t.Errorf("%s: %v", path, err)
		}
	}
}
