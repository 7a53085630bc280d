package server

import (
	pb "github.com/stele-runtime/stele/proto/monitor/v1"
)

// resumeExecs takes up the execs of the monitor before this one, for those who
// will adopt them. What a runtime was just starting is killed, since nobody can
// know it.
func (s *Server) resumeExecs() {
	for _, record := range s.journal.Execs() {
		if record.PidFile != "" {
			s.logger.Info("kill an exec that was being started", "exec", record.Id)
			killStarting(record)
			s.endExecRecord(record.Id)
			continue
		}
		identity := toIdentity(record.Process)
		pidfd, err := identity.Open()
		if err != nil {
			s.endExecRecord(record.Id) // It has ended.
			continue
		}
		p, err := s.followAgain(record.Id, identity, pidfd)
		if err != nil {
			s.logger.Error("go on with an exec", "exec", record.Id, "error", err)
			continue
		}
		s.orphans[record.Id] = p
	}
}

// adoptExec goes on with an exec for a daemon that has lost another monitor.
func (s *Server) adoptExec(e *execution, req *pb.AdoptExec, files *descriptors) (*pb.ExecEnded, error) {
	identity := toIdentity(req.Process)
	s.mu.Lock()
	p := s.orphans[e.id]
	delete(s.orphans, e.id)
	s.mu.Unlock()
	if p == nil || p.identity != identity {
		pidfd := files.take(pb.Role_ROLE_PIDFD)
		if pidfd < 0 || identity.PID <= 0 {
			return nil, fail(pb.Failure_CODE_INVALID, "adopt exec %s: the process or its pidfd is missing", e.id)
		}
		var err error
		if p, err = s.followAgain(e.id, identity, pidfd); err != nil {
			return nil, err
		}
	}
	e.process = p
	if err := s.journal.ExecStarted(p.record()); err != nil {
		s.logger.Error("note that an exec was adopted", "exec", e.id, "error", err)
	}
	return p.await(e.ctx, nil)
}

// settleExecs kills the execs that nobody has adopted.
func (s *Server) settleExecs() {
	s.mu.Lock()
	var unwanted []*execProcess
	for id, p := range s.orphans {
		// Its AdoptExec may have come, and not have been answered yet.
		if _, ok := s.execs[id]; !ok {
			unwanted = append(unwanted, p)
			delete(s.orphans, id)
		}
	}
	s.mu.Unlock()
	for _, p := range unwanted {
		go func() {
			if _, err := p.kill(); err != nil {
				s.logger.Error("kill an exec that nobody waits for", "error", err)
			}
			p.finish()
		}()
	}
}
