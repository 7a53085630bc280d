package page

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/stele-runtime/stele/actors/container"
	"github.com/stele-runtime/stele/actors/redact"
	"github.com/stele-runtime/stele/actors/sandbox"
	"github.com/stele-runtime/stele/timeline"
)

// document is what the script reads. Times are microseconds since Base, texts are indices of
// Strings: most of them stand there once and are used a thousand times.
type document struct {
	// Base is in microseconds since 1970.
	Base    int64    `json:"base"`
	Now     int64    `json:"now"`
	Strings []string `json:"strings"`
	Lanes   []lane   `json:"lanes"`
	// Subjects are sandboxes, containers, images and the node: an attempt each.
	Subjects []subject `json:"subjects"`
	// Bars are phases: subject, from, to, name.
	Bars [][4]int64 `json:"bars"`
	// Steps are: subject, from, duration, name, state (see stepDone).
	Steps [][5]int64 `json:"steps"`
	// Marks are events: subject, time, sequence, kind, words, event, command, call, trace, time
	// since its cause, and whether something went wrong.
	Marks [][11]int64 `json:"marks"`
	// Usual maps a step's name to the node's figures: 50 %, 95 %, and of how many.
	Usual map[string][3]int64 `json:"usual"`

	// at and laneOf are where texts and lanes are.
	at     map[string]int64
	laneOf map[string]int
}

// gapKind is a mark's for events that were dropped.
const gapKind = "gap"

const (
	stepDone int64 = iota
	stepFailed
	stepOpen
)

// lane is a line of the page: the node, a pod, a container by its name in its pod, or an
// image. Sandboxes of one pod, and attempts of one container, follow each other in one lane.
type lane struct {
	Kind string `json:"kind"`
	Name string `json:"name"`
	// Parent is the pod's lane, or -1.
	Parent  int     `json:"parent"`
	Trouble trouble `json:"trouble"`
	// Within is the worst trouble of a pod and its containers.
	Within trouble `json:"within"`
	// Says is the newest state in few words.
	Says string `json:"says"`
}

type subject struct {
	Lane int `json:"lane"`
	// Stream is its name in the log, Of what people call it.
	Stream  string `json:"stream"`
	Of      string `json:"of"`
	Attempt uint32 `json:"attempt"`
	Image   string `json:"image,omitempty"`
}

// document collects what the page shows.
func (s Subject) document() *document {
	// Empty lists are lists in JSON, too.
	d := &document{
		at: map[string]int64{}, laneOf: map[string]int{}, Usual: map[string][3]int64{},
		Strings: []string{}, Bars: [][4]int64{}, Steps: [][5]int64{}, Marks: [][11]int64{},
	}
	pods, images := s.shown()
	first, last := s.extent(pods, images)
	d.Base = first.UnixMicro()
	d.Now = max(s.Now.UnixMicro(), last.UnixMicro()) - d.Base
	node := d.add(lane{Kind: "node", Name: "node", Parent: -1}, subject{Stream: "node", Of: "node"})
	for _, m := range s.Timeline.Node.Moments {
		if s.Found.Pod == nil || ofNode(m) != "event" && !m.At.Before(first) && !m.At.After(last) {
			d.mark(node, m, ofNode(m))
		}
	}
	if s.Found.Pod == nil {
		s.gap(d, node, &s.Timeline.Node)
	}
	for _, p := range pods {
		s.pod(d, p)
	}
	for _, i := range images {
		s.image(d, i)
	}
	for i := range d.Lanes {
		l := &d.Lanes[i]
		l.Within = max(l.Within, l.Trouble)
		if l.Parent >= 0 {
			d.Lanes[l.Parent].Within = max(d.Lanes[l.Parent].Within, l.Within)
		}
	}
	slices.SortStableFunc(d.Marks, func(a, b [11]int64) int { return cmp.Or(cmp.Compare(a[1], b[1]), cmp.Compare(a[2], b[2])) })
	for _, step := range timeline.StepNames {
		if p, has := s.Timeline.Percentiles(step); has {
			d.Usual[string(step)] = [3]int64{p.P50.Microseconds(), p.P95.Microseconds(), int64(p.Of)}
		}
	}
	return d
}

