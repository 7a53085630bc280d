package handover

import (
	"cmp"
	"slices"
	"sync"

	"github.com/stele-runtime/stele/actors/id"
)

// Pulls knows how far the pulls under way are. What is worth remembering of them
// goes to the log; how many bytes of a layer have arrived by now does not.
type Pulls struct {
	mu      sync.Mutex
	running map[id.Pull]*Transfer
	// fetched counts the bytes of all pulls since the daemon's start.
	fetched uint64
}

// Transfer is how far a pull is.
type Transfer struct {
	Ref  string
	Pull id.Pull
	// Layers are those whose transfer has begun, by digest.
	Layers []LayerTransfer
}

// LayerTransfer is how far a layer is, in bytes; Size is -1 if nobody knows it.
type LayerTransfer struct {
	Digest       string
	Offset, Size int64
}

// NewPulls returns an empty list.
func NewPulls() *Pulls { return &Pulls{running: map[id.Pull]*Transfer{}} }

// Transfers returns how far the pulls under way are, by reference.
func (p *Pulls) Transfers() []Transfer {
	p.mu.Lock()
	defer p.mu.Unlock()
	var all []Transfer
	for _, t := range p.running {
		all = append(all, Transfer{Ref: t.Ref, Pull: t.Pull, Layers: slices.Clone(t.Layers)})
	}
	slices.SortFunc(all, func(a, b Transfer) int { return cmp.Or(cmp.Compare(a.Ref, b.Ref), cmp.Compare(a.Pull, b.Pull)) })
	return all
}

// Fetched returns how many bytes the pulls of this daemon have transferred.
func (p *Pulls) Fetched() uint64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.fetched
}

// Transferred returns how many bytes of a pull under way have arrived.
func (p *Pulls) Transferred(pull id.Pull) (bytes uint64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if t := p.running[pull]; t != nil {
		for _, l := range t.Layers {
			bytes += uint64(max(l.Offset, 0))
		}
	}
	return bytes
}

// Begin lists a pull until End.
func (p *Pulls) Begin(ref string, pull id.Pull) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.running[pull] = &Transfer{Ref: ref, Pull: pull}
}

// End takes a pull off the list.
func (p *Pulls) End(pull id.Pull) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.running, pull)
}

// Note takes in how far a layer of a pull is.
func (p *Pulls) Note(pull id.Pull, now LayerTransfer) {
	p.mu.Lock()
	defer p.mu.Unlock()
	t := p.running[pull]
	if t == nil {
		return
	}
	i := slices.IndexFunc(t.Layers, func(l LayerTransfer) bool { return l.Digest == now.Digest })
	if i < 0 {
		t.Layers = append(t.Layers, now)
		p.fetched += uint64(max(now.Offset, 0))
		return
	}
	p.fetched += uint64(max(now.Offset-t.Layers[i].Offset, 0))
	t.Layers[i] = now
}
