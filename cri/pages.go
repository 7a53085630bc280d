package cri

import (
	"iter"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
)

// pageBytes and pageItems bound a message of a Stream call. gRPC clients accept 4 MiB
// unless told otherwise.
const (
	pageBytes = 1 << 20
	pageItems = 1000
)

// sendPages sends items in pages, each item once and in order. A page has at least one
// item, and at most pageItems in pageBytes, unless a single item is larger. Items are
// made as they are needed, so that one page is in memory at a time.
func sendPages[T proto.Message](items iter.Seq[T], send func([]T) error) error {
	var page []T
	bytes := 0
	for item := range items {
		// As an element of the page's only field.
		size := protowire.SizeTag(1) + protowire.SizeBytes(proto.Size(item))
		if len(page) == pageItems || len(page) > 0 && bytes+size > pageBytes {
			if err := send(page); err != nil {
				return err
			}
			page, bytes = nil, 0
		}
		page, bytes = append(page, item), bytes+size
	}
	if len(page) == 0 {
		return nil
	}
	return send(page)
}

// whole returns the answer of a List call, or an error if it is too large for a gRPC
// message. The limit of the client may be lower; its own gRPC library then says so.
func whole[T proto.Message](answer T, stream string) (T, error) {
	size := proto.Size(answer)
	if size <= MessageMost {
		return answer, nil
	}
	var none T
	return none, exhausted("the answer has %d bytes, and a gRPC message at most %d: call %s, which sends pages, or narrow the filter", size, MessageMost, stream)
}
