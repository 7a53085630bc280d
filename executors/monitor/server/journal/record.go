package journal

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"

	"google.golang.org/protobuf/proto"

	pb "github.com/stele-runtime/stele/proto/monitor/v1"
)

const (
	headerSize = 8
	// maxPayload bounds a damaged length.
	maxPayload = 64 << 10
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

var (
	errCut      = errors.New("the record is cut off")
	errLength   = fmt.Errorf("the record's length is 0 or more than %d", maxPayload)
	errChecksum = errors.New("the record's checksum is wrong")
)

func appendFrame(dst []byte, record *pb.Record) ([]byte, error) {
	start := len(dst)
	dst = append(dst, make([]byte, headerSize)...)
	dst, err := proto.MarshalOptions{}.MarshalAppend(dst, record)
	if err != nil {
		return nil, fmt.Errorf("encode a journal record: %w", err)
	}
	payload := dst[start+headerSize:]
	if len(payload) > maxPayload {
		return nil, fmt.Errorf("journal record of %d bytes, at most %d fit", len(payload), maxPayload)
	}
	binary.BigEndian.PutUint32(dst[start:], uint32(len(payload)))
	binary.BigEndian.PutUint32(dst[start+4:], crc32.Checksum(payload, castagnoli))
	return dst, nil
}

// next decodes the first record of data and returns what follows it.
func next(data []byte) (*pb.Record, []byte, error) {
	if len(data) < headerSize {
		return nil, nil, errCut
	}
	length := binary.BigEndian.Uint32(data)
	if length == 0 || length > maxPayload {
		return nil, nil, errLength
	}
	if len(data) < headerSize+int(length) {
		return nil, nil, errCut
	}
	payload := data[headerSize : headerSize+length]
	if crc32.Checksum(payload, castagnoli) != binary.BigEndian.Uint32(data[4:]) {
		return nil, nil, errChecksum
	}
	record := new(pb.Record)
	if err := proto.Unmarshal(payload, record); err != nil {
		return nil, nil, fmt.Errorf("decode a journal record: %w", err)
	}
	return record, data[headerSize+length:], nil
}
