package boltpages

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"math/bits"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
)

// Fault is a page that is not what it must be. The pages below it were not
// checked.
type Fault struct {
	Page    uint64
	Bucket  string // the bucket whose tree the page belongs to; "" for the list of buckets
	Problem string
}

func (f Fault) String() string {
	if f.Bucket == "" {
		return fmt.Sprintf("page %d: %s", f.Page, f.Problem)
	}
	return fmt.Sprintf("page %d of bucket %q: %s", f.Page, f.Bucket, f.Problem)
}

// Limits of the walk.
const (
	maxDepth  = 64   // a tree with fan-out 2 would have more pages than bytes exist
	maxFaults = 1000 // the rest is only more of the same
)

// Check walks all trees below a meta page of a file with size bytes. It reads
// every page in use once and nothing else. used is how many they are.
func Check(r io.ReaderAt, size int64, m Meta) (used uint64, faults []Fault) {
	c := &checker{r: r, pageSize: m.PageSize, pages: min(m.Pages, uint64(size)/uint64(m.PageSize))}
	c.seen = make([]atomic.Uint64, c.pages/64+1)
	if c.pages < m.Pages {
		c.fault(c.pages, "", "the file ends here, but it had %d pages: it was truncated", m.Pages)
	}
	c.tree(m.root, span{bucket: ""})
	c.rest()
	if m.freelist != noFreelist {
		if err := c.freelist(m.freelist); err != nil {
			c.fault(m.freelist, "", "the free list: %v", err)
		}
	}
	for i := range c.seen {
		used += uint64(bits.OnesCount64(c.seen[i].Load()))
	}
	const metas = 2
	return used + metas, c.faults
}

type checker struct {
	r        io.ReaderAt
	pageSize int
	pages    uint64
	seen     []atomic.Uint64 // one bit per page
	levels   [][]byte        // one page buffer per depth
	faults   []Fault
	// later are trees of which only the root's number is known yet.
	later []subtree
}

// subtree is a tree that can be checked at any time.
type subtree struct {
	root uint64
	span span
}

// subtreeDepth is how deep the subtrees begin. A large bucket has some hundred of them.
const subtreeDepth = 3

// rest checks the subtrees on all processors.
func (c *checker) rest() {
	subtrees := make(chan subtree)
	workers := make([]*checker, min(runtime.GOMAXPROCS(0), len(c.later)))
	var ended sync.WaitGroup
	for i := range workers {
		w := &checker{r: c.r, pageSize: c.pageSize, pages: c.pages, seen: c.seen}
		workers[i] = w
		ended.Go(func() {
			for t := range subtrees {
				w.tree(t.root, t.span)
			}
		})
	}
	for _, t := range c.later {
		subtrees <- t
	}
	close(subtrees)
	ended.Wait()
	for _, w := range workers {
		c.faults = append(c.faults, w.faults...)
	}
	slices.SortStableFunc(c.faults, func(a, b Fault) int { return cmp.Compare(a.Page, b.Page) })
	c.faults = c.faults[:min(len(c.faults), maxFaults)]
}

// span is what the parent of a page promises about it.
type span struct {
	bucket string
	depth  int
	from   []byte // no key is less; nil: no limit
	before []byte // all keys are less; nil: no limit
}

func (c *checker) fault(page uint64, bucket, format string, args ...any) {
	if len(c.faults) < maxFaults {
		c.faults = append(c.faults, Fault{page, bucket, fmt.Sprintf(format, args...)})
	}
}

// tree checks the page and everything below it.
func (c *checker) tree(id uint64, s span) {
	if s.depth >= maxDepth {
		c.fault(id, s.bucket, "the tree is more than %d pages deep", maxDepth)
		return
	}
	b, err := c.load(id, s.depth)
	if err != nil {
		c.fault(id, s.bucket, "%v", err)
		return
	}
	elements, err := parsePage(b)
	if err == nil {
		err = elements.checkOrder(s.from, s.before)
	}
	if err != nil {
		c.fault(id, s.bucket, "%v", err)
		return
	}
	if !elements.leaf {
		c.children(elements, s)
		return
	}
	for i := range elements.count {
		e, _ := elements.at(i) // checkOrder has looked at all of them
		if err := c.leafElement(e, s); err != nil {
			c.fault(id, s.bucket, "element %d: %v", i, err)
		}
	}
}

