package page

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/stele-runtime/stele/timeline"
)

// verdict is what stands at the top: what died and why, before anything else. It is there
// without the script, too.
type verdict struct {
	Findings []finding
	// Folded are those that stand behind a fold, and More is how many are not shown.
	Folded []finding
	More   int
}

// finding is a thing that needs a look, or that needs none.
type finding struct {
	Trouble trouble
	// Of is what it is about, if the page is about more; Lead is the first sentence, and Rest
	// those after it.
	Of, Lead, Rest string
	// Sequence is the event to look at, 0 if there is none.
	Sequence uint64
	at       time.Time
}

// Class is the finding's in the style sheet, and Word says the same without colours.
func (f finding) Class() string {
	return [...]string{"fine", "slow", "waits", "earlier", "broken"}[f.Trouble]
}

// Word says in a word how bad it is.
func (f finding) Word() string {
	return [...]string{"No problem", "Slow start", "Waiting", "Earlier problem", "Problem"}[f.Trouble]
}

const (
	findingsShown  = 4
	findingsFolded = 100
)

func (s Subject) verdict(d *document) verdict {
	if s.Found.Pod != nil {
		return verdict{Findings: []finding{s.findingOfPod()}}
	}
	all := s.findings()
	if len(all) == 0 {
		pods := 0
		for _, l := range d.Lanes {
			if l.Kind == "pod" {
				pods++
			}
		}
		return verdict{Findings: []finding{{Lead: fmt.Sprintf("Nothing in these records failed, died or waits. There are %d pods.", pods)}}}
	}
	shown := min(len(all), findingsShown)
	folded := min(len(all), shown+findingsFolded)
	return verdict{Findings: all[:shown], Folded: all[shown:folded], More: len(all) - folded}
}

// firstSentence moves what follows the first sentence to the rest: that one is for readers
// who have ten seconds.
func (f finding) firstSentence() finding {
	if lead, more, has := strings.Cut(f.Lead, ". "); has {
		f.Lead, f.Rest = lead+".", strings.TrimSpace(more+" "+f.Rest)
	}
	return f
}

// findingOfPod is the one of a page about a pod or a container. Whatever died comes first.
func (s Subject) findingOfPod() finding {
	p, c := s.Found.Pod, s.Found.Container
	if c != nil {
		said := s.Timeline.ExplainContainer(c, s.Now)
		return finding{Trouble: troubleOf(c), Lead: said[0], Rest: strings.Join(said[1:], " "), Sequence: worst(&c.Entity)}.firstSentence()
	}
	said := s.Timeline.ExplainPod(p, s.Now)
	f := finding{Trouble: troubleOfPod(p), Lead: said[0], Sequence: worst(&p.Entity)}
	for _, c := range s.newest(p) {
		if p.State.Failure.Failed() || troubleOf(c) <= f.Trouble {
			continue
		}
		f.Trouble, f.Lead, f.Sequence = troubleOf(c), s.Timeline.ExplainContainer(c, s.Now)[0], worst(&c.Entity)
	}
	if at := slices.Index(said, f.Lead); at > 0 {
		// What follows on the container stays with it; the pod's sentence comes last.
		said = append(slices.Clone(said[at:]), said[:at]...)
	}
	if f.Trouble < earlier {
		for _, c := range s.Timeline.Containers(p) {
			if troubleOf(c) == broken {
				f.Trouble, f.Sequence = earlier, worst(&c.Entity)
			}
		}
	}
	if f.Trouble == fine {
		said = s.slowFirst(said, &f)
	}
	if n := len(s.Found.Older); n > 0 {
		said = append(said, fmt.Sprintf("Earlier sandboxes of this pod: %d.", n))
	}
	f.Rest = strings.Join(said[1:], " ")
	return f.firstSentence()
}

// slowFirst begins with the container whose start waited long for its image.
func (s Subject) slowFirst(said []string, f *finding) []string {
	for _, c := range s.newest(s.Found.Pod) {
		pull, has := s.Timeline.Pull(c)
		if !has || pull.Took < slowPull {
			continue
		}
		of := s.Timeline.ExplainContainer(c, s.Now)[0]
		if at := slices.Index(said, of); at > 0 {
			said = slices.Insert(slices.Delete(slices.Clone(said), at, at+1), 0, of)
		}
		f.Trouble = slow
		f.Lead = fmt.Sprintf("The start of container %s waited %s for its image.", containerName(c), timeline.Took(pull.Took))
		said = slices.Insert(said, 0, f.Lead)
		for _, m := range s.Timeline.Image(c.ImageRef).Moments {
			if m.Event == "ImagePulled" && m.At.Equal(pull.Ended) {
				f.Sequence = m.Sequence
			}
		}
		return said
	}
	return said
}

