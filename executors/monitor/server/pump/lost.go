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
	tell func(bytes int64, reason error)
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
		o.losses.tell = tell
		o.noteLost()
	})
}

// noteLost is called after a write.
func (o *Output) noteLost() {
	if o.log == nil || o.losses.tell == nil || o.losses.listed {
		return
	}
	if bytes, _ := o.log.Lost(); bytes > o.losses.told {
		o.losses.listed = true
		o.pump.untold = append(o.pump.untold, o)
	}
}

// tellDue is when losses are to be reported.
func (o *Output) tellDue() time.Time { return o.losses.at.Add(lossPause) }

// tellLost reports what was not reported yet.
func (o *Output) tellLost() {
	if o.log == nil || o.losses.tell == nil {
		return
	}
	if bytes, reason := o.log.Lost(); bytes > o.losses.told {
		o.losses.told, o.losses.at = bytes, time.Now()
		o.losses.tell(bytes, reason)
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
