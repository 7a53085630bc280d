package boltpages

import (
	"bytes"
	"errors"
	"fmt"
)

// elements are those of one branch or leaf page. After the page's header comes
// an array of fixed size,
//
//	branch: offset, keySize uint32, child uint64
//	leaf:   flags, offset, keySize, valueSize uint32
//
// where each offset is counted from the array element itself.
type elements struct {
	page  []byte
	leaf  bool
	count int
}

const elementSize = 16

// element is an entry of a page. Key and value alias the page.
type element struct {
	key   []byte
	child uint64 // branch only
	flags uint32 // leaf only
	value []byte // leaf only
}

// maxKey is bbolt's limit, in bytes.
const maxKey = 32768

// parsePage checks a page's header and that its array fits.
func parsePage(page []byte) (elements, error) {
	if len(page) < pageHeader {
		return elements{}, fmt.Errorf("it has only %d bytes", len(page))
	}
	flags := order.Uint16(page[8:])
	e := elements{page: page, leaf: flags == flagLeaf, count: int(order.Uint16(page[10:]))}
	switch {
	case flags != flagLeaf && flags != flagBranch:
		return elements{}, fmt.Errorf("its flags are %#x, so it is neither branch nor leaf", flags)
	case !e.leaf && e.count == 0:
		return elements{}, errors.New("it is a branch without children")
	case pageHeader+e.count*elementSize > len(page):
		return elements{}, fmt.Errorf("it has %d bytes, too few for its %d elements", len(page), e.count)
	}
	return e, nil
}

// at returns the i-th element, if all of it is inside the page.
func (e elements) at(i int) (element, error) {
	at := pageHeader + i*elementSize
	head := e.page[at : at+elementSize]
	if !e.leaf {
		key, err := e.slice(at, order.Uint32(head), order.Uint32(head[4:]), 0)
		return element{key: key, child: order.Uint64(head[8:])}, err
	}
	keySize, valueSize := order.Uint32(head[8:]), order.Uint32(head[12:])
	b, err := e.slice(at, order.Uint32(head[4:]), keySize, valueSize)
	if err != nil {
		return element{}, err
	}
	return element{key: b[:keySize:keySize], flags: order.Uint32(head), value: b[keySize:]}, nil
}

func (e elements) slice(at int, offset, keySize, valueSize uint32) ([]byte, error) {
	if keySize == 0 || keySize > maxKey {
		return nil, fmt.Errorf("a key has %d bytes", keySize)
	}
	from := uint64(at) + uint64(offset)
	to := from + uint64(keySize) + uint64(valueSize)
	if from < uint64(pageHeader+e.count*elementSize) || to > uint64(len(e.page)) {
		return nil, fmt.Errorf("an element is at bytes %d to %d, outside of the page's %d", from, to, len(e.page))
	}
	return e.page[from:to:to], nil
}

// checkOrder looks at all elements: they must be inside the page, and their
// keys must ascend, from `from` (inclusive) to `before` (exclusive).
func (e elements) checkOrder(from, before []byte) error {
	previous := from
	for i := range e.count {
		el, err := e.at(i)
		if err != nil {
			return fmt.Errorf("element %d: %w", i, err)
		}
		order := bytes.Compare(previous, el.key)
		if previous != nil && (order > 0 || order == 0 && i > 0) {
			return fmt.Errorf("the key of element %d (%x) does not follow %x", i, el.key, previous)
		}
		if before != nil && bytes.Compare(el.key, before) >= 0 {
			return fmt.Errorf("the key of element %d (%x) belongs behind %x", i, el.key, before)
		}
		previous = el.key
	}
	return nil
}
