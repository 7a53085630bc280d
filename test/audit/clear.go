package audit

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"
)

// Clear ends and removes everything of a scope from the kernel: processes, mounts, bridges
// with their links, cgroups, firewall rules, host ports. It is for daemons that are gone; the
// directories themselves stay. It never touches what Take would not report.
func Clear(scope Scope) error {
	err := killAll(scope)
	return errors.Join(err, unmountAll(scope), removeBridges(scope), removeCgroups(scope), removeFirewall(scope), clearHostPorts(scope))
}

// killAll kills until nothing is left: a victim may just have forked.
func killAll(scope Scope) error {
	for deadline := time.Now().Add(settling); ; time.Sleep(20 * time.Millisecond) {
		snapshot := Snapshot{}
		if err := processes(scope, snapshot); err != nil {
			return err
		}
		left := 0
		for trace, details := range snapshot {
			for _, detail := range details {
				var pid int
				if _, err := fmt.Sscanf(detail, "pid %d,", &pid); err != nil {
					return fmt.Errorf("clear: process %q: %q: %w", trace.What, detail, err)
				}
				if strings.Contains(detail, "a zombie of") {
					continue
				}
				left++
				if err := syscall.Kill(pid, syscall.SIGKILL); err != nil && !gone(err) {
					return fmt.Errorf("clear: kill %d: %w", pid, err)
				}
			}
		}
		if left == 0 {
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("clear: %d processes do not end", left)
		}
	}
}

func unmountAll(scope Scope) error {
	table, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return err
	}
	var points []string
	for m := range mountsIn(table) {
		if scope.mentionsDir(m.point) || scope.mentionsDir(m.options) {
			points = append(points, m.point)
		}
	}
	// The latest first: it covers the others.
	slices.Reverse(points)
	var errs []error
	for _, point := range points {
		if err := syscall.Unmount(point, syscall.MNT_DETACH); err != nil && err != syscall.EINVAL && !gone(err) {
			errs = append(errs, fmt.Errorf("clear: unmount %s: %w", point, err))
		}
	}
	return errors.Join(errs...)
}

func removeBridges(scope Scope) error {
	var errs []error
	for _, bridge := range scope.Bridges {
		ports, err := os.ReadDir(filepath.Join("/sys/class/net", bridge, "brif"))
		if gone(err) {
			continue
		}
		links := []string{bridge}
		for _, port := range ports {
			links = append(links, port.Name())
		}
		for _, link := range links {
			out, err := exec.Command("ip", "link", "delete", link).CombinedOutput()
			if err != nil && !strings.Contains(string(out), "Cannot find device") {
				errs = append(errs, fmt.Errorf("clear: remove link %s: %w: %s", link, err, out))
			}
		}
	}
	return errors.Join(errs...)
}

// removeCgroups removes what is below the parents, and the parents.
func removeCgroups(scope Scope) error {
	table, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return err
	}
	var errs []error
	for m := range mountsIn(table) {
		if m.fsType != "cgroup" && m.fsType != "cgroup2" {
			continue
		}
		for _, parent := range scope.Cgroups {
			errs = append(errs, removeCgroup(filepath.Join(m.point, parent)))
		}
	}
	return errors.Join(errs...)
}

func removeCgroup(dir string) error {
	children, err := os.ReadDir(dir)
	if gone(err) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, child := range children {
		if child.IsDir() {
			if err := removeCgroup(filepath.Join(dir, child.Name())); err != nil {
				return err
			}
		}
	}
	// A cgroup is busy for a moment after its last process was reaped.
	for deadline := time.Now().Add(settling); ; time.Sleep(10 * time.Millisecond) {
		err := syscall.Rmdir(dir)
		if err == nil || gone(err) {
			return nil
		}
		if err != syscall.EBUSY || time.Now().After(deadline) {
			return fmt.Errorf("clear: remove %s: %w", dir, err)
		}
	}
}

// removeFirewall deletes the rules that name the scope's networks and then the
// chains to which they jumped.
func removeFirewall(scope Scope) error {
	if len(scope.Networks) == 0 {
		return nil
	}
	var errs []error
	for _, family := range []string{"iptables", "ip6tables"} {
		if _, err := exec.LookPath(family + "-save"); err != nil {
			continue
		}
		rules, err := exec.Command(family + "-save").Output()
		if err != nil {
			errs = append(errs, fmt.Errorf("clear: %s-save: %w", family, err))
			continue
		}
		if restore := undoing(string(rules), scope); restore != "" {
			cmd := exec.Command(family+"-restore", "--noflush")
			cmd.Stdin = strings.NewReader(restore)
			if out, err := cmd.CombinedOutput(); err != nil {
				errs = append(errs, fmt.Errorf("clear: %s-restore: %w: %s", family, err, out))
			}
		}
	}
	return errors.Join(errs...)
}

// undoing returns the input for iptables-restore that removes the scope's rules and their
// chains, from the output of iptables-save.
func undoing(saved string, scope Scope) string {
	var out, table strings.Builder
	chains := map[string]bool{}
	for line := range strings.Lines(saved) {
		line = strings.TrimSpace(line)
		switch {
		case strings.HasPrefix(line, "*"):
			table.Reset()
			clear(chains)
			table.WriteString(line + "\n")
		case strings.HasPrefix(line, "-A ") && scope.namedIn(line):
			table.WriteString("-D" + strings.TrimPrefix(line, "-A") + "\n")
			_, target, _ := strings.Cut(line, " -j ")
			if chain := cniChain.FindString(target); chain != "" {
				chains[chain] = true
			}
		case line == "COMMIT" && strings.Count(table.String(), "\n") > 1:
			for chain := range chains {
				table.WriteString("-F " + chain + "\n-X " + chain + "\n")
			}
			out.WriteString(table.String() + "COMMIT\n")
		}
	}
	return out.String()
}
