package eventlog

import "time"

// Clock tells a log what time to write into its records.
type Clock interface {
	Now() time.Time           // the wall clock
	SinceBoot() time.Duration // counts also while the machine is suspended, never jumps
}
