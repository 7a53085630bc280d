package projections

import (
	"bytes"
	"iter"
	"slices"
	"strings"

	"google.golang.org/protobuf/proto"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/stele-runtime/stele/actors/id"
	"github.com/stele-runtime/stele/actors/sandbox"
)

// packAtOnce is how many entities are in one array at most, and packBytes how many bytes are in
// one piece of memory, unless one thing has more.
const packAtOnce, packBytes = 128, 64 << 10

// Pack copies what lives into few large pieces of memory, and drops what only the past needed.
// What lives long is made among much that does not: in the end a page has a hundred bytes that
// are in use, and stays. Entities are never modified, so nobody sees it. With many pods it takes
// some milliseconds, so it should be called when little happens.
func (f *Feed) Pack() {
	f.turn.Lock()
	defer f.turn.Unlock()
	f.Changes.drop()
	if f.ended || f.packed == f.Live.sequence {
		return
	}
	f.checkpoint() // the draft refers to what it will save
	f.Live.pack()
	f.packed = f.Live.sequence
}

// pack replaces sandboxes and containers by copies. Only the feed may call it.
func (l *Live) pack() {
	p := packing{seen: map[string]string{}, messages: map[string]proto.Message{}}
	sandboxes, containers := l.sandboxes.emptied(), l.containers.emptied()
	for some := range inParts(l.sandboxes.sorted.items) {
		copies, metadata := make([]Sandbox, len(some)), make([]runtimeapi.PodSandboxMetadata, len(some))
		for i, s := range some {
			copies[i] = *s
			p.sandbox(&copies[i], &metadata[i])
			sandboxes.put(copies[i].State.ID, &copies[i])
		}
	}
	for some := range inParts(l.containers.sorted.items) {
		copies, metadata := make([]Container, len(some)), make([]runtimeapi.ContainerMetadata, len(some))
		for i, c := range some {
			copies[i] = *c
			p.container(&copies[i], &metadata[i], sandboxes.byID[c.State.Sandbox])
			containers.put(copies[i].State.ID, &copies[i])
		}
	}
	members := membersOf(containers.sorted.items)
	clear(l.words)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.sandboxes.replace(&sandboxes)
	l.containers.replace(&containers)
	l.members = members
}

// inParts yields the parts of a list that are copied into one array each.
func inParts[T any](all []T) iter.Seq[[]T] { return slices.Chunk(all, packAtOnce) }

// membersOf are the containers of each sandbox that has any, in a few pieces of memory. The
// containers are in creation order.
func membersOf(all []*Container) map[id.Sandbox]*sorted[*Container] {
	counts := map[id.Sandbox]int{}
	for _, c := range all {
		counts[c.State.Sandbox]++
	}
	lists, places := make([]sorted[*Container], len(counts)), make([]*Container, len(all))
	members := make(map[id.Sandbox]*sorted[*Container], len(counts))
	for _, c := range all {
		list := members[c.State.Sandbox]
		if list == nil {
			n := counts[c.State.Sandbox]
			list, lists = &lists[0], lists[1:]
			list.items, places = places[:0:n], places[n:]
			members[c.State.Sandbox] = list
		}
		list.items = append(list.items, c)
	}
	return members
}

// packing copies into pieces of memory, which it fills one after another.
type packing struct {
	text    *strings.Builder
	bytes   []byte
	strings []string
	members []sandbox.Member
	// seen maps a string to its copy, and messages have what equals a message.
	seen     map[string]string
	messages map[string]proto.Message
}

// sandbox copies what a copy of a sandbox still shares with the original, unless it is small and
// rare.
func (p *packing) sandbox(s *Sandbox, metadata *runtimeapi.PodSandboxMetadata) {
	x := &s.State
	x.ID = id.Sandbox(p.once(string(x.ID)))
	x.Name.Name, x.Name.Namespace, x.Name.UID = p.once(x.Name.Name), p.once(x.Name.Namespace), p.once(x.Name.UID)
	x.Handler, x.ConfigDigest = p.once(x.Handler), p.once(x.ConfigDigest)
	x.Config, x.UpdatedResources = p.copy(x.Config), p.copy(x.UpdatedResources)
	x.Network.IPs = p.list(x.Network.IPs)
	x.Containers = p.listOfMembers(x.Containers)
	shown := &s.Shown
	if m := shown.Metadata; m != nil {
		metadata.Name, metadata.Uid, metadata.Namespace, metadata.Attempt = p.once(m.Name), p.once(m.Uid), p.once(m.Namespace), m.Attempt
		shown.Metadata = metadata
	}
	shown.CgroupParent, shown.SELinuxLevel = p.once(shown.CgroupParent), p.once(shown.SELinuxLevel)
	shown.Namespaces = oneOf(p, shown.Namespaces)
}

