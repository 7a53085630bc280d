package timeline

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/stele-runtime/stele/actors/container"
	"github.com/stele-runtime/stele/actors/fault"
	"github.com/stele-runtime/stele/actors/host"
	"github.com/stele-runtime/stele/actors/image"
	"github.com/stele-runtime/stele/actors/redact"
	"github.com/stele-runtime/stele/actors/sandbox"
)

// phrase is an event in words.
type phrase struct {
	words string
	bad   bool
}

func good(format string, args ...any) phrase { return phrase{fmt.Sprintf(format, args...), false} }
func bad(format string, args ...any) phrase  { return phrase{fmt.Sprintf(format, args...), true} }

func failure(what string, f fault.Fault) phrase { return bad("%s: %s", what, reason(f)) }

// again is a failure that is tried again.
func again(what string, f fault.Fault, at time.Time) phrase {
	return bad("%s: %s; again at %s", what, reason(f), clock(at))
}

func sandboxWords(e sandbox.Event) phrase {
	switch e := e.(type) {
	case sandbox.SandboxRequested:
		return good("pod requested by the kubelet, attempt %d, runtime handler %s", e.Name.Attempt, clean(e.Handler))
	case sandbox.SandboxPrepared:
		return good("namespaces and files made")
	case sandbox.SandboxPrepareFailed:
		return failure("namespaces and files could not be made", e.Fault)
	case sandbox.NetworkAttached:
		return good("network attached: %s", clean(strings.Join(e.IPs, ", ")))
	case sandbox.HostPortsMapped:
		return good("host ports mapped: %s", clean(strings.Join(e.Ports, ", ")))
	case sandbox.NetworkRequestsUnserved:
		return bad("the network cannot do: %s", clean(strings.Join(e.Requests, "; ")))
	case sandbox.NetworkAttachFailed:
		return failure("network not attached", e.Fault)
	case sandbox.HolderStarted:
		return good("holder of the shared PID namespace started, pid %d", e.PID)
	case sandbox.HolderStartFailed:
		return failure("holder of the shared PID namespace not started", e.Fault)
	case sandbox.SandboxReady:
		return good("pod ready")
	case sandbox.SandboxFailed:
		return bad("creation given up")
	case sandbox.ContainerAdded:
		return good("container %.12s added", clean(string(e.Container)))
	case sandbox.ContainerForgotten:
		return good("container %.12s gone", clean(string(e.Container)))
	case sandbox.ResourcesUpdated:
		return good("the kubelet changed the pod's resources")
	default:
		return sandboxEndWords(e)
	}
}

func sandboxEndWords(e sandbox.Event) phrase {
	switch e := e.(type) {
	case sandbox.StopRequested:
		return good("stop requested")
	case sandbox.RemoveRequested:
		return good("removal requested")
	case sandbox.SandboxLost:
		return failure("pod lost", e.Fault)
	case sandbox.HolderEnded:
		return bad("holder of the shared PID namespace ended with code %d", e.Code)
	case sandbox.ContainerStopped:
		return good("container %.12s stopped", clean(string(e.Container)))
	case sandbox.ContainerStopFailed:
		return again(fmt.Sprintf("container %.12s not stopped", clean(string(e.Container))), e.Fault, e.RetryAt)
	case sandbox.ContainerRemoveFailed:
		return again(fmt.Sprintf("container %.12s not removed", clean(string(e.Container))), e.Fault, e.RetryAt)
	case sandbox.HolderStopped:
		return good("holder stopped")
	case sandbox.HolderStopFailed:
		return again("holder not stopped", e.Fault, e.RetryAt)
	case sandbox.NetworkDetached:
		return good("network detached, addresses free")
	case sandbox.NetworkDetachFailed:
		return again("network not detached", e.Fault, e.RetryAt)
	case sandbox.SandboxStopped:
		return good("pod stopped")
	case sandbox.SandboxReleased:
		return good("namespaces and files removed")
	case sandbox.SandboxReleaseFailed:
		return again("namespaces and files not removed", e.Fault, e.RetryAt)
	case sandbox.SandboxRemoved:
		return good("pod removed")
	default:
		return good("an event that has no words yet: %T", e)
	}
}

