package usermode

import (
	"cmp"
	"fmt"
	"slices"

	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// ids is how many there are: the last, 2^32-1, means "no id".
const ids = 1<<32 - 1

// span are the ids from start up to, and without, end.
type span struct{ start, end uint64 }

func spanOf(start, length uint32) span {
	return span{uint64(start), uint64(start) + uint64(length)}
}

// spans returns ranges in ascending order, without what is beyond the last id.
func spans(ranges []Range) []span {
	var out []span
	for _, r := range ranges {
		s := spanOf(r.Start, r.Length)
		out = append(out, span{s.start, min(s.end, ids)})
	}
	slices.SortFunc(out, func(a, b span) int { return cmp.Compare(a.start, b.start) })
	// What is listed twice is there once.
	var from uint64
	for i, s := range out {
		out[i].start = max(s.start, from)
		from = max(from, s.end)
	}
	return slices.DeleteFunc(out, func(s span) bool { return s.start >= s.end })
}

// without cuts a span out of others.
func without(from []span, cut span) []span {
	var out []span
	for _, s := range from {
		for _, rest := range []span{{s.start, min(s.end, cut.start)}, {max(s.start, cut.end), s.end}} {
			if rest.start < rest.end {
				out = append(out, rest)
			}
		}
	}
	return out
}

func total(list []span) (n uint64) {
	for _, s := range list {
		n += s.end - s.start
	}
	return n
}

// take returns the first n ids that are in one piece, else the first n.
func take(from []span, n uint64) ([]span, bool) {
	if n == 0 {
		return nil, true
	}
	for _, s := range from {
		if s.end-s.start >= n {
			return []span{{s.start, s.start + n}}, true
		}
	}
	var out []span
	for _, s := range from {
		s.end = min(s.end, s.start+n)
		out = append(out, s)
		if n -= s.end - s.start; n == 0 {
			return out, true
		}
	}
	return nil, false
}

// pair maps ids to as many others, in order.
func pair(inside, outside []span) []*cri.IDMapping {
	var out []*cri.IDMapping
	for len(inside) > 0 && len(outside) > 0 {
		in, host := &inside[0], &outside[0]
		n := min(in.end-in.start, host.end-host.start)
		if n > 0 {
			out = append(out, &cri.IDMapping{ContainerId: uint32(in.start), HostId: uint32(host.start), Length: uint32(n)})
		}
		in.start, host.start = in.start+n, host.start+n
		if in.start == in.end {
			inside = inside[1:]
		}
		if host.start == host.end {
			outside = outside[1:]
		}
	}
	return out
}

func text(r *cri.IDMapping) string {
	return fmt.Sprintf("%d:%d:%d", r.GetContainerId(), r.GetHostId(), r.GetLength())
}