// shown are the pods and images that the page is about.
func (s Subject) shown() ([]*timeline.Pod, []*timeline.Image) {
	if s.Found.Pod == nil {
		return s.Timeline.Pods(), s.Timeline.Images()
	}
	pods := append(slices.Clone(s.Found.Older), s.Found.Pod)
	var images []*timeline.Image
	for _, p := range pods {
		for _, c := range s.containers(p) {
			if i := s.Timeline.Image(c.ImageRef); i != nil && !slices.Contains(images, i) {
				images = append(images, i)
			}
		}
	}
	return pods, images
}

// containers are a pod's that the page is about.
func (s Subject) containers(p *timeline.Pod) []*timeline.Container {
	if c := s.Found.Container; c != nil {
		return slices.DeleteFunc(s.Timeline.Containers(p), func(other *timeline.Container) bool { return other.State.Name.Name != c.State.Name.Name })
	}
	return s.Timeline.Containers(p)
}

// extent is the time that the events fill.
func (s Subject) extent(pods []*timeline.Pod, images []*timeline.Image) (first, last time.Time) {
	see := func(e *timeline.Entity) {
		for _, m := range e.Moments {
			if first.IsZero() || m.At.Before(first) {
				first = m.At
			}
			if m.At.After(last) {
				last = m.At
			}
		}
		for _, step := range e.Steps {
			if step.Began.Before(first) {
				first = step.Began
			}
		}
	}
	for _, p := range pods {
		see(&p.Entity)
		for _, c := range s.containers(p) {
			see(&c.Entity)
		}
	}
	if s.Found.Pod == nil {
		see(&s.Timeline.Node)
		for _, i := range images {
			see(&i.Entity)
		}
	}
	if first.IsZero() {
		return s.Now, s.Now
	}
	return first, last
}

func (s Subject) pod(d *document, p *timeline.Pod) {
	state := p.State
	of := d.add(lane{Kind: "pod", Name: podName(p), Parent: -1, Trouble: troubleOfPod(p), Says: podSays(p)},
		subject{Stream: "sandbox/" + text(string(state.ID)), Of: "pod " + podName(p), Attempt: state.Name.Attempt})
	d.entity(of, &p.Entity, string(sandbox.Removed), string(sandbox.Failed))
	for _, m := range p.Moments {
		d.mark(of, m, ofPod(m))
	}
	s.gap(d, of, &p.Entity)
	up := d.Subjects[of].Lane
	// Attempts after the first did not wait for the pull.
	pulled := map[timeline.PullEnd]bool{}
	for _, c := range s.containers(p) {
		state := c.State
		of := d.add(lane{Kind: "container", Name: containerName(c), Parent: up, Trouble: troubleOf(c), Says: containerSays(c)},
			subject{Stream: "container/" + text(string(state.ID)), Of: "container " + containerName(c) + " of " + podName(p), Attempt: state.Name.Attempt, Image: imageName(c)})
		d.entity(of, &c.Entity, string(container.Removed), string(container.Failed))
		for _, m := range c.Moments {
			d.mark(of, m, ofContainer(c, m))
		}
		s.gap(d, of, &c.Entity)
		if pull, has := s.Timeline.Pull(c); has && !pulled[pull] {
			pulled[pull] = true
			d.Steps = append(d.Steps, [5]int64{int64(of), d.time(pull.Began), pull.Took.Microseconds(), d.text(string(timeline.StepPull)), failedIf(pull.Reason != "")})
		}
	}
}

func (s Subject) image(d *document, i *timeline.Image) {
	of := d.add(lane{Kind: "image", Name: text(i.Ref), Parent: -1, Trouble: troubleOfImage(i)}, subject{Stream: "image/" + text(i.Ref), Of: "image " + text(i.Ref)})
	for _, pull := range i.Done {
		name := "pull"
		if pull.Reason != "" {
			name = "failed pull"
		}
		d.Bars = append(d.Bars, [4]int64{int64(of), d.time(pull.Began), d.time(pull.Began.Add(pull.Took)), d.text(name)})
	}
	for _, m := range i.Moments {
		d.mark(of, m, ofImage(m))
	}
	s.gap(d, of, &i.Entity)
}