func containerWords(e container.Event) phrase {
	switch e := e.(type) {
	case container.ContainerRequested:
		return good("container %s requested by the kubelet, attempt %d", clean(e.Name.Name), e.Name.Attempt)
	case container.RootfsPrepared:
		return good("root file system mounted")
	case container.RootfsPrepareFailed:
		return failure("root file system not mounted", e.Fault)
	case container.ContainerCreated:
		plugins := ""
		if len(e.Adjustment.Plugins) > 0 {
			plugins = ", changed by NRI plug-ins " + clean(strings.Join(e.Adjustment.Plugins, ", "))
		}
		return good("created by the runtime, pid %d%s", e.Process.PID, plugins)
	case container.ContainerCreateFailed:
		return failure("not created by the runtime", e.Fault)
	case container.ContainerFailed:
		return bad("creation given up")
	case container.StartRequested:
		return good("start requested by the kubelet")
	case container.ContainerStarted:
		return good("started")
	case container.ContainerStartFailed:
		return failure("not started", e.Fault)
	case container.ExecRequested:
		// Arguments may be secrets.
		program := "a command"
		if len(e.Command) > 0 {
			program = clean(e.Command[0])
		}
		return good("command %s requested", program)
	case container.ExecEnded:
		if e.TimedOut {
			return bad("command ended at its timeout")
		}
		return good("command ended with code %d", e.Code)
	case container.ExecFailed:
		if e.Fault.Kind == fault.Interrupted {
			return failure("command interrupted", e.Fault)
		}
		return failure("command not run", e.Fault)
	case container.ResourcesUpdateRequested:
		if e.ByPlugin {
			return good("change of resources requested by an NRI plug-in")
		}
		return good("change of resources requested by the kubelet")
	case container.ResourcesUpdated:
		return good("resources changed")
	case container.ResourcesUpdateFailed:
		return failure("resources not changed", e.Fault)
	case container.LogReopenRequested:
		return good("new log file requested by the kubelet")
	case container.LogReopened:
		return good("log file opened anew")
	case container.LogReopenFailed:
		return failure("log file not opened anew", e.Fault)
	case container.OutputLost:
		return bad("%s of output lost: %s", amount(e.Bytes), clean(e.Reason))
	case container.SyscallsBlocked:
		if e.Stop {
			return bad("forbidden system calls, for which the pod wants the container killed: %s", container.Blocked{Calls: e.Calls})
		}
		return bad("forbidden system calls: %s", container.Blocked{Calls: e.Calls})
	default:
		return containerEndWords(e)
	}
}

func containerEndWords(e container.Event) phrase {
	switch e := e.(type) {
	case container.StopRequested:
		if container.RequestedBy(e.Request) == container.ByPod {
			return good("stop requested: its pod is being stopped; SIGKILL at %s", clock(e.Deadline))
		}
		return good("stop requested by the kubelet; SIGKILL at %s", clock(e.Deadline))
	case container.StopWithdrawn:
		return good("stop withdrawn: its caller went away")
	case container.StopSignalled:
		return good("stop signal sent")
	case container.StopSignalFailed:
		return failure("stop signal not sent", e.Fault)
	case container.KillRequested:
		return killWords(e)
	case container.Killed:
		return good("SIGKILL sent to all processes")
	case container.KillFailed:
		return again("SIGKILL not sent", e.Fault, e.RetryAt)
	case container.ContainerExited:
		return phrase{"ended: " + exitWords(e.Exit) + outOfMemory(e.Exit), e.Exit.Code != 0}
	case container.ContainerSuperseded:
		return good("replaced before its start: the kubelet asked for the name again, with another configuration")
	case container.RemoveRequested:
		switch e.By {
		case container.ByCall:
			return good("removal requested by the kubelet")
		case container.ByPod:
			return good("removal requested: its pod is being removed")
		case container.ByNode:
			return good("removal requested: its pod does not know it")
		}
		return good("removal requested")
	case container.RuntimeDeleted:
		return good("deleted by the runtime")
	case container.RuntimeDeleteFailed:
		return again("not deleted by the runtime", e.Fault, e.RetryAt)
	case container.RootfsReleased:
		return good("root file system removed")
	case container.RootfsReleaseFailed:
		return again("root file system not removed", e.Fault, e.RetryAt)
	case container.ContainerRemoved:
		return good("container removed")
	default:
		return good("an event that has no words yet: %T", e)
	}
}

