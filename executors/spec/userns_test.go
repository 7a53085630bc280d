package spec

import (
	"errors"
	"strings"
	"testing"

	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/stele-runtime/stele/actors/fault"
	"github.com/stele-runtime/stele/executors/spec/refusal"
)

func TestUsersRefused(t *testing.T) {
	volume := func(in *scene) *cri.Mount {
		in.Container.Mounts = []*cri.Mount{{ContainerPath: "/volume", HostPath: "/srv/volume"}}
		return in.Container.Mounts[0]
	}
	image := func(in *scene) *cri.Mount {
		in.Container.Mounts = []*cri.Mount{{ContainerPath: "/image", Image: &cri.ImageSpec{Image: "sha256:5678"}, Readonly: true}}
		in.ImageMounts = map[int]string{0: tmp + "/images/0"}
		return in.Container.Mounts[0]
	}
	ranges := func(host uint32) []*cri.IDMapping { return []*cri.IDMapping{{HostId: host, Length: 65536}} }
	for name, c := range map[string]struct {
		change func(*scene, *cri.UserNamespace)
		field  string
		kind   fault.Kind
		words  string
	}{
		"user": {func(in *scene, _ *cri.UserNamespace) { security(in).RunAsUser = &cri.Int64Value{Value: 65536} },
			"linux.security_context.run_as_user", fault.Invalid, "65536"},
		"group": {func(in *scene, _ *cri.UserNamespace) {
			security(in).RunAsUser, security(in).RunAsGroup = &cri.Int64Value{}, &cri.Int64Value{Value: 65536}
		}, "linux.security_context.run_as_user", fault.Invalid, "group 65536"},
		"supplemental group": {func(in *scene, _ *cri.UserNamespace) { security(in).SupplementalGroups = []int64{70000} },
			"the image's user", fault.Invalid, "group 70000"},
		"image's user": {func(in *scene, _ *cri.UserNamespace) { in.Image.Config.User = "70000" }, "the image's user", fault.Invalid, "70000"},
		"volume, and the runtime is older": {func(in *scene, u *cri.UserNamespace) {
			in.Features.Linux = nil
			m := volume(in)
			m.UidMappings, m.GidMappings = u.Uids, u.Gids
		}, "mounts[0].uidMappings", fault.Unsupported, "runc 1.2"},
		"volume, and the runtime says nothing": {func(in *scene, u *cri.UserNamespace) {
			in.Features = nil
			m := volume(in)
			m.UidMappings, m.GidMappings = u.Uids, u.Gids
		}, "mounts[0].uidMappings", fault.Unsupported, "runc 1.2"},
		"volume with one of both": {func(in *scene, u *cri.UserNamespace) { volume(in).UidMappings = u.Uids }, "mounts[0].gidMappings", fault.Invalid, "no mapping"},
		"volume with the other":   {func(in *scene, u *cri.UserNamespace) { volume(in).GidMappings = u.Gids }, "mounts[0].uidMappings", fault.Invalid, "no mapping"},
		"volume of the node's root": {func(in *scene, u *cri.UserNamespace) {
			m := volume(in)
			m.UidMappings, m.GidMappings = ranges(0), u.Gids
		}, "mounts[0].uidMappings[0].host_id", fault.Invalid, "root"},
		"image with others": {func(in *scene, u *cri.UserNamespace) {
			m := image(in)
			m.UidMappings, m.GidMappings = ranges(500000), u.Gids
		}, "mounts[0].uidMappings", fault.Unsupported, "not the pod's"},
		"image in a pod with the node's users": {func(in *scene, u *cri.UserNamespace) {
			m := image(in)
			m.UidMappings, m.GidMappings = u.Uids, u.Gids
			in.Sandbox.Linux.SecurityContext.NamespaceOptions.UsernsOptions = nil
		}, "mounts[0].uidMappings", fault.Unsupported, "not the pod's"},
	} {
		in := fixture()
		c.change(in, ownUsers(in))
		_, err := in.plan()
		f, ok := errors.AsType[*refusal.FieldError](err)
		if !ok || f.Field != c.field || f.Kind != c.kind || !strings.Contains(err.Error(), c.words) {
			t.Errorf("%s: %v, want %s and %q", name, err, c.field, c.words)
		}
	}
}