func (c *checker) children(elements elements, s span) {
	for i := range elements.count {
		e, _ := elements.at(i)
		child := span{bucket: s.bucket, depth: s.depth + 1, from: e.key, before: s.before}
		if i+1 < elements.count {
			next, _ := elements.at(i + 1)
			child.before = next.key
		}
		if child.depth == subtreeDepth {
			child.from, child.before = bytes.Clone(child.from), bytes.Clone(child.before)
			c.later = append(c.later, subtree{e.child, child})
			continue
		}
		c.tree(e.child, child)
	}
}

// leafElement checks one element. The list of buckets holds buckets only, and
// a bucket holds none.
func (c *checker) leafElement(e element, s span) error {
	isBucket := e.flags == 1
	switch {
	case e.flags > 1:
		return fmt.Errorf("flags are %#x", e.flags)
	case s.bucket != "" && isBucket:
		return errors.New("it is a bucket inside a bucket")
	case s.bucket == "" && !isBucket:
		return errors.New("it is not a bucket")
	case !isBucket:
		return nil
	}
	const header = 16 // root page, sequence
	if len(e.value) < header {
		return fmt.Errorf("bucket %q has a header of %d bytes, want %d", e.key, len(e.value), header)
	}
	inside := span{bucket: string(e.key), depth: s.depth + 1}
	if root := order.Uint64(e.value); root != 0 {
		c.tree(root, inside)
		return nil
	}
	return c.inlineBucket(e.value[header:], inside)
}

// inlineBucket checks a bucket that is so small that its only page is kept as
// a value.
func (c *checker) inlineBucket(page []byte, s span) error {
	elements, err := parsePage(page)
	if err == nil && !elements.leaf {
		err = errors.New("it is not a leaf")
	}
	if err == nil {
		err = elements.checkOrder(nil, nil)
	}
	for i := 0; err == nil && i < elements.count; i++ {
		e, _ := elements.at(i)
		err = c.leafElement(e, s)
	}
	if err != nil {
		return fmt.Errorf("bucket %q within the page: %w", s.bucket, err)
	}
	return nil
}

// load reads a page and its overflow, and marks them as used.
func (c *checker) load(id uint64, depth int) ([]byte, error) {
	if id < 2 || id >= c.pages {
		return nil, fmt.Errorf("its parent names it, but pages go from 2 to %d", c.pages-1)
	}
	for len(c.levels) <= depth {
		c.levels = append(c.levels, make([]byte, c.pageSize))
	}
	b := c.levels[depth][:c.pageSize]
	if _, err := c.r.ReadAt(b, int64(id)*int64(c.pageSize)); err != nil {
		return nil, fmt.Errorf("it cannot be read: %w", err)
	}
	if got := order.Uint64(b); got != id {
		return nil, fmt.Errorf("it says that it is page %d", got)
	}
	n := uint64(order.Uint32(b[12:])) + 1
	if n > c.pages-id {
		return nil, fmt.Errorf("it spans %d pages, but there are only %d", n, c.pages-id)
	}
	for i := id; i < id+n; i++ {
		if bit := uint64(1) << (i % 64); c.seen[i/64].Or(bit)&bit != 0 {
			return nil, fmt.Errorf("page %d is in use by two parents", i)
		}
	}
	if n > 1 {
		b = append(b, make([]byte, int(n-1)*c.pageSize)...)
		c.levels[depth] = b
		if _, err := c.r.ReadAt(b[c.pageSize:], int64(id+1)*int64(c.pageSize)); err != nil {
			return nil, fmt.Errorf("its overflow cannot be read: %w", err)
		}
	}
	return b, nil
}
