package executors

import (
	"cmp"
	"context"
	"slices"
	"sync"

	"github.com/stele-runtime/stele/actors/id"
	"github.com/stele-runtime/stele/actors/image"
	"github.com/stele-runtime/stele/executors/registry"
)

// Pulls knows how far the pulls under way are. What is worth remembering of them
// goes to the log; how many bytes of a layer have come by now is not.
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
	// Layers are those that have begun to come, by digest.
	Layers []LayerTransfer
}

// LayerTransfer is how far a layer is, in bytes; Size is -1 if nobody knows it.
type LayerTransfer struct {
	Digest       string
	Offset, Size int64
}

// NewPulls returns the list of no pulls.
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

// transferred returns how many bytes of a pull under way have come.
func (p *Pulls) transferred(pull id.Pull) (bytes uint64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if t := p.running[pull]; t != nil {
		for _, l := range t.Layers {
			bytes += uint64(max(l.Offset, 0))
		}
	}
	return bytes
}

func (p *Pulls) begin(f image.FetchImage) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.running[f.Pull] = &Transfer{Ref: f.Ref, Pull: f.Pull}
}

func (p *Pulls) end(pull id.Pull) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.running, pull)
}

// note takes in how far a layer is.
func (p *Pulls) note(pull id.Pull, now LayerTransfer) {
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

// maxNews is how many news of a pull may wait for the log. An image has fewer
// layers.
const maxNews = 4096

// newsOf returns what a pull tells its news to, and what waits until they are in the
// log. It never blocks the pull.
func (x *Executor) newsOf(ctx context.Context, f image.FetchImage) (tell func(registry.Event), told func()) {
	news := make(chan image.Command, maxNews)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for c := range news {
			if err := x.ImageNews(ctx, f.Ref, c); err != nil && ctx.Err() == nil {
				x.Logger.Warn("news of a pull not recorded", "image", f.Ref, "error", err)
			}
		}
	}()
	put := func(c image.Command) {
		select {
		case news <- c:
		default:
			x.Logger.Warn("too many news of a pull", "image", f.Ref)
		}
	}
	tell = func(e registry.Event) {
		switch e := e.(type) {
		case registry.Resolved:
			put(image.NoteResolved{Pull: f.Pull, Resolved: image.Resolved{
				Name: e.Name, Digest: e.Digest, Manifest: e.Manifest, Layers: e.Layers, Bytes: e.Bytes,
			}})
		case registry.LayerProgress:
			x.Pulls.note(f.Pull, LayerTransfer{Digest: e.Digest, Offset: e.Offset, Size: e.Size})
		case registry.LayerDone:
			x.Pulls.note(f.Pull, LayerTransfer{Digest: e.Digest, Offset: e.Bytes, Size: e.Bytes})
			put(image.NoteLayer{Pull: f.Pull, Layer: image.Layer{Digest: e.Digest, Bytes: uint64(max(e.Bytes, 0)), Present: e.Present}})
		}
	}
	return tell, func() {
		close(news)
		<-ended
	}
}
