package audit

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
)

// Scope says where a daemon's resources are.
type Scope struct {
	// Root and State are the daemon's directories.
	Root, State string
	// Dirs are its other directories: logs, CNI configuration.
	Dirs []string
	// Bridges are those of its pods' networks.
	Bridges []string
	// Networks are the names of its CNI networks, as the plugins write them into
	// the comments of firewall rules.
	Networks []string
	// IPAM are the data directories of the host-local plugin.
	IPAM []string
	// Cgroups are the parents of its cgroups, relative to each hierarchy ("/kubepods").
	// Everything below one is the daemon's, but not the parent.
	Cgroups []string
	// IDs are of sandboxes and containers whose cgroups are elsewhere.
	IDs []string
}

// Kind of a trace.
type Kind string

// What Take looks for.
const (
	Mount     Kind = "mount"
	Process   Kind = "process"
	Cgroup    Kind = "cgroup"
	Veth      Kind = "veth"
	Address   Kind = "address"
	Firewall  Kind = "firewall rule"
	HostPort  Kind = "host port"
	File      Kind = "file"
	Container Kind = "storage container"
	Layer     Kind = "storage layer"
)

// Trace is one thing that a daemon has on the node. Equal traces are the same: a daemon
// restarted with the same arguments is no new process.
type Trace struct {
	Kind Kind
	// What identifies it: a path, a command line, a rule.
	What string
}

// Snapshot has the traces of one moment, each with details that help to find out about it,
// one for each occurrence.
type Snapshot map[Trace][]string

// Leak is a trace that is new, or occurs more often than before.
type Leak struct {
	Trace
	Detail string
}

func (l Leak) String() string {
	if l.Detail == "" {
		return fmt.Sprintf("%s: %s", l.Kind, l.What)
	}
	return fmt.Sprintf("%s: %s (%s)", l.Kind, l.What, l.Detail)
}

// Take looks at the node. It needs root.
func Take(scope Scope) (Snapshot, error) {
	snapshot := Snapshot{}
	var errs []error
	for _, look := range []func(Scope, Snapshot) error{
		mounts, processes, cgroups, veths, addresses, firewall, hostPorts, files, storage,
	} {
		errs = append(errs, look(scope, snapshot))
	}
	return snapshot, errors.Join(errs...)
}

// Leaks returns the traces in after that are not in before, sorted.
func Leaks(before, after Snapshot) []Leak {
	var leaks []Leak
	for trace, details := range after {
		for _, detail := range details[min(len(details), len(before[trace])):] {
			leaks = append(leaks, Leak{trace, detail})
		}
	}
	slices.SortFunc(leaks, func(a, b Leak) int { return strings.Compare(a.String(), b.String()) })
	return leaks
}

// settling is how long Check waits for the kernel and other daemons' plugins.
const settling = 10 * time.Second

// Check fails the test for every new trace that stays. With a nil before, all are new.
func Check(t testing.TB, scope Scope, before Snapshot) {
	t.Helper()
	leaks, err := Lasting(scope, before, settling)
	if err != nil {
		t.Errorf("audit: %v", err)
	}
	for _, leak := range leaks {
		t.Errorf("left behind: %s", leak)
	}
}

// Lasting returns the leaks that are there throughout patience; without any, it returns at
// once.
func Lasting(scope Scope, before Snapshot, patience time.Duration) ([]Leak, error) {
	var lasting []Leak
	for first, deadline := true, time.Now().Add(patience); ; first = false {
		after, err := Take(scope)
		if err != nil {
			return lasting, err
		}
		leaks := Leaks(before, after)
		if !first {
			leaks = slices.DeleteFunc(leaks, func(l Leak) bool {
				return !slices.ContainsFunc(lasting, func(seen Leak) bool { return seen.Trace == l.Trace })
			})
		}
		lasting = leaks
		if len(lasting) == 0 || time.Now().After(deadline) {
			return lasting, nil
		}
		time.Sleep(100 * time.Millisecond)
	}
}

func (s Snapshot) add(kind Kind, what, detail string) {
	trace := Trace{kind, what}
	s[trace] = append(s[trace], detail)
}

// dirs returns all directories of the scope.
func (s Scope) dirs() []string {
	var dirs []string
	for _, dir := range append([]string{s.Root, s.State}, s.Dirs...) {
		if dir != "" {
			dirs = append(dirs, dir)
		}
	}
	return dirs
}

// mentionsDir reports whether text has the path of one of the scope's directories, or a
// path below it.
func (s Scope) mentionsDir(text string) bool {
	for _, dir := range s.dirs() {
		for rest := text; ; {
			i := strings.Index(rest, dir)
			if i < 0 {
				break
			}
			rest = rest[i+len(dir):]
			if rest == "" || strings.IndexByte("/,: \t\n\x00\"'", rest[0]) >= 0 {
				return true
			}
		}
	}
	return false
}
