package spec

import (
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"
	"testing"

	imagespec "github.com/opencontainers/image-spec/specs-go/v1"
	specs "github.com/opencontainers/runtime-spec/specs-go"
	"google.golang.org/protobuf/proto"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/stele-runtime/stele/executors/spec/confine"
)

// FuzzContainer plans from messages, images and answers of any content. A plan
// never panics, asks for all that it needs, and names nothing outside of the
// container's root and its own directories but what the pod names.
func FuzzContainer(f *testing.F) {
	cases := goldenCases()
	cases["relabelled"] = func(in *scene) {
		security(in).SelinuxOptions = &cri.SELinuxOption{Type: "t"}
		in.Container.Mounts = []*cri.Mount{{ContainerPath: "/p", HostPath: "/h", SelinuxRelabel: true}}
	}
	for _, change := range cases {
		in := fixture()
		change(in)
		c, errC := proto.Marshal(in.Container)
		s, errS := proto.Marshal(in.Sandbox)
		if err := errors.Join(errC, errS); err != nil {
			f.Fatal(err)
		}
		for _, leadsTo := range []string{"/elsewhere", "/proc/self/fd/7", "/own/root", "/", "../.."} {
			f.Add(c, s, "app", "/work", "/app/../../data", leadsTo, []byte(testPasswd), []byte(testGroup))
		}
	}
	f.Add([]byte{}, []byte{}, "0:staff", "/proc/self/fd/7", "../..", "..", []byte("app:x:0:0"), []byte(":::"))
	f.Fuzz(func(t *testing.T, container, sandbox []byte, user, dir, volume, leadsTo string, passwd, group []byte) {
		in := fixture()
		var err error
		if in.Container, in.Sandbox, err = Effective(Configuration{Container: container, Sandbox: sandbox}); err != nil {
			return
		}
		in.Image = &imagespec.Image{Config: imagespec.ImageConfig{
			Entrypoint: []string{"/bin/server"}, User: user, WorkingDir: dir, Volumes: map[string]struct{}{volume: {}, dir: {}},
		}}
		in.Host.SELinux, in.Host.AppArmor = true, true
		in.Host.Contexts = confine.Contexts{Process: "u:r:t:s0", File: "u:o:f:s0"}
		in.Options.OwnDirs = []string{"/own"}
		in.ImageMounts = map[int]string{0: "/run/images/0"}
		in.node = Answers{
			Passwd: File{Data: passwd}, Group: File{Data: group},
			Hostname: Text{Value: "node-1"},
			Answers: confine.Answers{
				Seccomp: confine.Profile{Data: passwd}, AppArmor: confine.Loaded{Is: len(user)%2 == 0},
			},
		}
		_, _ = Container(in.Input, Answers{}) // no answers are no reason to panic
		q, err := Ask(in.Input)
		if err != nil {
			if _, err := Container(in.Input, in.node); err == nil {
				t.Fatal("planned, although the questions were refused")
			}
			return
		}
		found := hostile(in.answer(q), q, leadsTo)
		plan, err := Container(in.Input, found)
		if err != nil {
			if strings.Contains(err.Error(), "not answered") && path.IsAbs(leadsTo) {
				t.Fatal(err)
			}
			return
		}
		checkProcess(t, in, plan.Spec)
		checkMountSources(t, in, found, plan.Spec)
		checkSteps(t, in, found, plan.Steps)
	})
}

// hostile has all that is looked up lead to one place.
func hostile(found Answers, q Questions, leadsTo string) Answers {
	found.WorkingDir = Place{Path: leadsTo}
	for i, p := range q.HostPaths {
		found.HostPaths[p.Path] = HostPath{Path: leadsTo, Missing: i%2 == 0, Mount: Mount{Mountpoint: "/", Shared: i%3 == 0}}
	}
	found.Devices = map[string]Devices{}
	for _, d := range q.Devices {
		found.Devices[d] = Devices{Nodes: []Device{charDevice(leadsTo, 1, 3)}}
	}
	found.AllDevices.Nodes = []Device{charDevice(leadsTo, 1, 5)}
	return found
}