// slowPull is how long a pull takes that is worth a headline.
const slowPull = 10 * time.Second

// newest are the newest attempts of a pod's containers.
func (s Subject) newest(p *timeline.Pod) []*timeline.Container {
	var all []*timeline.Container
	for _, c := range s.containers(p) {
		same := slices.IndexFunc(all, func(other *timeline.Container) bool { return other.State.Name.Name == c.State.Name.Name })
		if same >= 0 {
			all[same] = c
		} else {
			all = append(all, c)
		}
	}
	return all
}

// findings are those of the whole timeline, the worst first, then the newest.
func (s Subject) findings() []finding {
	var all []finding
	add := func(f finding, e *timeline.Entity) {
		f.Sequence = worst(e)
		for _, m := range e.Moments {
			if m.Sequence <= f.Sequence {
				f.at = m.At
			}
		}
		all = append(all, f.firstSentence())
	}
	for _, p := range s.Timeline.Pods() {
		if trouble := troubleOfPod(p); trouble > fine {
			said := s.Timeline.ExplainPod(p, s.Now)
			add(finding{Trouble: trouble, Of: podName(p), Lead: said[0]}, &p.Entity)
		}
		for _, c := range s.newest(p) {
			if trouble := troubleOf(c); trouble > fine {
				said := s.Timeline.ExplainContainer(c, s.Now)
				add(finding{Trouble: trouble, Of: podName(p) + "/" + containerName(c), Lead: said[0], Rest: strings.Join(said[1:], " ")}, &c.Entity)
			}
		}
	}
	for _, m := range s.Timeline.Node.Moments {
		if kind := ofNode(m); kind == "reboot" || kind == "daemon crashed" || kind == "monitor lost" {
			all = append(all, finding{Trouble: earlier, Of: "node", Lead: fmt.Sprintf("At %s UTC: %s.", m.At.UTC().Format("2 January 15:04:05"), m.Words), Sequence: m.Sequence, at: m.At})
		}
	}
	slices.SortStableFunc(all, func(a, b finding) int { return cmp.Or(int(b.Trouble-a.Trouble), b.at.Compare(a.at)) })
	return all
}

// worst is the event of an entity to look at: its end if something went wrong with that, else
// the first thing that did.
func worst(e *timeline.Entity) uint64 {
	found := uint64(0)
	for _, m := range e.Moments {
		if !m.Bad {
			continue
		}
		if found == 0 {
			found = m.Sequence
		}
		if m.Event == "ContainerExited" || m.Event == "SandboxLost" {
			return m.Sequence
		}
	}
	return found
}

// stepRow is a step of a start, beside the node's figures.
type stepRow struct {
	Of, Name, Took, P50, P95 string
	// Slow: it took longer than the node's 95 %. Failed: it ended without success.
	Slow, Failed bool
	// Most: more than half of the time went there.
	Most  bool
	Count int
	took  time.Duration
}

// steps are those of the newest attempts; of the whole node, the figures alone.
func (s Subject) steps() []stepRow {
	var rows []stepRow
	add := func(of string, steps []timeline.Step) {
		for _, step := range steps {
			r := stepRow{Of: of, Name: string(step.Name), Took: timeline.Took(step.Took), Failed: step.Failed, took: step.Took}
			if !step.Done {
				r.Took = "not done"
			}
			if p, has := s.Timeline.Percentiles(step.Name); has {
				r.P50, r.P95, r.Count = timeline.Took(p.P50), timeline.Took(p.P95), p.Of
				r.Slow = step.Done && step.Took > p.P95
			}
			rows = append(rows, r)
		}
	}
	if s.Found.Pod == nil {
		for _, name := range timeline.StepNames {
			if p, has := s.Timeline.Percentiles(name); has {
				rows = append(rows, stepRow{Of: "all", Name: string(name), P50: timeline.Took(p.P50), P95: timeline.Took(p.P95), Count: p.Of})
			}
		}
		return rows
	}
	if s.Found.Container == nil {
		add("pod", s.Found.Pod.Steps)
	}
	for _, c := range s.newest(s.Found.Pod) {
		of := "container " + containerName(c)
		if pull, has := s.Timeline.Pull(c); has {
			add(of, []timeline.Step{{Name: timeline.StepPull, Took: pull.Took, Done: true, Failed: pull.Reason != ""}})
		}
		add(of, c.Steps)
	}
	total := time.Duration(0)
	for _, r := range rows {
		total += r.took
	}
	for i := range rows {
		rows[i].Most = rows[i].took > total/2
	}
	return rows
}
