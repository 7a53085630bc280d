package timeline

import (
	"testing"
	"time"
)

func TestDroppedWords(t *testing.T) {
	at := time.Date(2026, 5, 4, 3, 0, 1, 0, time.UTC)
	var many Dropped
	many.Join(Dropped{First: 5, Last: 7, Records: 3, Since: at, Until: at, Rules: map[string]uint64{"settled": 3}, Stream: "container/c"})
	many.Join(Dropped{First: 9, Last: 4007, Records: 3999, Since: at.Add(-time.Hour), Until: at.Add(time.Hour), Rules: map[string]uint64{"settled": 3000, "age": 999}})
	if many.First != 5 || many.Last != 4007 || many.Stream != "" {
		t.Errorf("joined they are %+v", many)
	}
	for want, d := range map[string]Dropped{
		"1 record was dropped": {Records: 1},
		"3,212 records were dropped at 4 May 03:00:01 UTC: of what was over and leaves no trace": {
			Records: 3212, Since: at, Until: at, Rules: map[string]uint64{"settled": 3212}},
		"1,000,000 records were dropped: by a rule that is not on record":                                                                         {Records: 1_000_000, Rules: map[string]uint64{"unknown": 1_000_000}},
		"4,002 records were dropped from 4 May 02:00:01 UTC to 4 May 04:00:01 UTC: 999 for their age, 3,003 of what was over and leaves no trace": many,
		"12 records were dropped: by the rule ?[1mown":                                                                                            {Records: 12, Rules: map[string]uint64{"\x1b[1mown": 12}},
	} {
		if got := d.String(); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}
