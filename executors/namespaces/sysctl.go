package namespaces

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/stele-runtime/stele/actors/fault"
)

const (
	// sysctlMost bounds key and value, in bytes. A page is what the kernel takes.
	sysctlMost = 4096
	// hostnameMost is the kernel's bound, in bytes.
	hostnameMost = 64
	procSys      = "/proc/sys"
)

// sysctlKey matches a key in either of its two spellings, net.ipv4.ip_forward and
// net/ipv4/ip_forward. No element is empty or consists of dots, and no character
// ends anything for a shell or a list of options.
var sysctlKey = regexp.MustCompile(`^[a-z0-9]([-_a-zA-Z0-9]*[a-zA-Z0-9])?([./][a-zA-Z0-9]([-_a-zA-Z0-9]*[a-zA-Z0-9])?)+$`)

// ipcSysctls are the sysctls of the IPC namespace, beside all of fs.mqueue. They
// are listed, rather than matched as kernel.shm* and kernel.msg*, because a new
// kernel may have others of that name that belong to the node.
func ipcSysctls() []string {
	return []string{
		"kernel.msg_next_id", "kernel.msgmax", "kernel.msgmnb", "kernel.msgmni", "kernel.sem",
		"kernel.shm_next_id", "kernel.shm_rmid_forced", "kernel.shmall", "kernel.shmmax", "kernel.shmmni",
	}
}

// ValidateSysctls refuses sysctls that would change the node: those that belong to
// no namespace, and those whose namespace the pod shares with the node
// (CVE-2022-0532). A value cannot smuggle in another sysctl (CVE-2022-0811): it is
// written alone, into the one file of its key, and characters that separate sysctls
// elsewhere are refused. kernel.hostname has a field of its own in the request.
// Errors are *fault.Fault of kind Invalid that name key and value.
func ValidateSysctls(sysctls map[string]string, hostNetwork, hostIPC bool) error {
	for _, key := range slices.Sorted(maps.Keys(sysctls)) {
		if reason := refusal(key, sysctls[key], hostNetwork, hostIPC); reason != "" {
			return invalidSysctl(key, sysctls[key], reason)
		}
	}
	return nil
}

func invalidSysctl(key, value, reason string) error {
	return fault.New(fault.Invalid, "", "", "linux.sysctls[%.200q]: value %.200q: %s", key, value, reason)
}

// refusal says why a sysctl is refused; empty if it is not.
func refusal(key, value string, hostNetwork, hostIPC bool) string {
	switch {
	case len(key) > sysctlMost || !sysctlKey.MatchString(key):
		return "the key is not the name of a sysctl"
	case len(value) > sysctlMost:
		return "the value is too long"
	case strings.ContainsFunc(value, notInValue):
		return "the value has a character that values of sysctls don't have"
	}
	kind, ok := kindOf(key)
	switch {
	case !ok:
		return "the sysctl belongs to no namespace of the pod, it would change the node"
	case kind == Network && hostNetwork:
		return "the pod uses the node's network namespace"
	case kind == IPC && hostIPC:
		return "the pod uses the node's IPC namespace"
	}
	return ""
}

// notInValue reports whether a character is refused in values. Tools that set
// several sysctls separate them by line ends or plus signs.
func notInValue(r rune) bool {
	return r == '+' || r > '~' || r < ' ' && r != '\t'
}

// kindOf returns the kind of namespace that a sysctl belongs to.
func kindOf(key string) (Kind, bool) {
	dotted := strings.Join(elements(key), ".")
	switch {
	case strings.HasPrefix(dotted, "net."):
		return Network, true
	case strings.HasPrefix(dotted, "fs.mqueue."), slices.Contains(ipcSysctls(), dotted):
		return IPC, true
	}
	return "", false
}

// OfIPC returns a sysctl of the IPC namespace that is among those given; empty if there is none.
func OfIPC(sysctls map[string]string) string {
	for _, key := range slices.Sorted(maps.Keys(sysctls)) {
		if kind, _ := kindOf(key); kind == IPC {
			return key
		}
	}
	return ""
}

