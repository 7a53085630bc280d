package spec

import (
	"path"
	"strings"

	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	imagespec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/stele-runtime/stele/executors/spec/confine"
)

// labelKubelet is on each container that the kubelet asks for.
const labelKubelet = "io.kubernetes.container.name"

// confined is the request as package confine reads it.
func (r *request) confined() *confine.Request {
	_, kubelet := r.Container.Labels[labelKubelet]
	return &confine.Request{
		Security: r.sec, Sandbox: r.Sandbox, Kubelet: kubelet, Init: isInit(r.args()), Native: isNative(r.Image, r.Host.Arch), Annotations: r.Options.Annotations, Artifact: r.Seccomp,
		Node: &r.Host.Node, Options: r.Options.Options, Features: r.Features, Found: r.found.Answers,
	}
}

// isInit reports whether a command is an init system, as CRI-O tells it.
func isInit(args []string) bool {
	return len(args) > 0 && (strings.HasSuffix(args[0], "/sbin/init") || path.Base(args[0]) == "systemd")
}

// isNative reports whether an image is of an architecture; one that does not say is.
func isNative(image *imagespec.Image, arch string) bool {
	return image == nil || image.Architecture == "" || image.Architecture == arch
}

// MountLabel is the SELinux label of a container's files; empty for none. It does not depend on
// the image.
func MountLabel(host *HostFacts, container *cri.ContainerConfig, pod *cri.PodSandboxConfig) string {
	sec := container.GetLinux().GetSecurityContext()
	if sec == nil {
		sec = &cri.LinuxContainerSecurityContext{}
	}
	r := confine.Request{Security: sec, Sandbox: pod, Node: &host.Node}
	return r.MountLabel()
}

func planCapabilities(r *request, plan *Plan) error {
	return r.confined().Capabilities(plan.Spec.Process)
}

func planLabels(r *request, plan *Plan) error { return r.confined().SELinux(plan.Spec) }

func planRelabel(r *request, plan *Plan, field, source string) error {
	relabel, err := r.confined().Relabel(field, source)
	if below := strings.TrimPrefix(source, r.Options.HostRoot); err == nil && below != source {
		// What is the system's has the name there that the node has for it.
		relabel, err = r.confined().Relabel(field, path.Join("/", below))
	}
	if err == nil && relabel.Label != "" {
		plan.Steps = append(plan.Steps, Relabel{Path: source, Label: relabel.Label, Unless: relabel.Unless})
	}
	return err
}

func planHiddenPaths(r *request, plan *Plan) error {
	r.confined().HidePaths(plan.Spec.Linux)
	return nil
}

func planAppArmor(r *request, plan *Plan) error {
	load, err := r.confined().AppArmor(plan.Spec.Process)
	if load != "" {
		plan.Steps = append(plan.Steps, LoadAppArmor{Profile: load})
	}
	return err
}

func planSeccomp(r *request, plan *Plan) error { return r.confined().Seccomp(plan.Spec) }
