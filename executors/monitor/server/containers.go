package server

import (
	"cmp"
	"errors"
	"slices"
	"time"

	pb "github.com/stele-runtime/stele/proto/monitor/v1"
)

// reserve returns the container with the id; fresh when there was none and the
// caller has to make it.
func (s *Server) reserve(id string) (c *container, fresh bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if c, ok := s.containers[id]; ok {
		return c, false
	}
	c = newContainer(id)
	s.containers[id] = c
	return c, true
}

// find returns a container that was created.
func (s *Server) find(id string) (*container, error) {
	s.mu.Lock()
	c, ok := s.containers[id]
	s.mu.Unlock()
	if !ok {
		return nil, notFound(id)
	}
	<-c.ready
	if c.err != nil {
		return nil, notFound(id)
	}
	return c, nil
}

func (s *Server) drop(c *container) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.containers[c.id] == c {
		delete(s.containers, c.id)
	}
}

// all returns the containers that are ready, by id.
func (s *Server) all() []*container {
	s.mu.Lock()
	defer s.mu.Unlock()
	var all []*container
	for _, c := range s.containers {
		select {
		case <-c.ready:
			if c.err == nil {
				all = append(all, c)
			}
		default:
		}
	}
	slices.SortFunc(all, func(a, b *container) int { return cmp.Compare(a.id, b.id) })
	return all
}

// forget drops a container that has ended, and returns how, nil for one that is not
// known.
func (s *Server) forget(id string) (*pb.Exit, error) {
	c, err := s.find(id)
	if err != nil {
		return nil, s.journal.Forget(id)
	}
	select {
	case <-c.exited:
	case <-time.After(forgetWait):
		return nil, fail(pb.Failure_CODE_RUNNING, "container %q still runs", id)
	}
	s.drop(c)
	s.losses.forget(id)
	return c.exit, errors.Join(c.release(), s.journal.Forget(id))
}

// checkShutdown refuses to end while there is something to do.
func (s *Server) checkShutdown() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for id, c := range s.containers {
		if !c.hasExited() {
			return fail(pb.Failure_CODE_RUNNING, "container %q still runs", id)
		}
	}
	return nil
}
