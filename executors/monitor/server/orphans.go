package server

import (
	pb "github.com/stele-runtime/stele/proto/monitor/v1"
)

// resume follows an earlier monitor's execs until they are adopted. Those that a
// runtime was just starting are killed, since no daemon knows them.
func (x *execs) resume() {
	for _, record := range x.journal.Execs() {
		if record.PidFile != "" {
			x.logger.Info("kill an exec that was being started", "exec", record.Id)
			killStarting(record)
			x.ended(record.Id)
			continue
		}
		identity := toIdentity(record.Process)
		pidfd, err := identity.Open()
		if err != nil {
			x.ended(record.Id) // It has ended.
			continue
		}
		p, err := x.followAgain(record.Id, identity, pidfd)
		if err != nil {
			x.logger.Error("take over an exec", "exec", record.Id, "error", err)
			continue
		}
		x.orphans[record.Id] = p
	}
}

// adopt follows an exec for a daemon that has lost the exec's monitor.
func (x *execs) adopt(e *execution, req *pb.AdoptExec, files *descriptors) (*pb.ExecEnded, error) {
	identity := toIdentity(req.Process)
	x.mu.Lock()
	p := x.orphans[e.id]
	delete(x.orphans, e.id)
	x.mu.Unlock()
	if p == nil || p.identity != identity {
		pidfd := files.take(pb.Role_ROLE_PIDFD)
		if pidfd < 0 || identity.PID <= 0 {
			return nil, fail(pb.Failure_CODE_INVALID, "adopt exec %s: the process or its pidfd is missing", e.id)
		}
		var err error
		if p, err = x.followAgain(e.id, identity, pidfd); err != nil {
			return nil, err
		}
	}
	e.process = p
	if err := x.journal.ExecStarted(p.record()); err != nil {
		x.logger.Error("journal the adoption of an exec", "exec", e.id, "error", err)
	}
	return p.await(e.ctx, nil)
}

// settle kills the execs that were not adopted.
func (x *execs) settle() {
	x.mu.Lock()
	var unwanted []*execProcess
	for id, p := range x.orphans {
		// Its AdoptExec may be in flight.
		if _, ok := x.awaited[id]; !ok {
			unwanted = append(unwanted, p)
			delete(x.orphans, id)
		}
	}
	x.mu.Unlock()
	for _, p := range unwanted {
		go func() {
			if _, err := p.kill(); err != nil {
				x.logger.Error("kill an exec that was not adopted", "error", err)
			}
			p.finish()
		}()
	}
}
