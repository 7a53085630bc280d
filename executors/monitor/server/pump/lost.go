package pump

import (
	"slices"
	"time"
)

// lossPause is the least time between two reports of losses, except for the last: on a
// full disk every line is a loss.
const lossPause = time.Second

// losses are an Output's reports of what its log has refused.
type losses struct {
	// told is the number of bytes last reported, at a time.
	told int64
	at   time.Time
	// listed: the output is in the pump's untold.
	listed bool
}

// NotifyLost calls tell when the log has refused more, at most once a second, and when
// the output has ended: with the total so far, in bytes, and the last reason. tell runs
// in the pump's goroutine and must not block.
func (o *Output) NotifyLost(tell func(bytes int64, reason error)) error {
	return o.pump.loop.call(func() {
		o.tell = tell
		o.noteLost()
	})
}

// noteLost is called after a write.
func (o *Output) noteLost() {
	if o.unreported() && !o.losses.listed {
		o.losses.listed = true
		o.pump.untold = append(o.pump.untold, o)
	}
}

// unreported reports whether there are losses that nobody was told of. If so, o.losses is set.
func (o *Output) unreported() bool {
	if o.log == nil || o.tell == nil {
		return false
	}
	bytes, _ := o.log.Lost()
	if bytes > 0 && o.losses == nil {
		o.losses = &losses{}
	}
	return o.losses != nil && bytes > o.losses.told
}

// tellDue is when losses are to be reported.
func (o *Output) tellDue() time.Time { return o.losses.at.Add(lossPause) }

// tellLost reports what was not reported yet.
func (o *Output) tellLost() {
	if o.unreported() {
		bytes, reason := o.log.Lost()
		o.losses.told, o.losses.at = bytes, time.Now()
		o.tell(bytes, reason)
	}
}

// tellLosses reports the losses that are due.
func (p *Pump) tellLosses(now time.Time) {
	p.untold = slices.DeleteFunc(p.untold, func(o *Output) bool {
		if o.tellDue().After(now) {
			return false
		}
		o.losses.listed = false
		o.tellLost()
		return true
	})
}
