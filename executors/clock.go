package executors

import "time"

// now is the wall time that outcomes carry to the machines, which have no clock.
func now() time.Time { return time.Now().UTC() }