// killWords says why SIGKILL is due. That a process did not heed its stop signal is something
// to look at; that a caller was in a hurry is not.
func killWords(e container.KillRequested) phrase {
	switch {
	case e.By == container.BySeccomp:
		return bad("SIGKILL due: its pod wants that for forbidden system calls")
	case e.GraceOver:
		return bad("SIGKILL due: it did not end within its grace period")
	case e.By == container.ByCall:
		return good("SIGKILL due: the kubelet asked for it without a grace period")
	case e.By == container.ByPod:
		return good("SIGKILL due: its pod is being stopped")
	}
	return bad("SIGKILL due")
}

// outOfMemory says what memory a container used that had too little.
func outOfMemory(x container.Exit) string {
	switch {
	case !x.OOMKilled || x.MemoryPeak == 0:
		return ""
	case x.MemoryLimit == 0:
		return fmt.Sprintf(" (no limit of its own, used %s at its highest)", amount(x.MemoryPeak))
	}
	return fmt.Sprintf(" (limit %s, used %s at its highest)", amount(x.MemoryLimit), amount(x.MemoryPeak))
}

func imageWords(e image.Event) phrase {
	switch e := e.(type) {
	case image.PullRequested:
		return good("pull requested")
	case image.ImageResolved:
		return good("found in the registry: %d layers, %s", e.Layers, size(e.Bytes))
	case image.LayerFetched:
		if e.Layer.Present {
			return good("layer already there")
		}
		return good("layer fetched, %s", amount(e.Layer.Bytes))
	case image.ImagePulled:
		return good("pulled, %s transferred", amount(e.Bytes))
	case image.PullFailed:
		return failure("not pulled", e.Fault)
	case image.LoadRequested:
		return good("load requested")
	case image.ImagesLoaded:
		return good("%d images loaded", len(e.Images))
	case image.LoadFailed:
		return failure("not loaded", e.Fault)
	case image.RemoveRequested:
		return good("removal requested")
	case image.ImageRemoved:
		return good("removed")
	case image.RemoveFailed:
		return failure("not removed", e.Fault)
	default:
		return good("an event that has no words yet: %T", e)
	}
}

func hostWords(e host.Event) phrase {
	switch e := e.(type) {
	case host.DaemonStarted:
		if e.Crashed {
			return bad("daemon %s started, pid %d; the one before it had crashed or was killed", clean(e.Version), e.PID)
		}
		return good("daemon %s started, pid %d", clean(e.Version), e.PID)
	case host.DaemonStopped:
		return good("daemon stopped")
	case host.NodeRebooted:
		return bad("the node was rebooted")
	case host.MonitorStarted:
		return good("monitor %s started, pid %d", clean(e.Version), e.PID)
	case host.MonitorLost:
		return bad("monitor lost: %s", clean(e.Reason))
	case host.NetworkConfigured:
		return good("CNI network configured: %s", clean(e.Network))
	case host.NetworkUnconfigured:
		return bad("no CNI network: %s", clean(e.Problem))
	case host.PodCIDRChanged:
		return good("the pods' addresses are now from %s", clean(e.CIDR))
	case host.StreamQuarantined:
		return bad("the history of %s cannot be continued: %s", clean(e.Stream), clean(e.Reason))
	case host.ContainersUnconfined:
		return bad("containers run without profiles of %s", clean(e.Module))
	case host.LogReplaced:
		return bad("%s", logReplaced(e))
	case host.StreamClosed:
		return good("nothing is left of %s", clean(e.Stream))
	default:
		return good("an event that has no words yet: %T", e)
	}
}

