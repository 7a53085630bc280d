package crilog

import (
	"bytes"
	"time"
)

const (
	// MaxContent is the size of the longest content of a record, in bytes: a
	// longer line is cut into pieces of this size. The kubelet's log reader and other
	// CRI runtimes use the same value.
	MaxContent = 16 << 10

	timeFormat = "2006-01-02T15:04:05.000000000Z"
	// maxHead is the size of a record without its content.
	maxHead = len(timeFormat) + len(" stderr F ") + len("\n")
	// MaxRecord is the size of the largest record, in bytes.
	MaxRecord = maxHead + MaxContent
)

// Stream is one of a container's two output streams.
type Stream uint8

const (
	Stdout Stream = iota
	Stderr
)

func (s Stream) String() string {
	if s == Stderr {
		return "stderr"
	}
	return "stdout"
}

// head is what all records of one batch of one stream start with, up to the tag.
type head []byte

func appendHead(dst []byte, now time.Time, stream Stream) head {
	dst = now.UTC().AppendFormat(dst, timeFormat)
	dst = append(dst, ' ')
	dst = append(dst, stream.String()...)
	return append(dst, ' ')
}

// cut takes the next record's content off data; size includes the newline that ends it.
// ok is false if the record may not be complete: data has neither a newline nor more
// than MaxContent bytes. A line of exactly MaxContent bytes is thus one full record.
func cut(data []byte) (content []byte, size int, full, ok bool) {
	window := data[:min(len(data), MaxContent+1)]
	if i := bytes.IndexByte(window, '\n'); i >= 0 {
		return data[:i], i + 1, true, true
	}
	if len(data) > MaxContent {
		return data[:MaxContent], MaxContent, false, true
	}
	return nil, 0, false, false
}

// record is one of a batch's records.
type record struct {
	content []byte
	full    bool
	// to is where the record ends in the batch's data, with its newline.
	to int
}

func appendRecord(dst []byte, h head, r *record) []byte {
	dst = append(dst, h...)
	if r.full {
		dst = append(dst, "F "...)
	} else {
		dst = append(dst, "P "...)
	}
	dst = append(dst, r.content...)
	return append(dst, '\n')
}
