package refusal

import (
	"path"
	"strings"
	"unicode/utf8"
)

// First runs checks until one fails.
func First(checks ...func() error) error {
	for _, check := range checks {
		if err := check(); err != nil {
			return err
		}
	}
	return nil
}

// maxName bounds names, in bytes; Kubernetes' own are at most 253.
const maxName = 253

// CheckName refuses names that can't be one element of a path.
func CheckName(field, name string) error {
	switch {
	case name == "":
		return Invalid(field, nil, "is empty")
	case len(name) > maxName:
		return Invalid(field, name, "is longer than %d bytes", maxName)
	case name == "." || name == ".." || strings.ContainsAny(name, "/\\"):
		return Invalid(field, name, "has path elements")
	}
	return CheckPrintable(field, name)
}

// CheckPrintable refuses control characters, which would forge lines of logs and files.
func CheckPrintable(field, s string) error {
	for _, c := range []byte(s) {
		if c < ' ' || c == 0x7f {
			return Invalid(field, s, "has a control character")
		}
	}
	return nil
}

// CheckText refuses strings that would be changed or cut short on their way
// through JSON and the kernel.
func CheckText(field, s string) error {
	if strings.Contains(s, "\x00") {
		return Invalid(field, s, "has a NUL byte")
	}
	if !utf8.ValidString(s) {
		return Invalid(field, nil, "is not valid UTF-8, which the OCI runtime spec can't carry")
	}
	return nil
}

// CheckNoProcess refuses a path in the directory of a process in /proc: in a container that is
// being made, it is the runtime's own.
func CheckNoProcess(field, p string) error {
	below, is := strings.CutPrefix(path.Clean(p), "/proc/")
	if !is {
		return nil
	}
	process, _, _ := strings.Cut(below, "/")
	if process == "self" || process == "thread-self" || strings.Trim(process, "0123456789") == "" {
		return Invalid(field, p, "is in the directory of a process")
	}
	return nil
}
