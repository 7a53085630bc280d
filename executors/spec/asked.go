package spec

import (
	"slices"
	"strings"

	"github.com/docker/go-units"
	specs "github.com/opencontainers/runtime-spec/specs-go"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/stele-runtime/stele/executors/spec/refusal"
)

// AnnotationUlimits is Stele's, by which a pod asks for limits of its processes, separated
// by commas: "nofile=1024:2048,core=0".
const AnnotationUlimits = "io.github.stele-runtime.ulimits"

// shmSizeKeys are CRI-O's names, the present one first, of the annotation by which a pod asks for
// a size of /dev/shm ("128m").
func shmSizeKeys() []string {
	return []string{"shm-size.crio.io", "io.kubernetes.cri-o.ShmSize"}
}

// asked returns the first of a pod's annotations that it has and the administrator allows, and its
// field; empty for none.
func (o *Options) asked(pod *cri.PodSandboxConfig, keys ...string) (field, text string) {
	for _, key := range keys {
		if text := pod.GetAnnotations()[key]; text != "" && slices.Contains(o.Annotations, key) {
			return "annotations[" + key + "]", text
		}
	}
	return "", ""
}

// SizeOfShm returns the size of a pod's /dev/shm, in bytes. What is in it counts as the memory of
// the containers that write it.
func (o *Options) SizeOfShm(pod *cri.PodSandboxConfig) (int64, error) {
	if field, text := o.asked(pod, shmSizeKeys()...); text != "" {
		size, err := units.RAMInBytes(text)
		if err != nil || size <= 0 {
			return 0, refusal.Invalid(field, text, `is not a size, as in "128m"`)
		}
		return size, nil
	}
	if o.ShmSize > 0 {
		return o.ShmSize, nil
	}
	return DefaultShmSize, nil
}

// rlimits are the administrator's limits, and the pod's in their place.
func (r *request) rlimits() ([]specs.POSIXRlimit, error) {
	all := slices.Clone(r.Options.Rlimits)
	field, text := r.Options.asked(r.Sandbox, AnnotationUlimits)
	if text == "" {
		return all, nil
	}
	for part := range strings.SplitSeq(text, ",") {
		limit, err := ParseUlimit(part)
		if err != nil {
			return nil, refusal.Invalid(field, part, `is not a limit, as in "nofile=1024:2048"`)
		}
		all = slices.DeleteFunc(all, func(l specs.POSIXRlimit) bool { return l.Type == limit.Type })
		all = append(all, limit)
	}
	return all, nil
}

// ParseUlimit reads NAME=SOFT:HARD, or NAME=BOTH; -1 is no limit.
func ParseUlimit(text string) (specs.POSIXRlimit, error) {
	limit, err := units.ParseUlimit(text)
	if err != nil {
		return specs.POSIXRlimit{}, err
	}
	if _, err := limit.GetRlimit(); err != nil {
		return specs.POSIXRlimit{}, err
	}
	return specs.POSIXRlimit{Type: "RLIMIT_" + strings.ToUpper(limit.Name), Soft: uint64(limit.Soft), Hard: uint64(limit.Hard)}, nil
}
