package timeline

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Dropped is a run of records that were removed from the log on purpose.
type Dropped struct {
	// First and Last are the sequences of the first record and the last one.
	First, Last uint64
	// Records is how many were removed.
	Records uint64
	// Since and Until are the wall times of the first removal and the last one, zero if unknown.
	Since, Until time.Time
	// Rules is how many were removed by which rule.
	Rules map[string]uint64
	// Stream is the one that they were of, empty for any.
	Stream string
}

// Join adds another run; what is said of both is a sum.
func (d *Dropped) Join(other Dropped) {
	if d.Records == 0 {
		*d = other
		d.Rules = maps.Clone(other.Rules)
		return
	}
	d.First, d.Last, d.Records = min(d.First, other.First), max(d.Last, other.Last), d.Records+other.Records
	if !other.Since.IsZero() && (d.Since.IsZero() || other.Since.Before(d.Since)) {
		d.Since = other.Since
	}
	if other.Until.After(d.Until) {
		d.Until = other.Until
	}
	if d.Stream != other.Stream {
		d.Stream = ""
	}
	for rule, n := range other.Rules {
		if d.Rules == nil {
			d.Rules = map[string]uint64{}
		}
		d.Rules[rule] += n
	}
}

// String is such as "3,212 records were dropped on 4 May 03:00:01 UTC: 3,200 of what had ended and
// leaves no trace, 12 for their age".
func (d Dropped) String() string {
	said := counted(d.Records) + " records were dropped"
	if d.Records == 1 {
		said = "1 record was dropped"
	}
	switch {
	case d.Until.IsZero():
	case d.Until.Sub(d.Since) < time.Minute:
		said += " at " + day(d.Until)
	default:
		said += " from " + day(d.Since) + " to " + day(d.Until)
	}
	var why []string
	for _, rule := range slices.Sorted(maps.Keys(d.Rules)) {
		if len(d.Rules) == 1 {
			return said + ": " + ruleWords(rule)
		}
		why = append(why, counted(d.Rules[rule])+" "+ruleWords(rule))
	}
	if len(why) == 0 {
		return said
	}
	return said + ": " + strings.Join(why, ", ")
}

// ruleWords is a rule of retention as people read it.
func ruleWords(rule string) string {
	switch rule {
	case "settled":
		return "of what was over and leaves no trace"
	case "age":
		return "for their age"
	case "size":
		return "for the log's size"
	case "unknown":
		return "by a rule that is not on record"
	}
	return "by the rule " + clean(rule)
}

// counted is a number with its thousands apart.
func counted(n uint64) string {
	digits := strconv.FormatUint(n, 10)
	for i := len(digits) - 3; i > 0; i -= 3 {
		digits = digits[:i] + "," + digits[i:]
	}
	return digits
}

// Missing is what of which streams is not in the log any more.
type Missing map[string]Dropped

// Add notes that records of a stream were removed.
func (m Missing) Add(d Dropped) {
	sum := m[d.Stream]
	sum.Join(d)
	m[d.Stream] = sum
}

// missing says what of some streams is not in the log any more.
func (t explainer) missing(streams ...string) []string {
	var sum Dropped
	for _, stream := range streams {
		if d, has := t.Missing[stream]; has {
			sum.Join(d)
		}
	}
	if sum.Records == 0 {
		return nil
	}
	return []string{fmt.Sprintf("Not all of its events are in the log any more: %s.", sum)}
}
