package spec

import (
	"errors"
	"slices"
	"testing"

	"google.golang.org/protobuf/proto"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// FuzzContainer makes specs from messages of any content. What names files of
// the node is left out: the fuzzer shall not make directories there.
func FuzzContainer(f *testing.F) {
	for _, change := range goldenCases() {
		in := fixture(f)
		change(f, &in)
		c, errC := proto.Marshal(in.Container)
		s, errS := proto.Marshal(in.Sandbox)
		if err := errors.Join(errC, errS); err != nil {
			f.Fatal(err)
		}
		f.Add(c, s, "app", "/work")
	}
	in := fixture(f)
	f.Fuzz(func(t *testing.T, container, sandbox []byte, user, dir string) {
		c, s := &cri.ContainerConfig{}, &cri.PodSandboxConfig{}
		if proto.Unmarshal(container, c) != nil || proto.Unmarshal(sandbox, s) != nil {
			return
		}
		c.Mounts, c.Devices = nil, nil
		in := in
		in.Container, in.Sandbox, in.Options.NoHostDevices = c, s, true
		in.Image.Config.User, in.Image.Config.WorkingDir = user, dir
		got, err := Container(in)
		if err != nil {
			return
		}
		p := got.Process
		if p.User.UID > maxID || p.User.GID > maxID || !slices.Contains(p.User.AdditionalGids, p.User.GID) {
			t.Fatalf("user %+v", p.User)
		}
		for _, name := range p.Capabilities.Bounding {
			if !in.Host.Has(name) {
				t.Fatalf("capability %s", name)
			}
		}
		if len(p.Capabilities.Inheritable) > 0 && len(c.GetLinux().GetSecurityContext().GetCapabilities().GetAddAmbientCapabilities()) == 0 {
			t.Fatalf("inheritable capabilities %v", p.Capabilities.Inheritable)
		}
		if len(p.Args) == 0 || p.Cwd == "" || p.Cwd[0] != '/' || len(got.Linux.Sysctl) > 0 || got.Hooks != nil {
			t.Fatalf("%+v", got)
		}
	})
}