// elements splits a key. The first separator says which of the two is one: in
// net/ipv4/conf/eth0.1/forwarding the dot belongs to the name of the interface.
func elements(key string) []string {
	if i := strings.IndexAny(key, "./"); i >= 0 && key[i] == '/' {
		return strings.Split(key, "/")
	}
	all := strings.Split(key, ".")
	for i := range all {
		all[i] = strings.ReplaceAll(all[i], "/", ".")
	}
	return all
}

// ofInterface reports whether a sysctl is an interface's own (net.ipv4.conf.eth0.…). It
// exists once the interface does. The loopback device is there from the beginning, and
// what holds for all interfaces, or is inherited by new ones, must be there before them.
func ofInterface(key string) bool {
	parts := elements(key)
	return len(parts) > 4 && parts[0] == "net" && (parts[2] == "conf" || parts[2] == "neigh") &&
		!slices.Contains([]string{"all", "default", "lo"}, parts[3])
}

// WriteInterfaceSysctls writes, in the network namespace that is pinned in the directory,
// the sysctls that belong to single interfaces. Pin leaves them out: they can be written
// once the pod is attached to its network. It is idempotent. Errors about a sysctl are
// *fault.Fault of kind Invalid that name key and value.
func WriteInterfaceSysctls(ctx context.Context, dir string, sysctls map[string]string) error {
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("write sysctls of interfaces: %w", err)
	}
	late := maps.Clone(sysctls)
	maps.DeleteFunc(late, func(key, _ string) bool { return !ofInterface(key) })
	if len(late) == 0 {
		return nil
	}
	if err := ValidateSysctls(late, false, false); err != nil {
		return err
	}
	return onThreadOfItsOwn(func() error {
		if err := enter(filepath.Join(dir, string(Network)), Network); err != nil {
			return fmt.Errorf("enter the network namespace in %s: %w", dir, err)
		}
		return writeSysctls(late, Network)
	})
}

// earlySysctls are those that can be written before the pod has interfaces.
func earlySysctls(sysctls map[string]string) map[string]string {
	early := maps.Clone(sysctls)
	maps.DeleteFunc(early, func(key, _ string) bool { return ofInterface(key) })
	return early
}

// writeSysctls writes those that belong to a kind of namespace. The calling thread
// must be in one of its own: /proc/sys shows each thread its own namespaces, for
// fs.mqueue as well, which needs no mount of a message queue file system.
//
// The kernel checks some values against others: no local port may be privileged, for
// example. A map has no order, so what is refused is tried again after the rest.
func writeSysctls(sysctls map[string]string, k Kind) error {
	var left []string
	for _, key := range slices.SortedFunc(maps.Keys(sysctls), generalFirst) {
		if of, ok := kindOf(key); ok && of == k {
			left = append(left, key)
		}
	}
	for {
		var failed []string
		var first error
		for _, key := range left {
			// The key was checked: no element is "..".
			path := filepath.Join(append([]string{procSys}, elements(key)...)...)
			if err := os.WriteFile(path, []byte(sysctls[key]), 0); err != nil {
				failed = append(failed, key)
				first = cmp.Or(first, invalidSysctl(key, sysctls[key], err.Error()))
			}
		}
		if len(failed) == 0 || len(failed) == len(left) {
			return first
		}
		left = failed
	}
}

// generalFirst orders sysctls: net.ipv4.ip_forward sets the forwarding of all interfaces,
// and must not undo what is asked for one of them.
func generalFirst(a, b string) int {
	const general = "net.ipv4.ip_forward"
	key := func(s string) string {
		if s = strings.Join(elements(s), "."); s == general {
			return ""
		}
		return s
	}
	return cmp.Compare(key(a), key(b))
}

// validateHostname bounds what goes into sethostname.
func validateHostname(name string) error {
	if len(name) > hostnameMost {
		return fault.New(fault.Invalid, "", "", "hostname: %.100q is longer than %d bytes", name, hostnameMost)
	}
	return nil
}
