package cri

import "time"

// maxSeconds is the longest time that a request can ask for: 68 years. What is longer is
// cut to it, so that no sum of times overflows.
const maxSeconds = 1<<31 - 1

// seconds is the time that a field of the CRI says in seconds. Negative is none.
func seconds(n int64) time.Duration {
	return time.Duration(min(max(0, n), maxSeconds)) * time.Second
}
