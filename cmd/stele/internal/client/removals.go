package client

import (
	"fmt"
	"io"

	"github.com/stele-runtime/stele/cmd/stele/internal/record"
	adminv1 "github.com/stele-runtime/stele/proto/admin/v1"
	"github.com/stele-runtime/stele/timeline"
)

// removals sums up what was removed on purpose from what was read: there may be a gap behind
// every record.
type removals struct{ timeline.Dropped }

func (r *removals) add(g *adminv1.Gap) { r.Join(record.Dropped(g)) }

// say tells of it in one line, if there is anything to tell.
func (r *removals) say(to io.Writer) {
	if r.Records > 0 {
		fmt.Fprintf(to, "stele: not all is in the log any more: %s\n", r.Dropped)
	}
}
