package timeline

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/stele-runtime/stele/actors/backoff"
)

// Difference is what changed of a pod or a container between two moments.
type Difference struct {
	// Title names it, Stream is its stream.
	Title  string `json:"name"`
	Stream string `json:"stream"`
	// Before and After are its states; empty if it did not exist.
	Before string `json:"before,omitempty"`
	After  string `json:"after,omitempty"`
	// Owes and Settled are effects that are owed after and not before, and the other way round.
	Owes    []string `json:"owes,omitempty"`
	Settled []string `json:"settled,omitempty"`
}

// Differences returns what changed from one moment of a history to a later one: pods with
// their containers, oldest first. What came and went in between is not in it.
func Differences(before, after *Timeline) []Difference {
	var all []Difference
	add := func(d Difference, owedBefore, owedAfter []string) {
		d.Owes, d.Settled = without(owedAfter, owedBefore), without(owedBefore, owedAfter)
		if d.Before != d.After || len(d.Owes)+len(d.Settled) > 0 {
			all = append(all, d)
		}
	}
	for _, p := range after.Pods() {
		d := Difference{Title: p.Title(), Stream: "sandbox/" + string(p.State.ID), After: p.Status()}
		var owed []string
		if was := before.pods[p.State.ID]; was != nil {
			d.Before, owed = was.Status(), was.owing()
		}
		if d.Before != "" || !p.Gone() {
			add(d, owed, p.owing())
		}
		for _, c := range after.Containers(p) {
			after.differs(before, c, add)
		}
	}
	for _, c := range after.byAge() {
		if after.pods[c.State.Sandbox] == nil {
			after.differs(before, c, add)
		}
	}
	return all
}

func (t *Timeline) differs(before *Timeline, c *Container, add func(Difference, []string, []string)) {
	d := Difference{Title: t.Title(c), Stream: "container/" + string(c.State.ID), After: c.Status()}
	if c.State.Name.Attempt > 0 {
		d.Title += fmt.Sprintf("@%d", c.State.Name.Attempt)
	}
	var owed []string
	if was := before.containers[c.State.ID]; was != nil {
		d.Before, owed = was.Status(), was.owing()
	}
	if d.Before != "" || !c.Gone() {
		add(d, owed, c.owing())
	}
}

// owing is what failed and is tried again, in words: what belongs to a state that is just
// passed through is no debt.
func (p *Pod) owing() []string { return debts(p.State.Retries) }

func (c *Container) owing() []string { return debts(c.State.Retries) }

func debts(retries backoff.Schedule) []string {
	var all []string
	for _, key := range slices.Sorted(maps.Keys(retries)) {
		all = append(all, owedWords(key))
	}
	return all
}

// Debts are what failed and is tried again, with its reason, of everything: a line each.
func (t *Timeline) Debts() []string {
	var all []string
	for _, p := range t.Pods() {
		for _, said := range owes(p.State.Retries, p.lastFailures) {
			all = append(all, p.Title()+": "+strings.TrimPrefix(said, "Still owed: "))
		}
	}
	for _, c := range t.byAge() {
		for _, said := range owes(c.State.Retries, c.lastFailures) {
			all = append(all, t.Title(c)+": "+strings.TrimPrefix(said, "Still owed: "))
		}
	}
	return all
}

func without(all, those []string) []string {
	var left []string
	for _, x := range all {
		if !slices.Contains(those, x) {
			left = append(left, x)
		}
	}
	return left
}
