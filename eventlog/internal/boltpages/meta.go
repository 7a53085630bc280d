package boltpages

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"math/bits"
)

// Where things are, from bbolt's internal/common. Integers have the machine's
// byte order. A page begins with
//
//	id uint64, flags uint16, count uint16, overflow uint32
//
// and a meta page continues with
//
//	magic, version, pageSize, flags uint32
//	root (page uint64, sequence uint64)
//	freelist, pages, txid, checksum uint64
const (
	pageHeader  = 16
	metaSize    = 64
	magic       = 0xED0CDAED
	version     = 2
	noFreelist  = ^uint64(0)
	minPageSize = 1 << 10
	maxPageSize = 1 << 24

	flagBranch   = 0x01
	flagLeaf     = 0x02
	flagFreelist = 0x10
)

var order = binary.NativeEndian

// Meta is the root of all trees as of one transaction. The file has two, and
// transactions write them in turn.
type Meta struct {
	PageSize int
	TxID     uint64
	Pages    uint64 // no page from this number on is in use

	root     uint64
	freelist uint64
}

// ErrNotBolt means that neither meta page is valid.
var ErrNotBolt = errors.New("neither of the two meta pages is valid")

// ReadMeta returns the meta page with the higher transaction, which is the
// one that bbolt uses. other is nil, or what is wrong with the other one: a
// crash while it was written, or damage to what had been the newest
// transaction.
func ReadMeta(r io.ReaderAt, size int64) (newest Meta, other error, err error) {
	m0, err0 := readMeta(r, 0)
	if err0 == nil {
		m1, err1 := readMeta(r, int64(m0.PageSize))
		switch {
		case err1 != nil:
			return m0, fmt.Errorf("meta page 1: %w", err1), nil
		case m1.TxID > m0.TxID:
			return m1, nil, nil
		}
		return m0, nil, nil
	}
	// The page size is in the page that cannot be read, so try all.
	for pageSize := int64(minPageSize); pageSize <= maxPageSize && pageSize < size; pageSize *= 2 {
		if m1, err := readMeta(r, pageSize); err == nil && int64(m1.PageSize) == pageSize {
			return m1, fmt.Errorf("meta page 0: %w", err0), nil
		}
	}
	return Meta{}, nil, fmt.Errorf("%w: the first: %w", ErrNotBolt, err0)
}

// ErrOverwritten means that the meta page of a transaction is gone.
var ErrOverwritten = errors.New("the meta page was overwritten")

// ReadMetaOf returns the meta page of the given transaction. After a second
// later commit it is gone: ErrOverwritten.
func ReadMetaOf(r io.ReaderAt, size int64, txid uint64) (Meta, error) {
	newest, _, err := ReadMeta(r, size)
	if err != nil {
		return Meta{}, err
	}
	m, err := readMeta(r, int64(txid%2)*int64(newest.PageSize))
	if err != nil {
		return Meta{}, err
	}
	if m.TxID != txid {
		return Meta{}, fmt.Errorf("%w: transaction %d by %d", ErrOverwritten, txid, m.TxID)
	}
	return m, nil
}

func readMeta(r io.ReaderAt, at int64) (Meta, error) {
	var page [pageHeader + metaSize]byte
	if _, err := r.ReadAt(page[:], at); err != nil {
		return Meta{}, fmt.Errorf("read %d bytes at %d: %w", len(page), at, err)
	}
	b := page[pageHeader:]
	if got := order.Uint32(b); got != magic {
		return Meta{}, fmt.Errorf("magic number is %08x, want %08x", got, uint32(magic))
	}
	if got := order.Uint32(b[4:]); got != version {
		return Meta{}, fmt.Errorf("bbolt version is %d, want %d", got, version)
	}
	sum := fnv.New64a()
	sum.Write(b[:56])
	if want, got := order.Uint64(b[56:]), sum.Sum64(); want != got {
		return Meta{}, fmt.Errorf("checksum is %016x, but %016x was written", got, want)
	}
	m := Meta{
		PageSize: int(order.Uint32(b[8:])),
		root:     order.Uint64(b[16:]),
		freelist: order.Uint64(b[32:]),
		Pages:    order.Uint64(b[40:]),
		TxID:     order.Uint64(b[48:]),
	}
	if m.PageSize < minPageSize || m.PageSize > maxPageSize || bits.OnesCount(uint(m.PageSize)) != 1 {
		return Meta{}, fmt.Errorf("page size is %d", m.PageSize)
	}
	return m, nil
}
