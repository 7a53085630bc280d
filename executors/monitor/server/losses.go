package server

import (
	"context"
	"fmt"
	"time"

	pb "github.com/stele-runtime/stele/proto/monitor/v1"
)

// lossPause is the least time between two reports of losses: on a full disk every line
// is a loss.
const lossPause = time.Second

// tellLosses sends losses until ctx ends. It journals what it sends, so that the next
// monitor counts from there.
func (n *session) tellLosses(ctx context.Context, id uint64) error {
	after := uint64(0)
	for {
		fresh, last, grown := n.server.losses.list(after)
		after = last
		for _, loss := range fresh {
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
