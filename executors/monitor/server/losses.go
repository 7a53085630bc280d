package server

import (
	"context"
	"fmt"
	"sync"
	"time"

	pb "github.com/stele-runtime/stele/proto/monitor/v1"
)

// lossPause is the least time between two reports of losses: on a full disk every line
// is a loss.
const lossPause = time.Second

// losses are what containers have lost of their output.
type losses struct {
	mu  sync.Mutex
	all map[string]*pb.Loss
	// grown is closed and replaced when there is more.
	grown chan struct{}
}

func newLosses() *losses { return &losses{all: map[string]*pb.Loss{}, grown: make(chan struct{})} }

func (l *losses) note(loss *pb.Loss) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.all[loss.ContainerId] = loss
	close(l.grown)
	l.grown = make(chan struct{})
}

func (l *losses) forget(id string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.all, id)
}

// list returns those that differ from known, which it updates, and a channel that is
// closed when there is more.
func (l *losses) list(known map[string]uint64) ([]*pb.Loss, <-chan struct{}) {
	l.mu.Lock()
	defer l.mu.Unlock()
	var news []*pb.Loss
	for id, loss := range l.all {
		if known[id] != loss.Bytes {
			known[id] = loss.Bytes
			news = append(news, loss)
		}
	}
	for id := range known {
		if _, ok := l.all[id]; !ok {
			delete(known, id)
		}
	}
	return news, l.grown
}

// tellLosses sends losses until ctx ends. It journals what it sends, so that the next
// monitor counts from there.
func (n *session) tellLosses(ctx context.Context, id uint64) error {
	known := map[string]uint64{}
	for {
		news, grown := n.server.losses.list(known)
		for _, loss := range news {
			if err := n.server.journal.Lost(loss); err != nil {
				n.server.logger.Error("journal a loss", "container", loss.ContainerId, "error", err)
			}
			if err := n.conn.Send(&pb.Reply{Id: id, More: true, Result: &pb.Reply_Loss{Loss: loss}}); err != nil {
				return err
			}
		}
		select {
		case <-grown:
		case <-ctx.Done():
			return fmt.Errorf("the subscription ended: %w", ctx.Err())
		}
		select {
		case <-time.After(lossPause):
		case <-ctx.Done():
		}
	}
}
