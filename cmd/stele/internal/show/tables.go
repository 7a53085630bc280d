package show

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/stele-runtime/stele/timeline"
)

// Node is what a node had at a moment.
type Node struct {
	Timeline *timeline.Timeline
	// Names select pods and containers, also such as are gone; without any, all that are left.
	Names []timeline.Name
	// Gone: also all that are gone.
	Gone bool
	// Now is the moment that ages count to.
	Now time.Time
}

func (n Node) pods() []*timeline.Pod {
	pods, _ := n.Timeline.Matches(n.Names)
	if n.Gone || len(n.Names) > 0 {
		return pods
	}
	return slices.DeleteFunc(pods, (*timeline.Pod).Gone)
}

func (n Node) containers() []*timeline.Container {
	_, containers := n.Timeline.Matches(n.Names)
	if n.Gone || len(n.Names) > 0 {
		return containers
	}
	return slices.DeleteFunc(containers, (*timeline.Container).Gone)
}

// age is how long ago something was, to the two coarsest units.
func (n Node) age(at time.Time) string {
	if at.IsZero() || n.Now.Before(at) {
		return "-"
	}
	return timeline.Took(n.Now.Sub(at))
}

// Pods writes a table of pods, the oldest first. Wide has whole ids, addresses and the runtime
// handler, too.
func (n Node) Pods(to io.Writer, wide bool) error {
	table := tabwriter.NewWriter(to, 0, 8, 2, ' ', 0)
	head := "POD\tATTEMPT\tSTATUS\tFOR\tCONTAINERS\tID"
	if wide {
		head += "\tADDRESSES\tHANDLER\tCREATED"
	}
	fmt.Fprintln(table, head)
	for _, p := range n.pods() {
		s := p.State
		id := fmt.Sprintf("%.12s", line(string(s.ID)))
		if wide {
			id = line(string(s.ID))
		}
		fmt.Fprintf(table, "%s\t%d\t%s\t%s\t%d\t%s", line(p.Title()), s.Name.Attempt, p.Status(), n.age(p.Since()), len(n.Timeline.Containers(p)), id)
		if wide {
			fmt.Fprintf(table, "\t%s\t%s\t%s", line(strings.Join(s.Network.IPs, ",")), line(s.Handler), s.CreatedAt.UTC().Format(time.DateTime))
		}
		fmt.Fprintln(table)
	}
	return table.Flush()
}

// Containers writes a table of containers, the oldest first. Wide has whole ids, too.
func (n Node) Containers(to io.Writer, wide bool) error {
	table := tabwriter.NewWriter(to, 0, 8, 2, ' ', 0)
	head := "CONTAINER\tATTEMPT\tSTATUS\tFOR\tID\tIMAGE"
	if wide {
		head += "\tPOD\tPID\tCREATED"
	}
	fmt.Fprintln(table, head)
	for _, c := range n.containers() {
		s := c.State
		id := fmt.Sprintf("%.12s", line(string(s.ID)))
		if wide {
			id = line(string(s.ID))
		}
		image := line(c.ImageRef)
		if digest, is := strings.CutPrefix(image, "sha256:"); is {
			image = fmt.Sprintf("%.12s", digest)
		}
		fmt.Fprintf(table, "%s\t%d\t%s\t%s\t%s\t%s", line(n.Timeline.Title(c)), s.Name.Attempt, c.Status(), n.age(c.Since()), id, image)
		if wide {
			fmt.Fprintf(table, "\t%s\t%d\t%s", line(string(s.Sandbox)), s.Creation.Process.PID, s.Request.At.UTC().Format(time.DateTime))
		}
		fmt.Fprintln(table)
	}
	return table.Flush()
}

// PodsJSON writes the pods for scripts.
func (n Node) PodsJSON(to io.Writer, format Structured) error {
	all := []entityJSON{}
	for _, p := range n.pods() {
		shown, err := podJSON(p)
		if err != nil {
			return err
		}
		shown.Moments = nil
		all = append(all, shown)
	}
	return format.write(to, all)
}

// ContainersJSON writes the containers for scripts.
func (n Node) ContainersJSON(to io.Writer, format Structured) error {
	all := []entityJSON{}
	for _, c := range n.containers() {
		shown, err := containerJSON(c)
		if err != nil {
			return err
		}
		shown.Moments = nil
		shown.Namespace, shown.Pod = n.podOf(c)
		all = append(all, shown)
	}
	return format.write(to, all)
}

func (n Node) podOf(c *timeline.Container) (namespace, name string) {
	if p := n.Timeline.Pod(c.State.Sandbox); p != nil {
		return p.State.Name.Namespace, p.State.Name.Name
	}
	return "", ""
}
