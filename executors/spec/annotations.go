package spec

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"

	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// Annotations of the runtime spec that identify a bundle to people. No runtime
// reads them.
const (
	AnnotationSandboxID     = "io.github.stele-runtime.sandbox.id"
	AnnotationPodName       = "io.github.stele-runtime.pod.name"
	AnnotationPodNamespace  = "io.github.stele-runtime.pod.namespace"
	AnnotationPodUID        = "io.github.stele-runtime.pod.uid"
	AnnotationContainerName = "io.github.stele-runtime.container.name"
	AnnotationImageName     = "io.github.stele-runtime.image.name"
	// What the pod's sandbox takes beside its containers, and what the pod may use as a
	// whole: the CRI's LinuxContainerResources in JSON, under the keys that CRI-O has for
	// them. Runtimes that run a pod in a virtual machine size it by them.
	AnnotationPodOverhead  = "pod-linux-overhead.crio.io"
	AnnotationPodResources = "pod-linux-resources.crio.io"
	// AnnotationSeccompArtifact is the artifact that the seccomp profile is from, and its digest.
	AnnotationSeccompArtifact = "io.github.stele-runtime.seccomp.artifact"
	// AnnotationHolder is set, to "true", on the holder of a PID namespace.
	AnnotationHolder = "io.github.stele-runtime.holder"
)

// planAnnotations names the container, and passes on those annotations of the pod
// and the container that the node's administrator lists by their exact keys.
// Runtimes take orders from annotations (CVE-2024-3154), so all others stay
// behind; labels of the image always do (CVE-2026-53488).
func planAnnotations(r *request, plan *Plan) error {
	out, err := podAnnotations(r.SandboxID, r.Sandbox)
	if err != nil {
		return err
	}
	for key, value := range r.Options.DefaultAnnotations {
		if out[key] == "" {
			out[key] = value
		}
	}
	allowed := r.Options.Annotations
	for _, from := range []map[string]string{r.Sandbox.GetAnnotations(), r.Container.GetAnnotations()} {
		for key, value := range from {
			if slices.Contains(allowed, key) {
				out[key] = value
			}
		}
	}
	out[AnnotationContainerName] = r.Container.GetMetadata().GetName()
	if r.ImageName != "" {
		out[AnnotationImageName] = r.ImageName
	}
	if a := r.Seccomp; a != nil {
		out[AnnotationSeccompArtifact] = a.Name + " " + a.Digest
	}
	maps.DeleteFunc(out, func(_, value string) bool { return value == "" })
	plan.Spec.Annotations = out
	return nil
}

func podAnnotations(sandboxID string, config *cri.PodSandboxConfig) (map[string]string, error) {
	out := map[string]string{
		AnnotationSandboxID:    sandboxID,
		AnnotationPodName:      config.GetMetadata().GetName(),
		AnnotationPodNamespace: config.GetMetadata().GetNamespace(),
		AnnotationPodUID:       config.GetMetadata().GetUid(),
	}
	for key, resources := range map[string]*cri.LinuxContainerResources{
		AnnotationPodOverhead: config.GetLinux().GetOverhead(), AnnotationPodResources: config.GetLinux().GetResources(),
	} {
		if resources == nil {
			continue
		}
		text, err := json.Marshal(resources)
		if err != nil {
			return nil, fmt.Errorf("encode the pod's resources: %w", err)
		}
		out[key] = string(text)
	}
	return out, nil
}