// gap marks where events of a subject are not in the log any more: between those around them,
// in the middle if there are some on both sides.
func (s Subject) gap(d *document, of int, e *timeline.Entity) {
	dropped := s.Timeline.Missing[d.Subjects[of].Stream]
	if dropped.Records == 0 || len(e.Moments) == 0 {
		return
	}
	before, after := e.Moments[0].At, e.Moments[len(e.Moments)-1].At
	if e.Moments[0].Sequence > dropped.First {
		after = before
	}
	for _, m := range e.Moments {
		if m.Sequence < dropped.First {
			before = m.At
		}
		if m.Sequence > dropped.Last {
			after = m.At
			break
		}
	}
	d.mark(of, timeline.Moment{Sequence: dropped.First, At: before.Add(after.Sub(before) / 2), Words: text(dropped.String())}, gapKind)
}

// entity adds phases and steps. The phases named last have no length: nothing is left then.
func (d *document) entity(of int, e *timeline.Entity, none ...string) {
	for n, p := range e.Phases {
		until := d.Now
		if n+1 < len(e.Phases) {
			until = d.time(e.Phases[n+1].Began)
		}
		if !slices.Contains(none, p.Name) {
			d.Bars = append(d.Bars, [4]int64{int64(of), d.time(p.Began), until, d.text(p.Name)})
		}
	}
	for _, step := range e.Steps {
		state, took := failedIf(step.Failed), step.Took.Microseconds()
		if !step.Done {
			state, took = stepOpen, d.Now-d.time(step.Began)
		}
		d.Steps = append(d.Steps, [5]int64{int64(of), d.time(step.Began), took, d.text(string(step.Name)), state})
	}
}

func failedIf(failed bool) int64 {
	if failed {
		return stepFailed
	}
	return stepDone
}

// add adds a subject to its lane, which says what its newest subject does, and returns the
// subject's index.
func (d *document) add(l lane, s subject) int {
	key := fmt.Sprintf("%s/%d/%s", l.Kind, l.Parent, l.Name)
	at, has := d.laneOf[key]
	if !has {
		at = len(d.Lanes)
		d.laneOf[key] = at
		d.Lanes = append(d.Lanes, l)
	} else {
		if d.Lanes[at].Trouble >= earlier {
			l.Trouble = max(l.Trouble, earlier)
		}
		d.Lanes[at] = l
	}
	s.Lane = at
	d.Subjects = append(d.Subjects, s)
	return len(d.Subjects) - 1
}

func (d *document) mark(of int, m timeline.Moment, kind string) {
	wrong := int64(0)
	if m.Bad && kind != "ended" {
		wrong = 1
	}
	d.Marks = append(d.Marks, [11]int64{int64(of), d.time(m.At), int64(m.Sequence), d.text(kind), d.text(m.Words), d.text(text(m.Event)), d.text(text(m.Command)),
		d.text(text(m.Call)), d.text(text(m.Trace)), m.Since.Microseconds(), wrong})
}

func (d *document) time(at time.Time) int64 { return at.UnixMicro() - d.Base }

func (d *document) text(s string) int64 {
	at, has := d.at[s]
	if !has {
		at = int64(len(d.Strings))
		d.at[s] = at
		d.Strings = append(d.Strings, s)
	}
	return at
}

// textMost bounds a foreign text, in runes.
const textMost = 300

// text is a foreign text that is safe within a line: no secret, no control character, and none
// that turns the direction of writing.
func text(s string) string {
	n := 0
	return strings.Map(func(r rune) rune {
		n++
		switch {
		case n > textMost:
			return -1
		case !strconv.IsPrint(r):
			return '?'
		}
		return r
	}, redact.Text(s))
}

// podName is NAMESPACE/POD, or the beginning of the id of a pod whose request is not in the
// records.
func podName(p *timeline.Pod) string {
	if p.State.Name.Name == "" {
		return text(fmt.Sprintf("%.12s", p.State.ID))
	}
	return text(p.State.Name.Namespace + "/" + p.State.Name.Name)
}

func containerName(c *timeline.Container) string {
	return cmp.Or(text(c.State.Name.Name), text(fmt.Sprintf("%.12s", c.State.ID)))
}

func imageName(c *timeline.Container) string {
	if strings.HasPrefix(c.ImageRef, "sha256:") {
		return ""
	}
	return text(c.ImageRef)
}
