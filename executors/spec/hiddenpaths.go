package spec

// labelKubelet is on each container that the kubelet asks for.
const labelKubelet = "io.kubernetes.container.name"

// planHiddenPaths masks what would show or change the node. The kubelet always sends
// both lists, so that its empty ones are the pod's procMount "Unmasked"; other clients
// mean the defaults by them. A privileged container has none.
func planHiddenPaths(r *request, plan *Plan) error {
	if r.sec.Privileged {
		return nil
	}
	masked, readonly := r.sec.MaskedPaths, r.sec.ReadonlyPaths
	_, kubelet := r.Container.Labels[labelKubelet]
	if len(masked) == 0 && len(readonly) == 0 && !kubelet {
		masked, readonly = defaultMaskedPaths(), defaultReadonlyPaths()
	}
	plan.Spec.Linux.MaskedPaths, plan.Spec.Linux.ReadonlyPaths = masked, readonly
	return nil
}

func defaultMaskedPaths() []string {
	return []string{
		"/proc/acpi", "/proc/asound", "/proc/interrupts", "/proc/kcore", "/proc/keys",
		"/proc/latency_stats", "/proc/sched_debug", "/proc/scsi", "/proc/timer_list",
		"/proc/timer_stats", "/sys/devices/virtual/powercap", "/sys/firmware",
	}
}

func defaultReadonlyPaths() []string {
	return []string{"/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"}
}