// container is sandbox for a container. The pod, which is a copy, may be nil.
func (p *packing) container(c *Container, metadata *runtimeapi.ContainerMetadata, pod *Sandbox) {
	x := &c.State
	x.ID, x.Sandbox, x.Name.Name = id.Container(p.once(string(x.ID))), id.Sandbox(p.once(string(x.Sandbox))), p.once(x.Name.Name)
	r := &x.Request
	r.Handler, r.ConfigDigest, r.Image = p.once(r.Handler), p.once(r.ConfigDigest), p.once(r.Image)
	r.LogPath, r.StopSignal = p.once(r.LogPath), p.once(r.StopSignal)
	r.Config, x.Resources.InForce = p.copy(r.Config), p.copy(x.Resources.InForce)
	if pod != nil && bytes.Equal(r.SandboxConfig, pod.State.Config) {
		r.SandboxConfig = pod.State.Config
	} else {
		r.SandboxConfig = p.copy(r.SandboxConfig)
	}
	shown := &c.Shown
	if m := shown.Metadata; m != nil {
		metadata.Name, metadata.Attempt = p.once(m.Name), m.Attempt
		shown.Metadata = metadata
	}
	shown.Image, shown.Limits = oneOf(p, shown.Image), oneOf(p, shown.Limits)
}

// once copies a string, unless an equal one was.
func (p *packing) once(s string) string {
	if s == "" {
		return ""
	}
	if copied, is := p.seen[s]; is {
		return copied
	}
	if p.text == nil || p.text.Cap()-p.text.Len() < len(s) {
		p.text = &strings.Builder{}
		p.text.Grow(max(packBytes, len(s)))
	}
	at := p.text.Len()
	p.text.WriteString(s)
	copied := p.text.String()[at:]
	p.seen[copied] = copied
	return copied
}

// list copies a list of strings.
func (p *packing) list(all []string) []string {
	if len(all) == 0 {
		return nil
	}
	if cap(p.strings)-len(p.strings) < len(all) {
		p.strings = make([]string, 0, max(packAtOnce, len(all)))
	}
	at := len(p.strings)
	for _, s := range all {
		p.strings = append(p.strings, p.once(s))
	}
	return slices.Clip(p.strings[at:])
}

// listOfMembers copies a pod's containers.
func (p *packing) listOfMembers(all sandbox.Members) sandbox.Members {
	if len(all) == 0 {
		return nil
	}
	if cap(p.members)-len(p.members) < len(all) {
		p.members = make([]sandbox.Member, 0, max(packAtOnce, len(all)))
	}
	at := len(p.members)
	for _, m := range all {
		p.members = append(p.members, sandbox.Member{ID: id.Container(p.once(string(m.ID))), Stopped: m.Stopped})
	}
	return slices.Clip(p.members[at:])
}

func (p *packing) copy(b []byte) []byte {
	if len(b) == 0 {
		return nil
	}
	if cap(p.bytes)-len(p.bytes) < len(b) {
		p.bytes = make([]byte, 0, max(packBytes, len(b)))
	}
	at := len(p.bytes)
	p.bytes = append(p.bytes, b...)
	return slices.Clip(p.bytes[at:])
}

// oneOf returns a message that equals m: pods of one node have much in common.
func oneOf[M proto.Message](p *packing, m M) M {
	if !m.ProtoReflect().IsValid() {
		return m
	}
	encoded, err := proto.MarshalOptions{Deterministic: true}.Marshal(m)
	if err != nil {
		return m
	}
	key := string(m.ProtoReflect().Descriptor().FullName()) + " " + string(encoded)
	if other, is := p.messages[key]; is {
		return other.(M)
	}
	p.messages[key] = m
	return m
}