// logReplaced says what became of a damaged log, and what is known without it.
func logReplaced(e host.LogReplaced) string {
	said := "the event log was replaced: " + clean(e.Reason)
	if e.SetAside != "" {
		said += "; it is kept as " + clean(e.SetAside)
	}
	if e.Backup != "" {
		said += fmt.Sprintf("; the history until %s is from the backup %s", e.BackupUntil.UTC().Format(time.RFC3339), clean(e.Backup))
	} else {
		said += "; there was no good backup"
	}
	said += fmt.Sprintf("; %d pods and containers have the states that the state directory kept", e.Restored)
	if e.Outdated > 0 {
		said += fmt.Sprintf(", %d those of the backup", e.Outdated)
	}
	if e.Unexplained > 0 {
		said += fmt.Sprintf(", and nothing says what %d others are", e.Unexplained)
	}
	return said
}

// opensSandbox reports whether an event begins something, rather than follows from it.
func opensSandbox(e sandbox.Event) bool {
	switch e.(type) {
	case sandbox.SandboxRequested, sandbox.StopRequested, sandbox.RemoveRequested, sandbox.SandboxLost, sandbox.HolderEnded,
		sandbox.ContainerAdded, sandbox.ResourcesUpdated:
		return true
	default:
		return false
	}
}

// opensImage is opensSandbox for images.
func opensImage(e image.Event) bool {
	switch e.(type) {
	case image.PullRequested, image.LoadRequested, image.RemoveRequested:
		return true
	default:
		return false
	}
}

// opensContainer is opensSandbox for containers.
func opensContainer(e container.Event) bool {
	switch e.(type) {
	case container.ContainerRequested, container.StartRequested, container.StopRequested, container.ExecRequested,
		container.ResourcesUpdateRequested, container.LogReopenRequested, container.RemoveRequested, container.ContainerSuperseded:
		return true
	default:
		return false
	}
}

// exitWords says how a process ended, without why.
func exitWords(x container.Exit) string {
	if x.Unknown != "" {
		return "nobody saw how: " + clean(x.Unknown)
	}
	s := "exit code " + strconv.Itoa(x.Code)
	if x.Signal != 0 {
		s = fmt.Sprintf("killed by %s (exit code %d)", signal(x.Signal), x.Code)
	}
	if x.OOMKilled {
		s += ", out of memory"
	}
	if x.Note != "" {
		s += "; " + clean(x.Note)
	}
	return s
}

// signals are Linux's names, by number.
var signals = [...]string{1: "SIGHUP", 2: "SIGINT", 3: "SIGQUIT", 4: "SIGILL", 5: "SIGTRAP", 6: "SIGABRT", 7: "SIGBUS", 8: "SIGFPE",
	9: "SIGKILL", 10: "SIGUSR1", 11: "SIGSEGV", 12: "SIGUSR2", 13: "SIGPIPE", 14: "SIGALRM", 15: "SIGTERM", 16: "SIGSTKFLT",
	17: "SIGCHLD", 18: "SIGCONT", 19: "SIGSTOP", 20: "SIGTSTP", 21: "SIGTTIN", 22: "SIGTTOU", 23: "SIGURG", 24: "SIGXCPU",
	25: "SIGXFSZ", 26: "SIGVTALRM", 27: "SIGPROF", 28: "SIGWINCH", 29: "SIGIO", 30: "SIGPWR", 31: "SIGSYS"}

func signal(n int) string {
	if n > 0 && n < len(signals) {
		return signals[n]
	}
	return "signal " + strconv.Itoa(n)
}