func checkProcess(t *testing.T, in *scene, got *specs.Spec) {
	p := got.Process
	if p.User.UID > maxID || p.User.GID > maxID || !slices.Contains(p.User.AdditionalGids, p.User.GID) {
		t.Fatalf("user %+v", p.User)
	}
	for _, name := range p.Capabilities.Bounding {
		if !in.Host.Has(name) {
			t.Fatalf("capability %s", name)
		}
	}
	ambient := in.Container.GetLinux().GetSecurityContext().GetCapabilities().GetAddAmbientCapabilities()
	if len(p.Capabilities.Inheritable) > 0 && len(ambient) == 0 {
		t.Fatalf("inheritable capabilities %v", p.Capabilities.Inheritable)
	}
	if len(p.Args) == 0 || !isClean(p.Cwd) || !path.IsAbs(p.Cwd) || len(got.Linux.Sysctl) > 0 || got.Hooks != nil {
		t.Fatalf("%+v", got)
	}
	if got.Root.Path != in.Rootfs {
		t.Fatalf("root %s", got.Root.Path)
	}
}

func checkMountSources(t *testing.T, in *scene, found Answers, got *specs.Spec) {
	own := []string{in.Files.ResolvConf, in.Files.Hostname, in.Files.Hosts, in.Files.Shm, in.ImageMounts[0]}
	for _, n := range []int{0, 1} {
		own = append(own, fmt.Sprintf("%s/%d", in.VolumesDir, n))
	}
	asked := func(source string) bool {
		return slices.ContainsFunc(in.Container.Mounts, func(m *cri.Mount) bool {
			return m.Image.GetImage() == "" && found.HostPaths[path.Clean(m.HostPath)].Path == source
		})
	}
	for _, m := range got.Mounts {
		if !path.IsAbs(m.Destination) || path.Clean(m.Destination) != m.Destination || m.Destination == "/" {
			t.Fatalf("a mount on %q", m.Destination)
		}
		nodesShm := m.Source == "/dev/shm" && m.Destination == "/dev/shm"
		if m.Type == "bind" && !slices.Contains(own, m.Source) && !asked(m.Source) && !nodesShm {
			t.Fatalf("%s is mounted on %s", m.Source, m.Destination)
		}
	}
	for _, d := range got.Linux.Devices {
		named := slices.ContainsFunc(in.Container.Devices, func(n *cri.Device) bool { return covers(path.Clean(n.ContainerPath), d.Path) })
		if path.Clean(d.Path) != d.Path || !named && !covers("/dev", d.Path) {
			t.Fatalf("device %q", d.Path)
		}
	}
}

func checkSteps(t *testing.T, in *scene, found Answers, steps []Step) {
	inside := func(p string) bool { return path.IsAbs(p) && path.Clean(p) == p && p != "/" }
	for _, s := range steps {
		ok := false
		switch s := s.(type) {
		case MakeHostDir:
			for _, m := range in.Container.Mounts {
				host := found.HostPaths[path.Clean(m.HostPath)]
				ok = ok || host.Missing && host.Path == s.Path
			}
		case Relabel:
			ok = !covers(s.Path, "/own") && !covers("/own", s.Path) && s.Label != "" && (!covers("/etc", s.Path) || path.Dir(s.Path) == in.VolumesDir)
		case FillVolume:
			ok = s.Rootfs == in.Rootfs && inside(s.Path) && path.Dir(s.Dir) == in.VolumesDir
		case AppendLine:
			ok = s.Rootfs == in.Rootfs && covers("/etc", s.Path) && !strings.ContainsAny(s.Line, "\r\n") && strings.Count(s.Line, ":") == map[string]int{"/etc/passwd": 6, "/etc/group": 3}[s.Path]
		case MakeWorkingDir:
			ok = s.Rootfs == in.Rootfs && inside(s.Path) && !covers("/proc", found.WorkingDir.Path)
		}
		if !ok {
			t.Fatalf("step %T %+v", s, s)
		}
	}
}
