package keeper

import (
	"time"

	"github.com/stele-runtime/stele/eventlog"
)

// The rules by which records are removed, as the log keeps them and people read them.
const (
	// RuleAge: what they were about had ended, and was older than Limits.Age.
	RuleAge = "age"
	// RuleSize: the log held more than Limits.Bytes.
	RuleSize = "size"
	// RuleSettled: they had left no trace in a state for Limits.Settled.
	RuleSettled = "settled"
)

// Limits say what is kept.
type Limits struct {
	// Age is how long events are kept of what has ended, of the node, and of images.
	Age time.Duration
	// Pods is how many pods are kept that are older, the newest of those that have ended.
	Pods int
	// Bytes is what the log's files may have on the disk. What has ended goes for it, however young
	// it is; what lives stays.
	Bytes int64
	// Settled is how long events are kept that leave no trace, of what lives.
	Settled time.Duration
}

// DefaultLimits are those without a configuration.
func DefaultLimits() Limits {
	return Limits{Age: 7 * 24 * time.Hour, Pods: 100, Bytes: 1 << 30, Settled: time.Hour}
}

// MinBytes is the least Limits.Bytes: a log with a few pods and checkpoints needs some, and its
// file grows by steps of 16 MiB.
const MinBytes = 64 << 20

// slack is how much free space the log's files are left with. A compaction for less is not worth
// its while.
const slack = 24 << 20

// held is what a log holds, in bytes.
func held(u eventlog.Usage) int64 { return max(u.Bytes-u.Free, u.RecordBytes) }

// pressed reports whether records have to go for others. Removing begins early enough for the
// files, which hold free space, too, to stay below the limit, and once begun it goes on for a
// while.
func (l Limits) pressed(u eventlog.Usage, already bool) bool {
	if already {
		return held(u) > l.relief()
	}
	return held(u) > l.relief()+l.Bytes/16
}

// relief is how many bytes a log may hold for removing to end.
func (l Limits) relief() int64 { return l.Bytes - slack - l.Bytes/8 - l.Bytes/16 }

// excess is how much has to go until removing ends.
func (l Limits) excess(u eventlog.Usage) excess {
	return excess{bytes: held(u) - l.relief(), perRecord: held(u) / int64(max(u.Records, 1))}
}

// sparse reports whether a compaction is worth its while: more of the log's files is free than
// used, or the free space is what makes them too large.
func (l Limits) sparse(u eventlog.Usage) bool {
	return u.Free > slack && (u.Free > held(u) || u.Bytes > l.Bytes-l.Bytes/16)
}
