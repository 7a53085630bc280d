package spec

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
)

func TestAccountsAreAdded(t *testing.T) {
	line := func(path, text string) Step { return AppendLine{Rootfs: tmp + "/rootfs", Path: path, Line: text} }
	for name, c := range map[string]struct {
		change func(*scene)
		want   []Step
	}{
		"known user and group": {func(in *scene) { in.Image.Config.User = "app:staff" }, nil},
		"user of the pod":      {func(in *scene) { security(in).RunAsUser = id(4242) }, []Step{line("/etc/passwd", "4242:x:4242:0:4242 user:/:/sbin/nologin")}},
		"user of the image":    {func(in *scene) { in.Image.Config.User = "4242" }, []Step{line("/etc/passwd", "4242:x:4242:0:4242 user:/:/sbin/nologin")}},
		"group, known user":    {func(in *scene) { in.Image.Config.User = "1001:77" }, []Step{line("/etc/group", "77:x:77:")}},
		"HOME":                 {func(in *scene) { security(in).RunAsUser = id(4242); setEnv(in, "HOME", "/home/me") }, []Step{line("/etc/passwd", "4242:x:4242:0:4242 user:/home/me:/sbin/nologin")}},
		"HOME with a field":    {func(in *scene) { security(in).RunAsUser = id(4242); setEnv(in, "HOME", "/a:/bin/sh") }, []Step{line("/etc/passwd", "4242:x:4242:0:4242 user:/:/sbin/nologin")}},
		"HOME without an end":  {func(in *scene) { security(in).RunAsUser = id(4242); setEnv(in, "HOME", "/"+strings.Repeat("a", 4096)) }, []Step{line("/etc/passwd", "4242:x:4242:0:4242 user:/:/sbin/nologin")}},
		"no files":             {func(in *scene) { security(in).RunAsUser = id(4242); in.node.Passwd, in.node.Group = File{}, File{} }, nil},
		"files open to others": {func(in *scene) {
			security(in).RunAsUser = id(4242)
			in.node.Passwd.Open, in.node.Group.Open = true, true
		}, nil},
		"another's name": {func(in *scene) { security(in).RunAsUser = id(4242); in.node.Passwd.Data = []byte("4242:x:0:0::/:\n") }, nil},
		"the line is there": {func(in *scene) {
			security(in).RunAsUser = id(4242)
			in.node.Passwd.Data = []byte("4242:x:4242:0::/:\n")
		}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			in := fixture()
			c.change(in)
			got, err := in.plan()
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(c.want, got.Steps); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// CVE-2022-4318: a line break in the working directory adds no line.
func TestAccountsKeepToTheirLine(t *testing.T) {
	in := fixture()
	security(in).RunAsUser, security(in).RunAsGroup = id(4242), id(77)
	in.Container.WorkingDir = "/a\nevil:x:0:0::/:/bin/sh"
	in.Container.Mounts = []*cri.Mount{{ContainerPath: "/a\nevil:x:0:0::/:/bin", HostPath: "/h"}}
	got, err := in.plan()
	if err != nil {
		t.Fatal(err)
	}
	want := []Step{
		AppendLine{Rootfs: in.Rootfs, Path: "/etc/passwd", Line: "4242:x:4242:77:4242 user:/:/sbin/nologin"},
		AppendLine{Rootfs: in.Rootfs, Path: "/etc/group", Line: "77:x:77:"},
	}
	if diff := cmp.Diff(want, got.Steps); diff != "" {
		t.Error(diff)
	}
}

// A volume that the layer lacks is the user's, and copies the account files with their
// new lines.
func TestVolumeIsTheUsers(t *testing.T) {
	in := fixture()
	in.Image.Config.Volumes = map[string]struct{}{"/etc": {}}
	security(in).RunAsUser, security(in).RunAsGroup = id(4242), id(10)
	got, err := in.plan()
	if err != nil {
		t.Fatal(err)
	}
	want := []Step{
		AppendLine{Rootfs: in.Rootfs, Path: "/etc/passwd", Line: "4242:x:4242:10:4242 user:/:/sbin/nologin"},
		FillVolume{Rootfs: in.Rootfs, Path: "/etc", Dir: in.VolumesDir + "/0", UID: 4242, GID: 10},
	}
	if diff := cmp.Diff(want, got.Steps); diff != "" {
		t.Error(diff)
	}
}
