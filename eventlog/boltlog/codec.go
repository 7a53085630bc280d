package boltlog

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"math"
	"time"

	"github.com/stele-runtime/stele/eventlog"
)

// recordFormat is the first byte of a record. Another layout gets another number;
// numbers are never reused.
const recordFormat = 0x01

const crcSize = 4

// castagnoli is the polynomial of CRC-32C, for which CPUs have an instruction.
var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// appendRecord appends the encoding of a record to b (layout: doc.go).
func appendRecord(b []byte, r *eventlog.Record) []byte {
	start := len(b)
	b = append(b, recordFormat)
	b = binary.BigEndian.AppendUint64(b, uint64(r.Sequence))
	b = binary.BigEndian.AppendUint64(b, uint64(r.Time.UnixNano()))
	b = binary.AppendUvarint(b, uint64(r.SinceBoot))
	b = binary.AppendUvarint(b, uint64(r.Version))
	b = binary.AppendUvarint(b, uint64(r.Schema))
	b = binary.AppendUvarint(b, uint64(r.Cause.Event))
	b = appendString(b, r.BootID)
	b = appendString(b, string(r.Stream))
	b = appendString(b, r.Type)
	b = appendString(b, r.Cause.Command)
	b = appendString(b, r.Cause.Trace)
	b = binary.AppendUvarint(b, uint64(len(r.Payload)))
	b = append(b, r.Payload...)
	return appendCRC(b, start)
}

// recordOverhead is at least what appendRecord adds to the payload.
func recordOverhead(r *eventlog.Record) int {
	const numbers, lengths = 1 + 8 + 8 + 4*binary.MaxVarintLen64, 6 * binary.MaxVarintLen32
	return numbers + lengths + crcSize + len(r.BootID) + len(r.Stream) + len(r.Type) + len(r.Cause.Command) + len(r.Cause.Trace)
}

// recordDecoder decodes records. It keeps the few strings that most records
// share, so that a replay doesn't allocate them again for each. It serves one
// goroutine.
type recordDecoder struct {
	shared map[string]string
}

// maxShared bounds what a decoder keeps if a log is full of names that occur
// once.
const maxShared = 4096

// decode decodes a record. It copies: the record stays valid when b doesn't.
//
// The bytes are not trusted: what appendRecord cannot have written is refused,
// even if the CRC fits.
func (d *recordDecoder) decode(b []byte) (eventlog.Record, error) {
	body, err := checkCRC(b)
	if err != nil {
		return eventlog.Record{}, err
	}
	p := parser{b: body}
	if format := p.byte(); format != recordFormat {
		return eventlog.Record{}, fmt.Errorf("record format %d is not known", format)
	}
	var r eventlog.Record
	r.Sequence = eventlog.Sequence(p.uint64())
	r.Time = time.Unix(0, int64(p.uint64())).UTC()
	r.SinceBoot = time.Duration(p.uvarint(math.MaxInt64))
	r.Version = eventlog.Version(p.uvarint(math.MaxUint64))
	r.Schema = uint32(p.uvarint(math.MaxUint32))
	r.Cause.Event = eventlog.Sequence(p.uvarint(math.MaxUint64))
	r.BootID = d.share(p.bytes(eventlog.MaxName))
	r.Stream = eventlog.Stream(d.share(p.bytes(eventlog.MaxName)))
	r.Type = d.share(p.bytes(eventlog.MaxName))
	r.Cause.Command = d.share(p.bytes(eventlog.MaxName))
	r.Cause.Trace = d.share(p.bytes(eventlog.MaxName))
	payload := p.bytes(eventlog.MaxPayload)
	if err := p.end(); err != nil {
		return eventlog.Record{}, err
	}
	r.Payload = append(make([]byte, 0, len(payload)), payload...)
	return r, nil
}

func (d *recordDecoder) share(b []byte) string {
	if s, ok := d.shared[string(b)]; ok {
		return s
	}
	if d.shared == nil || len(d.shared) >= maxShared {
		d.shared = make(map[string]string)
	}
	s := string(b)
	d.shared[s] = s
	return s
}

func appendString(b []byte, s string) []byte {
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}

// appendCRC appends the CRC-32C of everything from start.
func appendCRC(b []byte, start int) []byte {
	return binary.BigEndian.AppendUint32(b, crc32.Checksum(b[start:], castagnoli))
}

// checkCRC returns b without its CRC-32C, if that is right.
func checkCRC(b []byte) ([]byte, error) {
	if len(b) < crcSize {
		return nil, fmt.Errorf("only %d bytes", len(b))
	}
	body, tail := b[:len(b)-crcSize], b[len(b)-crcSize:]
	if want, got := binary.BigEndian.Uint32(tail), crc32.Checksum(body, castagnoli); want != got {
		return nil, fmt.Errorf("CRC-32C is %08x, but %08x was written", got, want)
	}
	return body, nil
}

// parser takes fields from the front of b. After the first error it returns
// zero values, so that one check at the end is enough.
type parser struct {
	b   []byte
	err error
}

var (
	errShort     = errors.New("the bytes end early")
	errNumber    = errors.New("a number is out of range or not in its shortest form")
	errTooLong   = errors.New("a field is longer than the limit")
	errOrder     = errors.New("fields are not in their order")
	errRemainder = errors.New("bytes are left over")
)

func (p *parser) fail(err error) {
	if p.err == nil {
		p.err = err
	}
	p.b = nil
}

func (p *parser) byte() byte {
	b := p.take(1)
	if b == nil {
		return 0
	}
	return b[0]
}

func (p *parser) uint64() uint64 {
	b := p.take(8)
	if b == nil {
		return 0
	}
	return binary.BigEndian.Uint64(b)
}

func (p *parser) uvarint(max uint64) uint64 {
	v, n := binary.Uvarint(p.b)
	switch {
	case n == 0:
		p.fail(errShort)
		return 0
	case n < 0, v > max, n > 1 && p.b[n-1] == 0: // the last: a longer form than needed
		p.fail(errNumber)
		return 0
	}
	p.b = p.b[n:]
	return v
}

// bytes takes a length and as many bytes. The result aliases the input.
func (p *parser) bytes(max uint64) []byte {
	n := p.uvarint(math.MaxInt32)
	if n > max {
		p.fail(errTooLong)
		return nil
	}
	return p.take(int(n))
}

func (p *parser) take(n int) []byte {
	if p.err != nil || n > len(p.b) {
		p.fail(errShort)
		return nil
	}
	b := p.b[:n:n]
	p.b = p.b[n:]
	return b
}

// end returns the first error, and one if not everything was taken.
func (p *parser) end() error {
	if p.err == nil && len(p.b) != 0 {
		p.fail(errRemainder)
	}
	return p.err
}
