package daemon

import (
	"context"
	"log/slog"
	"net/netip"
	"strings"

	"github.com/stele-runtime/stele/actors/host"
	"github.com/stele-runtime/stele/executors/cni"
)

// PodAddresses is cri.PodAddresses.
type PodAddresses struct {
	Actors interface {
		Host(context.Context, host.Command) error
	}
	Views Views
	// Template is filled with the ranges. With an empty path, somebody else configures the
	// network.
	Template cni.Template
	Logger   *slog.Logger
}

// Set records the ranges in the node's stream, if they have changed, and fills the template.
func (p *PodAddresses) Set(ctx context.Context, ranges []netip.Prefix) error {
	texts := make([]string, len(ranges))
	for i, r := range ranges {
		texts[i] = r.String()
	}
	if err := p.Actors.Host(ctx, host.ReportPodCIDR{CIDR: strings.Join(texts, ",")}); err != nil {
		return err
	}
	return p.fill(ranges)
}

// Refill fills the template with the ranges of the kubelet's last report, which it does not
// repeat to a new daemon: the template may be a new one, or its file may be gone. It must
// end before Set can be called, whose ranges are newer.
func (p *PodAddresses) Refill() {
	var ranges []netip.Prefix
	for text := range strings.SplitSeq(p.Views.Past().Host.State.PodCIDR, ",") {
		r, err := netip.ParsePrefix(text)
		if err != nil {
			return // it was never reported
		}
		ranges = append(ranges, r)
	}
	if err := p.fill(ranges); err != nil {
		p.Logger.Error("pod network not configured", "error", err)
	}
}

func (p *PodAddresses) fill(ranges []netip.Prefix) error {
	if p.Template.Path == "" {
		return nil
	}
	_, err := p.Template.Fill(ranges)
	return err
}
