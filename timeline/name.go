package timeline

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/stele-runtime/stele/actors/container"
	"github.com/stele-runtime/stele/actors/id"
	"github.com/stele-runtime/stele/actors/sandbox"
)

// Name is how people name a pod or a container: a pod's name, NAMESPACE/POD,
// NAMESPACE/POD/CONTAINER, or a prefix of an id; with @N the N-th attempt.
type Name struct {
	text  string
	parts []string
	// attempt is -1 for the newest.
	attempt int64
}

// nameMost bounds a name, in bytes: NAMESPACE/POD/CONTAINER@ATTEMPT fits.
const nameMost = 512

// ParseName reads a name. Its error says what is wrong with the text.
func ParseName(text string) (Name, error) {
	n := Name{text: text, attempt: -1}
	if len(text) > nameMost {
		return n, fmt.Errorf("name %.40q…: is longer than %d bytes", text, nameMost)
	}
	path, attempt, has := strings.Cut(text, "@")
	if has {
		number, err := strconv.ParseUint(attempt, 10, 32)
		if err != nil {
			return n, fmt.Errorf("name %q: the attempt after @ is %q, not a number", text, attempt)
		}
		n.attempt = int64(number)
	}
	// The names of streams, as `stele events` shows them.
	for _, kind := range []string{"sandbox/", "container/"} {
		path = strings.TrimPrefix(path, kind)
	}
	n.parts = strings.Split(path, "/")
	if len(n.parts) > 3 || slices.Contains(n.parts, "") {
		return n, fmt.Errorf("name %q: is none of POD, NAMESPACE/POD, NAMESPACE/POD/CONTAINER and the prefix of an id", text)
	}
	return n, nil
}

// String is the name as given.
func (n Name) String() string { return n.text }

// Part is in a name or an id of everything that the name means.
func (n Name) Part() string {
	if len(n.parts) == 1 {
		return n.parts[0]
	}
	return n.parts[1]
}

func (n Name) has(attempt uint32) bool { return n.attempt < 0 || n.attempt == int64(attempt) }

// Pod reports whether the name means a sandbox.
func (n Name) Pod(s id.Sandbox, name sandbox.Name) bool {
	switch len(n.parts) {
	case 1:
		return strings.HasPrefix(string(s), n.parts[0]) && n.attempt < 0 || name.Name == n.parts[0] && n.has(name.Attempt)
	case 2:
		return name.Namespace == n.parts[0] && name.Name == n.parts[1] && n.has(name.Attempt)
	}
	return false
}

// Container reports whether the name means a container itself, and not its pod.
func (n Name) Container(c id.Container, name container.Name, pod sandbox.Name) bool {
	switch len(n.parts) {
	case 1:
		return strings.HasPrefix(string(c), n.parts[0]) && n.attempt < 0
	case 3:
		return pod.Namespace == n.parts[0] && pod.Name == n.parts[1] && name.Name == n.parts[2] && n.has(name.Attempt)
	}
	return false
}

// Found is what a name means: a pod, or one container of it.
type Found struct {
	Pod *Pod
	// Container is nil if the name means the pod.
	Container *Container
	// Older are earlier sandboxes of the same pod, oldest first.
	Older []*Pod
}

// AmbiguousError says that a name means several things.
type AmbiguousError struct {
	Name string
	// Could are names that mean one thing each.
	Could []string
}

// couldMost bounds the list in the error's text.
const couldMost = 10

func (e *AmbiguousError) Error() string {
	shown, more := e.Could, ""
	if len(shown) > couldMost {
		shown, more = shown[:couldMost], fmt.Sprintf("\n  and %d more", len(e.Could)-couldMost)
	}
	return fmt.Sprintf("name %q is ambiguous; it could mean\n  %s%s", e.Name, strings.Join(shown, "\n  "), more)
}

// UnknownError says that a name means nothing.
type UnknownError struct{ Name string }

func (e *UnknownError) Error() string {
	return fmt.Sprintf("no pod or container of this log has the name or the id prefix %q", e.Name)
}

// Find returns what a name means. Errors: *UnknownError, *AmbiguousError.
func (t *Timeline) Find(n Name) (Found, error) {
	pods := map[string][]*Pod{} // by namespace and name
	var order []string
	for _, p := range t.Pods() {
		if n.Pod(p.State.ID, p.State.Name) {
			key := podKey(p)
			if pods[key] == nil {
				order = append(order, key)
			}
			pods[key] = append(pods[key], p)
		}
	}
	containers := t.named(n)
	switch {
	case len(order)+len(containers) == 0:
		return Found{}, &UnknownError{n.text}
	case len(order) == 1 && len(containers) == 0:
		same := pods[order[0]]
		last := len(same) - 1
		return Found{Pod: same[last], Older: same[:last]}, nil
	case len(order) == 0 && (len(containers) == 1 || len(n.parts) == 3):
		// The newest attempt of a name.
		c := containers[len(containers)-1]
		return Found{Pod: t.podOf(c), Container: c}, nil
	}
	var could []string
	for _, key := range order {
		could = append(could, fmt.Sprintf("pod %s (%.12s)", key, pods[key][len(pods[key])-1].State.ID))
	}
	for _, c := range containers {
		could = append(could, fmt.Sprintf("container %s of pod %s (%.12s)", c.State.Name.Name, podKey(t.podOf(c)), c.State.ID))
	}
	return Found{}, &AmbiguousError{n.text, could}
}

// named returns the containers that a name means, oldest first.
func (t *Timeline) named(n Name) []*Container {
	var all []*Container
	for _, c := range t.containers {
		if n.Container(c.State.ID, c.State.Name, t.podOf(c).State.Name) {
			all = append(all, c)
		}
	}
	sortByAge(all)
	return all
}

// podOf returns a container's pod, an empty one if no record spoke of it.
func (t *Timeline) podOf(c *Container) *Pod {
	if p := t.pods[c.State.Sandbox]; p != nil {
		return p
	}
	p := &Pod{}
	p.State.ID = c.State.Sandbox
	return p
}

// podKey is NAMESPACE/POD, or the id of a pod whose request is not in the records.
func podKey(p *Pod) string {
	if p.State.Name.Name == "" {
		return string(p.State.ID)
	}
	return clean(p.State.Name.Namespace + "/" + p.State.Name.Name)
}
