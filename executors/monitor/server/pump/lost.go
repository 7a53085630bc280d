package pump

import (
	"slices"
	"time"
)

// lossPause is the least time between two words of losses, except for the last: a
// full disk makes one with every line.
const lossPause = time.Second

// losses is what an Output tells of what its log has refused.
type losses struct {
	tell func(bytes int64, reason error)
	// told is the number of bytes that was told last, at a time.
	told int64
	at   time.Time
	// listed says that the output is among the pump's untold ones.
	listed bool
}

// NotifyLost calls tell in the pump's goroutine, where it must not wait for
// anything, when the log has refused more, at most once a second, and when the
// output has ended: with all that it refused so far, in bytes, and the last reason.
func (o *Output) NotifyLost(tell func(bytes int64, reason error)) error {
	return o.pump.loop.call(func() {
		o.losses.tell = tell
		o.noteLost()
	})
}

// noteLost is called after something was written.
func (o *Output) noteLost() {
	if o.log == nil || o.losses.tell == nil || o.losses.listed {
		return
	}
	if bytes, _ := o.log.Lost(); bytes > o.losses.told {
		o.losses.listed = true
		o.pump.untold = append(o.pump.untold, o)
	}
}

// tellDue is when losses are to be told.
func (o *Output) tellDue() time.Time { return o.losses.at.Add(lossPause) }

// tellLost tells what was not told.
func (o *Output) tellLost() {
	if o.log == nil || o.losses.tell == nil {
		return
	}
	if bytes, reason := o.log.Lost(); bytes > o.losses.told {
		o.losses.told, o.losses.at = bytes, time.Now()
		o.losses.tell(bytes, reason)
	}
}

// tellLosses tells those whose time has come.
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
