package cri

import (
	"bytes"
	"sync"
)

const (
	// maxOutput bounds what ExecSync returns of standard output and standard error
	// together, in bytes (CVE-2022-1708, CVE-2022-31030). The CRI's limit is 16 MB, which
	// is also the kubelet's for the whole message: the rest of it needs some room.
	maxOutput = 16<<20 - 4<<10
	// maxAllOutput bounds what all commands under way may hold together, in bytes.
	maxAllOutput = 32 << 20
	// ownOutput is what a command has in any case, in bytes, so that no probe fails for
	// what other pods' commands write.
	ownOutput = 64 << 10
)

// outputs bound the memory of all output that ExecSync collects.
type outputs struct {
	mu sync.Mutex
	// used is what commands hold beyond their own.
	used int
}

// output is what one command writes. Beyond its bounds it is truncated, as the CRI has it.
type output struct {
	all            *outputs
	stdout, stderr collected

	mu sync.Mutex
	// kept is what is held of both streams, borrowed how much of that counts against all.
	kept, borrowed int
	// full: something was dropped, and so is what follows.
	full bool
}

// collected is one stream's output, in pieces: a slice that grows would be copied, and
// take up to three times as much.
type collected struct {
	of     *output
	pieces [][]byte
}

// pieceSize is the size of a piece at most, in bytes.
const pieceSize = 256 << 10

func (o *outputs) begin() *output {
	x := &output{all: o}
	x.stdout.of, x.stderr.of = x, x
	return x
}

// Write keeps what there is room for, and drops the rest: the command must neither block
// nor see an error.
func (c *collected) Write(p []byte) (int, error) {
	o := c.of
	o.mu.Lock()
	defer o.mu.Unlock()
	keep := o.reserve(len(p))
	for rest := p[:keep]; len(rest) > 0; {
		last := len(c.pieces) - 1
		if last < 0 || len(c.pieces[last]) == cap(c.pieces[last]) {
			// As much as there is already: short output takes little.
			c.pieces = append(c.pieces, make([]byte, 0, min(max(len(rest), o.kept), pieceSize)))
			last++
		}
		piece := &c.pieces[last]
		n := min(len(rest), cap(*piece)-len(*piece))
		*piece = append(*piece, rest[:n]...)
		rest = rest[n:]
	}
	return len(p), nil
}

// reserve returns how much of n more bytes there is room for.
func (o *output) reserve(n int) int {
	if o.full {
		return 0
	}
	keep := min(n, maxOutput-o.kept)
	if beyond := o.kept + keep - ownOutput - o.borrowed; beyond > 0 {
		got := o.all.borrow(beyond)
		o.borrowed += got
		keep -= beyond - got
	}
	o.kept += keep
	o.full = keep < n
	return keep
}

// end gives back what the command held, whoever still writes.
func (o *output) end() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.full = true
	o.all.giveBack(o.borrowed)
	o.borrowed = 0
	o.stdout.pieces, o.stderr.pieces = nil, nil
}

// bytes returns what was collected. Nothing may be written any more.
func (c *collected) bytes() []byte {
	c.of.mu.Lock()
	defer c.of.mu.Unlock()
	if len(c.pieces) == 1 {
		return c.pieces[0]
	}
	return bytes.Join(c.pieces, nil)
}

func (o *outputs) borrow(n int) int {
	o.mu.Lock()
	defer o.mu.Unlock()
	n = min(n, maxAllOutput-o.used)
	o.used += n
	return n
}

func (o *outputs) giveBack(n int) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.used -= n
}
