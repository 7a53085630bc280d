package confine

import (
	"path"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/stele-runtime/stele/executors/spec/refusal"
)

// HidePaths masks what would show or change the node. The kubelet always sends
// both lists, so that its empty ones are the pod's procMount "Unmasked"; other clients
// mean the defaults by them. A privileged container has none.
func (r *Request) HidePaths(linux *specs.Linux) {
	if r.Security.Privileged {
		return
	}
	masked, readonly := r.Security.MaskedPaths, r.Security.ReadonlyPaths
	if len(masked) == 0 && len(readonly) == 0 && !r.Kubelet {
		masked, readonly = DefaultMaskedPaths(), DefaultReadonlyPaths()
	}
	linux.MaskedPaths, linux.ReadonlyPaths = masked, readonly
}

// DefaultMaskedPaths are hidden from a container.
func DefaultMaskedPaths() []string {
	return []string{
		"/proc/acpi", "/proc/asound", "/proc/interrupts", "/proc/kcore", "/proc/keys",
		"/proc/latency_stats", "/proc/sched_debug", "/proc/scsi", "/proc/timer_list",
		"/proc/timer_stats", "/sys/devices/virtual/powercap", "/sys/firmware",
	}
}

// DefaultReadonlyPaths can't be changed by a container.
func DefaultReadonlyPaths() []string {
	return []string{"/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"}
}

func checkHidden(field string, paths []string) error {
	for _, p := range paths {
		if !path.IsAbs(p) {
			return refusal.Invalid(field, p, "is not an absolute path")
		}
		if err := refusal.CheckText(field, p); err != nil {
			return err
		}
		if err := refusal.CheckNoProcess(field, p); err != nil {
			return err
		}
	}
	return nil
}
