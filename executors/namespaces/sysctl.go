package namespaces

import (
	"fmt"
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
	procSys    = "/proc/sys"
)

// sysctlKey is a key in either of its two spellings. Nothing that a shell, a path
// or a list of options could take for an end is among its characters.
var sysctlKey = regexp.MustCompile(`^[a-z0-9]([-_a-zA-Z0-9]*[a-zA-Z0-9])?([./][a-zA-Z0-9*]([-_a-zA-Z0-9*]*[a-zA-Z0-9*])?)+$`)

// namespace is the kind of namespace that a sysctl belongs to.
type namespace string

const (
	netNamespace namespace = "network"
	ipcNamespace namespace = "IPC"
)

// ipcSysctls are the sysctls of the IPC namespace, beside all of fs.mqueue.
var ipcSysctls = []string{
	"kernel.msgmax", "kernel.msgmnb", "kernel.msgmni",
	"kernel.sem", "kernel.shmall", "kernel.shmmax", "kernel.shmmni", "kernel.shm_rmid_forced",
}

// ValidateSysctls refuses sysctls that would change the node: those that belong to
// no namespace, and those whose namespace the pod shares with the node
// (CVE-2022-0532). A value cannot bring another sysctl in (CVE-2022-0811): it is
// written by itself, into the one file of its key, and has no control characters.
// Errors are *fault.Fault of kind Invalid that name the key.
func ValidateSysctls(sysctls map[string]string, hostNetwork, hostIPC bool) error {
	for key, value := range sysctls {
		if err := validateSysctl(key, value, hostNetwork, hostIPC); err != nil {
			return err
		}
	}
	return nil
}

func validateSysctl(key, value string, hostNetwork, hostIPC bool) error {
	refuse := func(reason string) error {
		return fault.New(fault.Invalid, "", "", "linux.sysctls[%.200q]: value %.200q: %s", key, value, reason)
	}
	switch {
	case len(key) > sysctlMost || !sysctlKey.MatchString(key):
		return refuse("the key is not the name of a sysctl")
	case len(value) > sysctlMost:
		return refuse("the value is too long")
	case strings.ContainsFunc(value, func(r rune) bool { return r != '\t' && (r < ' ' || r == 0x7f) }):
		return refuse("the value has a control character")
	}
	ns, ok := namespaceOf(key)
	switch {
	case !ok:
		return refuse("the sysctl belongs to no namespace, it would change the node")
	case ns == netNamespace && hostNetwork:
		return refuse("the pod uses the node's network namespace")
	case ns == ipcNamespace && hostIPC:
		return refuse("the pod uses the node's IPC namespace")
	}
	return nil
}

// namespaceOf returns the namespace that a sysctl belongs to.
func namespaceOf(key string) (namespace, bool) {
	dotted := strings.Join(elements(key), ".")
	switch {
	case strings.HasPrefix(dotted, "net."):
		return netNamespace, true
	case strings.HasPrefix(dotted, "fs.mqueue."), slices.Contains(ipcSysctls, dotted):
		return ipcNamespace, true
	}
	return "", false
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

// writeSysctls writes those that belong to ns. The calling thread must be in it.
func writeSysctls(sysctls map[string]string, ns namespace) error {
	for key, value := range sysctls {
		if of, ok := namespaceOf(key); !ok || of != ns {
			continue
		}
		// The key was checked: no element is "..".
		path := filepath.Join(append([]string{procSys}, elements(key)...)...)
		if err := os.WriteFile(path, []byte(value), 0); err != nil {
			return fault.New(fault.Invalid, "", "", "linux.sysctls[%q]: value %q: %v", key, value, err)
		}
	}
	return nil
}

// validateHostname bounds what goes into sethostname.
func validateHostname(name string) error {
	const most = 64 // the kernel's
	if len(name) > most {
		return fmt.Errorf("hostname %.100q is longer than %d bytes", name, most)
	}
	return nil
}
