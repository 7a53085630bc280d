package cri

import "time"

// maxSeconds is the longest time that a request can set, 68 years. Longer ones are
// clamped, so that no sum of times overflows.
const maxSeconds = 1<<31 - 1

// seconds converts a field in seconds. A negative one is 0.
func seconds(n int64) time.Duration {
	return time.Duration(min(max(0, n), maxSeconds)) * time.Second
}
