package spec

import (
	"errors"
	"fmt"
	"path"
	"strconv"
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/stele-runtime/stele/actors/fault"
)

// DefaultMount is a file or directory of the node, a secret often, of which every container gets
// a copy.
type DefaultMount struct {
	// Source is a path of the node, Destination one in the container; both are absolute and clean.
	Source, Destination string
}

// ErrDangling is in the answer about a path of the node with a link that leads to nothing.
var ErrDangling = errors.New("a link that leads to nothing")

// maxDefaultMounts bounds what one file lists.
const maxDefaultMounts = 128

// ParseDefaultMounts reads a file in the format of containers-mounts.conf(5): a line for each
// mount, SOURCE:DESTINATION, and comments that begin with #. Of two for the same place the later
// one counts.
func ParseDefaultMounts(text string) ([]DefaultMount, error) {
	var all []DefaultMount
	at := map[string]int{}
	for i, line := range strings.Split(text, "\n") {
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		m, err := parseDefaultMount(line)
		if err != nil {
			return nil, fmt.Errorf("line %d: %q %w", i+1, line, err)
		}
		if n, again := at[m.Destination]; again {
			all[n] = m
			continue
		}
		at[m.Destination] = len(all)
		if all = append(all, m); len(all) > maxDefaultMounts {
			return nil, fmt.Errorf("more than %d mounts", maxDefaultMounts)
		}
	}
	return all, nil
}

func parseDefaultMount(line string) (DefaultMount, error) {
	source, dest, ok := strings.Cut(line, ":")
	if !ok || !path.IsAbs(source) || !path.IsAbs(dest) || strings.ContainsAny(line, "\x00\r") {
		return DefaultMount{}, errors.New("is not SOURCE:DESTINATION, two absolute paths")
	}
	m := DefaultMount{Source: path.Clean(source), Destination: path.Clean(dest)}
	if m.Destination == "/" || isKernelDir(m.Destination) {
		return DefaultMount{}, errors.New("has a destination where nothing can be mounted")
	}
	return m, nil
}

// planDefaultMounts has what the administrator gives to all containers copied, if the node has it.
// A copy, because a container shall change nothing on the node; in the same place for a second
// plan.
func planDefaultMounts(r *request, plan *Plan, asked []specs.Mount) ([]specs.Mount, error) {
	var out []specs.Mount
	uid, gid := r.users.Root()
	for n, m := range r.Options.DefaultMounts {
		if coveredBy(asked, m.Destination) {
			continue
		}
		found, answered := r.found.DefaultMounts[m.Source]
		switch {
		case !answered:
			return nil, fmt.Errorf("default_mounts_file: nobody looked at %s", m.Source)
		case found.Missing, errors.Is(found.Err, ErrDangling):
			continue
		case found.Err != nil:
			return nil, fault.New(fault.Precondition, "default_mounts_file: copy", m.Source, "%v", found.Err)
		}
		copied := path.Join(r.VolumesDir, "default-"+strconv.Itoa(n))
		plan.Steps = append(plan.Steps, CopyOfNode{Source: found.Path, Path: copied, UID: uid, GID: gid})
		if label := plan.Spec.Linux.MountLabel; label != "" {
			plan.Steps = append(plan.Steps, Relabel{Path: copied, Label: label})
		}
		out = append(out, bind(copied, m.Destination, r.fileMode(), "rprivate", "nosuid", "nodev", "noexec"))
	}
	return out, nil
}

// coveredBy reports whether a mount that the pod asks for is at a path or above it: what the
// container gets beside would be made in the pod's volume.
func coveredBy(asked []specs.Mount, dest string) bool {
	for _, m := range asked {
		if covers(m.Destination, dest) {
			return true
		}
	}
	return false
}
