package cri

import (
	"context"
	"net/netip"
	"slices"
	"strings"

	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// UpdateRuntimeConfig takes the ranges that the node's pods have addresses from: one of IPv4
// or IPv6, or one of each, separated by a comma. The kubelet calls it when it learns of
// them, and every ten seconds while it fails.
func (s nodeService) UpdateRuntimeConfig(ctx context.Context, req *runtimeapi.UpdateRuntimeConfigRequest) (*runtimeapi.UpdateRuntimeConfigResponse, error) {
	cidr := req.GetRuntimeConfig().GetNetworkConfig().GetPodCidr()
	if cidr == "" {
		return &runtimeapi.UpdateRuntimeConfigResponse{}, nil // as the CRI says
	}
	ranges, err := podRanges(cidr)
	if err != nil {
		return nil, err
	}
	if err := s.Addresses.Set(ctx, ranges); err != nil {
		return nil, err
	}
	return &runtimeapi.UpdateRuntimeConfigResponse{}, nil
}

// podRanges reads a pod CIDR.
func podRanges(cidr string) ([]netip.Prefix, error) {
	const field = "runtime_config.network_config.pod_cidr"
	const most = 256 // of characters; two ranges have less than a hundred
	if len(cidr) > most {
		return nil, invalid(field, "%.*q… is longer than %d bytes", most, cidr, most)
	}
	var ranges []netip.Prefix
	for part := range strings.SplitSeq(cidr, ",") {
		r, err := netip.ParsePrefix(strings.TrimSpace(part))
		switch {
		case err != nil:
			return nil, invalid(field, "%q has %q, which is not ADDRESS/BITS", cidr, part)
		case r.Addr().Is4In6():
			return nil, invalid(field, "%q has %q, which is an IPv4 range written as an IPv6 one", cidr, part)
		case r.Masked() != r:
			return nil, invalid(field, "%q has %q, whose address is not the range's first, %s", cidr, part, r.Masked().Addr())
		case slices.ContainsFunc(ranges, func(other netip.Prefix) bool { return other.Addr().Is4() == r.Addr().Is4() }):
			return nil, invalid(field, "%q has two ranges of one family", cidr)
		}
		ranges = append(ranges, r)
	}
	return ranges, nil
}
