package confine

import (
	"slices"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"github.com/opencontainers/runtime-spec/specs-go/features"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/stele-runtime/stele/executors/spec/refusal"
	"github.com/stele-runtime/stele/executors/syscalls"
)

// Errors that profiles answer with, by their numbers, which are the same on all machines here.
const (
	eperm  = 1
	enosys = 38
)

// notifierKeys are CRI-O's names of the annotation for its seccomp notifier; the first one counts.
func notifierKeys() []string {
	return []string{"seccomp-notifier-action.crio.io", "io.kubernetes.cri-o.seccompNotifierAction"}
}

// notifierStop is the annotation's value that ends a container.
const notifierStop = "stop"

// Notice is a pod's wish to have the calls reported that its containers' seccomp profiles forbid.
type Notice struct {
	// Annotation asked for it.
	Annotation string
	// Stop: a container that made one is ended. Any other value of the annotation only reports.
	Stop bool
}

// AskedNotice is a pod's wish, by an annotation that the handler allows; nil for none.
func AskedNotice(pod *cri.PodSandboxConfig, allowed []string) *Notice {
	for _, key := range notifierKeys() {
		if action, is := pod.GetAnnotations()[key]; is && slices.Contains(allowed, key) {
			return &Notice{Annotation: key, Stop: action == notifierStop}
		}
	}
	return nil
}

// Notify changes a profile so that the calls that it answers with an error are reported to socket,
// where somebody answers in the same way: with the errors that it returns, by the calls' names. It
// returns none, and changes nothing, if the profile forbids nothing in this way.
//
// What kills stays: the exit tells of it. So does an answer of ENOSYS, which hides a call, so that
// libraries use another, rather than forbids it (the default profile's clone3). A default answer
// becomes a rule for the calls that no rule names: no runtime can report the default itself. A call
// that a rule allows for some arguments has the default for the others, and is not reported.
func (n *Notice) Notify(profile *specs.LinuxSeccomp, socket string, canNotify bool) (map[string]uint32, error) {
	if profile == nil {
		return nil, nil
	}
	w := watch{errnos: map[string]uint32{}}
	var named []string
	for _, rule := range profile.Syscalls {
		named = append(named, rule.Names...)
		w.add(rule)
	}
	rest := slices.DeleteFunc(syscalls.UpTo(named), func(name string) bool { return isWrite(name) || slices.Contains(named, name) })
	if isError(profile.DefaultAction, profile.DefaultErrnoRet) && len(rest) > 0 {
		w.add(specs.LinuxSyscall{Names: rest, Action: profile.DefaultAction, ErrnoRet: profile.DefaultErrnoRet})
	}
	if len(w.errnos) == 0 {
		return nil, nil
	}
	field := "annotations[" + n.Annotation + "]"
	if profile.ListenerPath != "" {
		return nil, refusal.Unsupported(field, profile.ListenerPath, "can't be obeyed: the seccomp profile names a listener of its own")
	}
	if !canNotify {
		return nil, refusal.Unsupported(field, nil, "can't be obeyed: the runtime can't report system calls (%s)", specs.ActNotify)
	}
	profile.Syscalls, profile.ListenerPath = w.rules, socket
	return w.errnos, nil
}

// watch is a profile's rules as they are to be.
type watch struct {
	rules  []specs.LinuxSyscall
	errnos map[string]uint32
}

// add adds a rule: one that forbids becomes one that reports.
func (w *watch) add(rule specs.LinuxSyscall) {
	reported := slices.DeleteFunc(slices.Clone(rule.Names), isWrite)
	if !isError(rule.Action, rule.ErrnoRet) || len(reported) == 0 {
		w.rules = append(w.rules, rule)
		return
	}
	if slices.ContainsFunc(rule.Names, isWrite) {
		kept := rule
		kept.Names = []string{"write"}
		w.rules = append(w.rules, kept)
	}
	for _, name := range reported {
		// With several rules, the answer is the first one's.
		if _, is := w.errnos[name]; !is {
			w.errnos[name] = errno(rule.ErrnoRet)
		}
	}
	w.rules = append(w.rules, specs.LinuxSyscall{Names: reported, Action: specs.ActNotify, Args: rule.Args})
}

// isWrite: a runtime needs write to hand over what reports the calls.
func isWrite(name string) bool { return name == "write" }

// isError reports whether an action forbids a call by an error.
func isError(action specs.LinuxSeccompAction, number *uint) bool {
	return action == specs.ActErrno && errno(number) != enosys
}

// errno is a rule's error. The kernel has none above 4095.
func errno(number *uint) uint32 {
	if number == nil {
		return eperm
	}
	return uint32(min(*number, 4095))
}

// CanNotify reports whether a runtime can report calls. One that doesn't say will fail to create.
func CanNotify(f *features.Features) bool {
	if f == nil || f.Linux == nil || f.Linux.Seccomp == nil || f.Linux.Seccomp.Actions == nil {
		return true
	}
	return slices.Contains(f.Linux.Seccomp.Actions, string(specs.ActNotify))
}
