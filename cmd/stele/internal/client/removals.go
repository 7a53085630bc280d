package client

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	adminv1 "github.com/stele-runtime/stele/proto/admin/v1"
)

// removals sums up what was removed on purpose from what was read: there may be a gap behind
// every record.
type removals struct {
	records uint64
	places  int
	rules   map[string]uint64
}

func (r *removals) add(g *adminv1.Gap) {
	if r.rules == nil {
		r.rules = make(map[string]uint64)
	}
	r.records += g.GetRecords()
	r.places++
	for rule, records := range g.GetRules() {
		r.rules[rule] += records
	}
}

// say tells of it in one line, if there is anything to tell.
func (r *removals) say(to io.Writer) {
	if r.records == 0 {
		return
	}
	var rules []string
	for _, rule := range slices.Sorted(maps.Keys(r.rules)) {
		rules = append(rules, fmt.Sprintf("%d by %s", r.rules[rule], rule))
	}
	fmt.Fprintf(to, "stele: %d records in %d places were removed by retention: %s\n", r.records, r.places, strings.Join(rules, ", "))
}
