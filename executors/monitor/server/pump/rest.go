package pump

import "time"

// Rest calls f in the goroutine of Run, while nothing is read and no output is held
// back.
func (p *Pump) Rest(f func()) error {
	return p.loop.call(func() {
		p.release(time.Now().Add(p.holdTime))
		f()
	})
}
