package show

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	adminv1 "github.com/stele-runtime/stele/proto/admin/v1"
	"github.com/stele-runtime/stele/timeline"
)

// Window is which records a user wants by their time and type.
type Window struct {
	// Since and Until are wall times, inclusive; zero for no bound.
	Since, Until time.Time
	// Types are names of events, such as NetworkAttached; all if empty.
	Types []string
}

// Has reports whether a record is within.
func (w Window) Has(r *adminv1.Record) bool {
	at := r.GetTime().AsTime()
	if !w.Since.IsZero() && at.Before(w.Since) || !w.Until.IsZero() && at.After(w.Until) {
		return false
	}
	if len(w.Types) == 0 {
		return true
	}
	_, name, _ := strings.Cut(r.GetType(), ".")
	name, _, _ = strings.Cut(name, ".")
	return slices.ContainsFunc(w.Types, func(t string) bool { return strings.EqualFold(t, name) })
}

// ParseTime reads a moment as people write it: an RFC 3339 time, "2026-05-04 03:02:01" or
// "03:02" of today in the zone, with or without seconds, or a duration before now ("10m").
func ParseTime(text string, now time.Time, zone *time.Location) (time.Time, error) {
	if ago, err := time.ParseDuration(text); err == nil && ago >= 0 {
		return now.Add(-ago), nil
	}
	if at, err := time.Parse(time.RFC3339Nano, text); err == nil {
		return at, nil
	}
	for _, layout := range []string{time.DateTime, "2006-01-02 15:04", time.DateOnly} {
		if at, err := time.ParseInLocation(layout, text, zone); err == nil {
			return at, nil
		}
	}
	for _, layout := range []string{time.TimeOnly, "15:04"} {
		if at, err := time.ParseInLocation(layout, text, zone); err == nil {
			y, m, d := now.In(zone).Date()
			return time.Date(y, m, d, at.Hour(), at.Minute(), at.Second(), at.Nanosecond(), zone), nil
		}
	}
	return time.Time{}, fmt.Errorf("%q is no time such as 2026-05-04T03:02:01Z, 03:02 or 10m (ago)", text)
}

// ParsePoint reads a point of the history: a sequence, which is a number, or a time as for
// ParseTime.
func ParsePoint(text string, now time.Time, zone *time.Location) (timeline.Point, error) {
	n, err := strconv.ParseUint(text, 10, 64)
	if err == nil && n > 0 {
		return timeline.Point{Sequence: n}, nil
	}
	at, timeErr := ParseTime(text, now, zone)
	if err == nil || timeErr != nil {
		return timeline.Point{}, fmt.Errorf("%q is neither a sequence, from 1, nor a time such as 2026-05-04T03:02:01Z, 03:02 or 10m (ago)", text)
	}
	return timeline.Point{Time: at}, nil
}