// reason is a fault's cause; a subject that is no id is named.
func reason(f fault.Fault) string {
	switch {
	case f.Reason != "":
		return clean(f.Reason)
	case f.Op != "":
		return clean(f.Op + " failed")
	}
	return "no reason was recorded"
}

// reasonMost bounds a foreign text within a sentence, in runes.
const reasonMost = 600

// clean makes a foreign text safe and short enough for a line: no secret, no control
// character.
func clean(s string) string {
	var b strings.Builder
	n := 0
	for _, r := range redact.Text(s) {
		switch {
		case r == '\n' || r == '\t' || r == '\r':
			b.WriteByte(' ')
		case !strconv.IsPrint(r):
			b.WriteByte('?')
		default:
			b.WriteRune(r)
		}
		if n++; n == reasonMost {
			b.WriteString("…")
			break
		}
	}
	return strings.TrimSpace(b.String())
}

// size is a number of bytes as people read it.
func size(n int64) string { return strings.Replace(inUnits(n), ".0 ", " ", 1) }

func amount(n uint64) string { return size(int64(min(n, 1<<62))) }

func inUnits(n int64) string {
	switch {
	case n < 0:
		return "unknown size"
	case n >= 1<<30:
		return fmt.Sprintf("%.1f GiB", float64(n)/(1<<30))
	case n >= 1<<20:
		return fmt.Sprintf("%.1f MiB", float64(n)/(1<<20))
	case n >= 1<<10:
		return fmt.Sprintf("%.1f KiB", float64(n)/(1<<10))
	}
	return fmt.Sprintf("%d bytes", n)
}

// clock is a time of the day in UTC, beside an event of that day.
func clock(at time.Time) string { return at.UTC().Format("15:04:05") + " UTC" }

// day is a time within a sentence that stands alone.
func day(at time.Time) string { return at.UTC().Format("2 January 15:04:05") + " UTC" }

// Took is a duration as people read it: three digits at most.
func Took(d time.Duration) string { return strings.Replace(took(max(0, d)), ".0 ", " ", 1) }

func took(d time.Duration) string {
	switch {
	case d < 10*time.Millisecond:
		return fmt.Sprintf("%.1f ms", float64(d)/float64(time.Millisecond))
	case d < time.Second:
		return fmt.Sprintf("%d ms", d.Milliseconds())
	case d < time.Minute:
		return fmt.Sprintf("%.1f s", d.Seconds())
	case d < time.Hour:
		return fmt.Sprintf("%d min %d s", int(d.Minutes()), int(d.Seconds())%60)
	case d < 48*time.Hour:
		return fmt.Sprintf("%d h %d min", int(d.Hours()), int(d.Minutes())%60)
	}
	return fmt.Sprintf("%d days", int(d.Hours())/24)
}

// callOfContainer is callOf for containers, which are stopped and removed by their pods, too.
func callOfContainer(e container.Event, command string) string {
	switch e := e.(type) {
	case container.StopRequested:
		if container.RequestedBy(e.Request) == container.ByCall {
			return "StopContainer"
		}
	case container.KillRequested:
		if e.By == container.ByCall && !e.GraceOver {
			return "StopContainer"
		}
	case container.RemoveRequested:
		if e.By == container.ByCall {
			return "RemoveContainer"
		}
	default:
		return callOf(opensContainer(e), command)
	}
	return ""
}

// calls are the CRI's calls whose commands nobody else sends.
var calls = map[string]string{
	"sandbox.Run": "RunPodSandbox", "sandbox.Stop": "StopPodSandbox", "sandbox.Remove": "RemovePodSandbox",
	"sandbox.UpdateResources": "UpdatePodSandboxResources", "container.Create": "CreateContainer", "container.Start": "StartContainer",
	"container.ReopenLog": "ReopenContainerLog", "image.RequestPull": "PullImage", "image.Remove": "RemoveImage",
	"image.RequestLoad": "stele image load", "host.ReportPodCIDR": "UpdateRuntimeConfig",
}
