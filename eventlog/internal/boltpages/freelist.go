package boltpages

import (
	"errors"
	"fmt"
	"io"
)

// A free list has, after the page's header, the numbers of the free pages as uint64,
// ascending. If there are more than the header can count, the first number is how many.
const (
	pageNumber = 8
	manyFree   = 0xffff
	overflowAt = 12 // in the header: how many pages follow that belong to this one
)

// ErrNoFreelist means that the free list is not in the file.
var ErrNoFreelist = errors.New("there is no free list")

// Freelist returns the pages of the free list of a file with size bytes.
func (m Meta) Freelist(r io.ReaderAt, size int64) ([]byte, error) {
	if m.freelist == noFreelist {
		return nil, ErrNoFreelist
	}
	pages := min(m.Pages, uint64(size)/uint64(m.PageSize))
	if m.freelist < 2 || m.freelist >= pages {
		return nil, fmt.Errorf("it is on page %d, but pages go from 2 to %d", m.freelist, pages-1)
	}
	at := int64(m.freelist) * int64(m.PageSize)
	var head [pageHeader]byte
	if _, err := r.ReadAt(head[:], at); err != nil {
		return nil, fmt.Errorf("it cannot be read: %w", err)
	}
	n := uint64(order.Uint32(head[overflowAt:])) + 1
	if n > pages-m.freelist {
		return nil, fmt.Errorf("it spans %d pages, but there are only %d", n, pages-m.freelist)
	}
	b := make([]byte, n*uint64(m.PageSize))
	if _, err := r.ReadAt(b, at); err != nil {
		return nil, fmt.Errorf("it cannot be read: %w", err)
	}
	return b, nil
}

// freelist checks that the list has free pages only. All trees must be walked before.
func (c *checker) freelist(id uint64) error {
	b, err := c.load(id, 0)
	if err != nil {
		return err
	}
	if flags := order.Uint16(b[8:]); flags != flagFreelist {
		return fmt.Errorf("its flags are %#x", flags)
	}
	count, numbers := uint64(order.Uint16(b[10:])), b[pageHeader:]
	if count == manyFree {
		count, numbers = order.Uint64(numbers), numbers[pageNumber:]
	}
	if count > uint64(len(numbers)/pageNumber) {
		return fmt.Errorf("it has %d bytes, too few for %d pages", len(b), count)
	}
	last := uint64(1)
	for i := range count {
		free := order.Uint64(numbers[i*pageNumber:])
		switch {
		case free <= last || free >= c.pages:
			return fmt.Errorf("page %d follows %d, and pages go from 2 to %d", free, last, c.pages-1)
		case c.seen[free/64].Load()&(1<<(free%64)) != 0:
			return fmt.Errorf("page %d is in use", free)
		}
		last = free
	}
	return nil
}
