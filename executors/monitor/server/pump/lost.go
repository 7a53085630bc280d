package pump

// NotifyLost calls tell in the pump's goroutine, where it must not wait for
// anything, whenever the log has refused more: with all that it refused so far, in
// bytes, and the last reason.
func (o *Output) NotifyLost(tell func(bytes int64, reason error)) error {
	return o.pump.call(func() {
		o.tellLost = tell
		o.noteLost()
	})
}

// noteLost is called after something was written.
func (o *Output) noteLost() {
	if o.log == nil || o.tellLost == nil {
		return
	}
	if bytes, reason := o.log.Lost(); bytes > o.lost {
		o.lost = bytes
		o.tellLost(bytes, reason)
	}
}
