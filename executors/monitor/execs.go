package monitor

import "sync"

// execs are the running execs. They outlive a monitor: the next one is asked to
// follow them.
type execs struct {
	mu      sync.Mutex
	running map[*Exec]struct{}
}

func newExecs() *execs { return &execs{running: map[*Exec]struct{}{}} }

func (x *execs) add(e *Exec) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.running[e] = struct{}{}
}

func (x *execs) remove(e *Exec) {
	x.mu.Lock()
	defer x.mu.Unlock()
	delete(x.running, e)
}

// notHanded is an exec that could not be handed to a monitor.
type notHanded struct {
	id  string
	err error
}

// handTo asks a monitor to follow the execs of earlier monitors, so that they end
// with the daemon. It must come before Settle, which kills all others.
func (x *execs) handTo(s *session) (failed []notHanded) {
	if !s.speaks(versionTerminals) {
		return nil
	}
	x.mu.Lock()
	var others []*Exec
	for e := range x.running {
		if e.call.session != s {
			others = append(others, e)
		}
	}
	x.mu.Unlock()
	for _, e := range others {
		if err := e.handTo(s); err != nil {
			failed = append(failed, notHanded{e.request.ExecID, err})
		}
	}
	return failed
}
