package audit

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"syscall"
)

// mounts finds mounts in the scope's directories, or of them: root file systems, pinned
// namespaces, shared memory. It sees this process's mount namespace; those of containers
// are found by their processes.
func mounts(scope Scope, snapshot Snapshot) error {
	table, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return err
	}
	for m := range mountsIn(table) {
		if scope.mentionsDir(m.point) || scope.mentionsDir(m.options) {
			snapshot.add(Mount, m.point, m.fsType)
		}
	}
	return nil
}

type mount struct {
	root, point, fsType, options string
}

// mountsIn reads a mountinfo table, see proc_pid_mountinfo(5).
func mountsIn(table []byte) func(yield func(mount) bool) {
	return func(yield func(mount) bool) {
		lines := bufio.NewScanner(bytes.NewReader(table))
		lines.Buffer(nil, 1<<20)
		for lines.Scan() {
			before, after, ok := strings.Cut(lines.Text(), " - ")
			fields, rest := strings.Fields(before), strings.Fields(after)
			if !ok || len(fields) < 5 || len(rest) < 1 {
				continue
			}
			m := mount{root: fields[3], point: unescape(fields[4]), fsType: rest[0]}
			if len(rest) > 2 {
				m.options = unescape(rest[2])
			}
			if !yield(m) {
				return
			}
		}
	}
}

// unescape undoes the kernel's escapes of blanks and backslashes in paths.
func unescape(path string) string {
	return strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`).Replace(path)
}

// gone reports whether something vanished while it was looked at.
func gone(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ESRCH) || errors.Is(err, syscall.ENODEV)
}

// readIfThere reads a file; one that is not there is empty.
func readIfThere(path string) ([]byte, error) {
	content, err := os.ReadFile(path)
	if err != nil && !gone(err) {
		return nil, fmt.Errorf("audit: %w", err)
	}
	return content, nil
}
