// Command pages writes each incident as a page into a folder, one of them also as gap.html, as if the log had
// not all of it any more, and with a second argument the busy node with that many events as node-N.html.
package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"github.com/stele-runtime/stele/test/incidents"
	"github.com/stele-runtime/stele/timeline"
	"github.com/stele-runtime/stele/timeline/page"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "pages:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) == 0 {
		return fmt.Errorf("usage: pages FOLDER [EVENTS…]")
	}
	all := append(incidents.All(), incidents.Incident{Name: "empty"}, withGap())
	for _, text := range args[1:] {
		n, err := strconv.Atoi(text)
		if err != nil {
			return err
		}
		all = append(all, incidents.Incident{Name: "node-" + text, Records: incidents.Node(n)})
	}
	for _, i := range all {
		if err := write(filepath.Join(args[0], i.Name+".html"), i); err != nil {
			return fmt.Errorf("write %s: %w", i.Name, err)
		}
	}
	return nil
}

// gap is the name of the page of a log that has not all any more.
const gap = "gap"

// withGap is the incident "oom" without some of a container's events.
func withGap() incidents.Incident {
	all := incidents.All()
	i := all[slices.IndexFunc(all, func(i incidents.Incident) bool { return i.Name == "oom" })]
	i.Name = gap
	return i
}

// drop removes an event from the middle of a container's.
func drop(line *timeline.Timeline) {
	c := line.Containers(line.Pods()[0])[0]
	at := len(c.Moments) / 2
	gone := c.Moments[at].Sequence
	c.Moments = slices.Delete(c.Moments, at, at+1)
	line.Missing.Add(timeline.Dropped{
		First: gone, Last: gone, Records: 3212, Rules: map[string]uint64{"settled": 3212}, Stream: "container/" + string(c.State.ID),
	})
}

func write(path string, i incidents.Incident) error {
	line := timeline.New()
	for _, r := range i.Records {
		line.Add(r)
	}
	if i.Name == gap {
		drop(line)
	}
	about := page.Subject{Timeline: line, Now: line.Last.Add(5 * time.Second)}
	if len(i.Records) == 0 {
		about.Now = incidents.Epoch
	}
	if i.Pod != "" {
		name, err := timeline.ParseName(i.Pod)
		if err != nil {
			return err
		}
		if about.Found, err = line.Find(name); err != nil {
			return err
		}
	}
	var out bytes.Buffer
	if err := about.Write(&out); err != nil {
		return err
	}
	return os.WriteFile(path, out.Bytes(), 0o644)
}
