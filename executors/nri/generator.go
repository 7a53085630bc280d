package nri

import (
	"fmt"
	"slices"
	"strings"

	"github.com/containerd/nri/pkg/runtime-tools/generate"
	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// generator makes in a complete spec the single changes that the library breaks an
// adjustment into.
type generator struct {
	limits
	spec *specs.Spec
}

func newGenerator(spec *specs.Spec) *generator { return &generator{limits{spec.Linux.Resources}, spec} }

var _ generate.UnderlyingGenerator = (*generator)(nil)

func (g *generator) Spec() *specs.Spec { return g.spec }

func (g *generator) AddAnnotation(key, value string) {
	if g.spec.Annotations == nil {
		g.spec.Annotations = map[string]string{}
	}
	g.spec.Annotations[key] = value
}

func (g *generator) RemoveAnnotation(key string) { delete(g.spec.Annotations, key) }

func (g *generator) SetProcessArgs(args []string) { g.spec.Process.Args = args }

func (g *generator) ClearProcessEnv() { g.spec.Process.Env = nil }

func (g *generator) AddProcessEnv(name, value string) {
	env := slices.DeleteFunc(g.spec.Process.Env, func(e string) bool { return strings.HasPrefix(e, name+"=") })
	g.spec.Process.Env = append(env, name+"="+value)
}

func (g *generator) SetProcessOOMScoreAdj(adj int) { g.spec.Process.OOMScoreAdj = &adj }

func (g *generator) Mounts() []specs.Mount { return g.spec.Mounts }

func (g *generator) ClearMounts() { g.spec.Mounts = nil }

func (g *generator) AddMount(m specs.Mount) { g.spec.Mounts = append(g.spec.Mounts, m) }

func (g *generator) RemoveMount(destination string) {
	g.spec.Mounts = slices.DeleteFunc(g.spec.Mounts, func(m specs.Mount) bool { return m.Destination == destination })
}

func (g *generator) SetLinuxRootPropagation(p string) error {
	g.spec.Linux.RootfsPropagation = p
	return nil
}

func (g *generator) hooks() *specs.Hooks {
	if g.spec.Hooks == nil {
		g.spec.Hooks = &specs.Hooks{}
	}
	return g.spec.Hooks
}

func (g *generator) AddPreStartHook(h specs.Hook) {
	g.hooks().Prestart = append(g.hooks().Prestart, h) //nolint:staticcheck // plug-ins may still use it
}

func (g *generator) AddPostStartHook(h specs.Hook) {
	g.hooks().Poststart = append(g.hooks().Poststart, h)
}

func (g *generator) AddPostStopHook(h specs.Hook) { g.hooks().Poststop = append(g.hooks().Poststop, h) }

func (g *generator) AddDevice(d specs.LinuxDevice) {
	g.RemoveDevice(d.Path)
	g.spec.Linux.Devices = append(g.spec.Linux.Devices, d)
}

func (g *generator) RemoveDevice(path string) {
	g.spec.Linux.Devices = slices.DeleteFunc(g.spec.Linux.Devices, func(d specs.LinuxDevice) bool { return d.Path == path })
}

// namespaceTypes are the names that NRI and runtimes use.
var namespaceTypes = []specs.LinuxNamespaceType{
	specs.PIDNamespace, specs.NetworkNamespace, specs.MountNamespace, specs.IPCNamespace,
	specs.UTSNamespace, specs.UserNamespace, specs.CgroupNamespace, specs.TimeNamespace,
}

func (g *generator) AddOrReplaceLinuxNamespace(kind, path string) error {
	if !slices.Contains(namespaceTypes, specs.LinuxNamespaceType(kind)) {
		return fmt.Errorf("linux.namespaces: %q is no type of a namespace", kind)
	}
	if err := g.RemoveLinuxNamespace(kind); err != nil {
		return err
	}
	g.spec.Linux.Namespaces = append(g.spec.Linux.Namespaces, specs.LinuxNamespace{Type: specs.LinuxNamespaceType(kind), Path: path})
	return nil
}

func (g *generator) RemoveLinuxNamespace(kind string) error {
	g.spec.Linux.Namespaces = slices.DeleteFunc(g.spec.Linux.Namespaces, func(n specs.LinuxNamespace) bool {
		return n.Type == specs.LinuxNamespaceType(kind)
	})
	return nil
}

func (g *generator) AddLinuxSysctl(key, value string) {
	if g.spec.Linux.Sysctl == nil {
		g.spec.Linux.Sysctl = map[string]string{}
	}
	g.spec.Linux.Sysctl[key] = value
}

func (g *generator) RemoveLinuxSysctl(key string) { delete(g.spec.Linux.Sysctl, key) }

func (g *generator) SetLinuxCgroupsPath(path string) { g.spec.Linux.CgroupsPath = path }
