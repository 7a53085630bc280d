package timeline

import (
	"fmt"
	"strings"

	"github.com/stele-runtime/stele/actors/codec"
	"github.com/stele-runtime/stele/actors/container"
	"github.com/stele-runtime/stele/actors/host"
	"github.com/stele-runtime/stele/actors/id"
	"github.com/stele-runtime/stele/actors/image"
	"github.com/stele-runtime/stele/actors/sandbox"
)

// Teller says one record after the other in words. It remembers only names and which containers
// are to end, so that it can follow a log for as long as it likes.
type Teller struct {
	pods       map[id.Sandbox]string
	containers map[id.Container]string
	// images are references by the ids of their streams.
	images map[string]string
	// asked are containers that are to end.
	asked map[id.Container]bool
}

// Told is a record in words.
type Told struct {
	// About is what the event happened to: NAMESPACE/POD, NAMESPACE/POD/CONTAINER with @N for
	// an attempt that is not the first, an image, or the node.
	About string
	// Event is the event's name.
	Event string
	Words string
	// Call is the CRI's call that led to it, empty if it was another event.
	Call string
	Bad  bool
}

// NewTeller returns a teller that knows no names.
func NewTeller() *Teller {
	return &Teller{pods: map[id.Sandbox]string{}, containers: map[id.Container]string{}, images: map[string]string{}, asked: map[id.Container]bool{}}
}

// Knows reports whether the teller knows the name of what a stream is about. If not, the
// stream's first record tells it.
func (t *Teller) Knows(stream string) bool {
	kind, name, _ := strings.Cut(stream, "/")
	known := true
	switch kind {
	case "sandbox":
		_, known = t.pods[id.Sandbox(name)]
	case "container":
		_, known = t.containers[id.Container(name)]
	case "image":
		_, known = t.images[name]
	}
	return known
}

// Sandbox returns the stream of a container's sandbox if its first record says which.
func Sandbox(first Record) (stream string, has bool) {
	e, err := codec.DecodeContainer(first.Type, first.Schema, first.Payload)
	requested, is := e.(container.ContainerRequested)
	return "sandbox/" + string(requested.Sandbox), err == nil && is
}

// Tell returns a record in words. One that this version cannot read is said to be so.
func (t *Teller) Tell(r Record) Told {
	kind, name, _ := strings.Cut(r.Stream, "/")
	told := Told{Event: eventName(r.Type)}
	var said phrase
	var err error
	call := ""
	switch kind {
	case "sandbox":
		var e sandbox.Event
		if e, err = codec.DecodeSandbox(r.Type, r.Schema, r.Payload); err == nil {
			said, call = sandboxWords(e), callOf(opensSandbox(e), r.Command)
			if requested, is := e.(sandbox.SandboxRequested); is {
				t.pods[id.Sandbox(name)] = clean(requested.Name.Namespace + "/" + requested.Name.Name)
			}
		}
		told.About = t.pods[id.Sandbox(name)]
	case "container":
		var e container.Event
		if e, err = codec.DecodeContainer(r.Type, r.Schema, r.Payload); err == nil {
			said, call = t.ofContainer(id.Container(name), e), callOfContainer(e, r.Command)
			if requested, is := e.(container.ContainerRequested); is {
				t.containers[id.Container(name)] = t.title(requested)
			}
		}
		told.About = t.containers[id.Container(name)]
	case "image":
		var e image.Event
		if e, err = codec.DecodeImage(r.Type, r.Schema, r.Payload); err == nil {
			said, call = imageWords(e), callOf(opensImage(e), r.Command)
			if ref := refOf(e); ref != "" {
				t.images[name] = clean("image " + ref)
			}
		}
		told.About = t.images[name]
	default:
		var e host.Event
		if e, err = codec.DecodeHost(r.Type, r.Schema, r.Payload); err == nil {
			said, call = hostWords(e), callOf(true, r.Command)
		}
		told.About = "node"
	}
	if told.About == "" {
		told.About = fmt.Sprintf("%s %.12s", kind, clean(name))
	}
	if err != nil {
		told.Words, told.Bad = fmt.Sprintf("%s, which this version cannot read: %s", clean(r.Type), clean(err.Error())), true
		return told
	}
	told.Words, told.Bad, told.Call = said.words, said.bad, call
	return told
}

// ofContainer says a container's event; an end that somebody asked for is none to look at.
func (t *Teller) ofContainer(c id.Container, e container.Event) phrase {
	said := containerWords(e)
	switch e := e.(type) {
	case container.StopRequested, container.RemoveRequested:
		t.asked[c] = true
	case container.KillRequested:
		t.asked[c] = t.asked[c] || e.By != container.BySeccomp
	case container.StopWithdrawn:
		delete(t.asked, c)
	case container.ContainerExited:
		said.bad = badEnd(e.Exit, t.asked[c])
		delete(t.asked, c)
	case container.ContainerRemoved, container.ContainerFailed:
		delete(t.asked, c)
	default: // Other events say nothing of its end.
	}
	return said
}

// Shapes reports whether later words depend on a record: it has a name, or asks for an end.
func Shapes(recordType string, version uint64) bool {
	switch eventName(recordType) {
	case "StopRequested", "RemoveRequested", "KillRequested", "StopWithdrawn":
		return true
	}
	return version == 1
}

func (t *Teller) title(e container.ContainerRequested) string {
	pod, known := t.pods[e.Sandbox]
	if !known {
		pod = fmt.Sprintf("pod %.12s", clean(string(e.Sandbox)))
	}
	title := pod + "/" + clean(e.Name.Name)
	if e.Name.Attempt > 0 {
		title += fmt.Sprintf("@%d", e.Name.Attempt)
	}
	return title
}

// eventName is an event's name without its stream's kind and version.
func eventName(recordType string) string {
	_, event, _ := strings.Cut(recordType, ".")
	event, _, _ = strings.Cut(event, ".")
	return event
}
