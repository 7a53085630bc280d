package daemon

import (
	"context"
	"log/slog"
	"time"

	"github.com/stele-runtime/stele/executors/lean"
)

const (
	// GCPercent makes the heap grow by half before it is collected. A daemon that makes
	// little garbage is better off with less memory; one that rests, with even less.
	GCPercent, restPercent = 50, 10
	// leanEvery is how often Lean looks how large the process is. leanStart is how long after the
	// start what that needed is given back: who asks at once does not wait for it. leanFirst is how
	// long after that the daemon's tasks have begun.
	leanEvery = 5 * time.Second
	leanStart = 500 * time.Millisecond
	leanFirst = 10 * time.Second
	// leanSaved is how long a checkpoint takes that was begun when models were packed, and with
	// which the log lets go of what it has.
	leanSaved = time.Second
	// After leanAgain looks Lean gives back what the process has grown by, even if that is little,
	// or it was as large before, and after leanAnyway in any case. leanDone looks after the process
	// had grown its actors have been let go, which alone does not make it smaller.
	leanAgain, leanDone, leanAnyway = 6, 9, 120
)

// Lean keeps the process small.
type Lean struct {
	Garbage *Garbage
	// Pack has what lives long share few pieces of memory.
	Pack func()
	// Log is the event log's file.
	Log    lean.Mapped
	Logger *slog.Logger
}

// Follow gives back memory soon after the start, whenever the process has grown and has come to
// rest, and now and then.
func (l *Lean) Follow(ctx context.Context) {
	if !pause(ctx, leanStart) {
		return
	}
	l.check(lean.LetGo(l.Log))
	if !pause(ctx, leanFirst) {
		return
	}
	l.check(lean.Recache())
	if !l.letGo(ctx) {
		return
	}
	g := growth{worked: true} // the start
	for pause(ctx, leanEvery) {
		now, err := lean.Resident()
		if err != nil {
			l.Logger.Warn("size of the process not known", "error", err)
			continue
		}
		percent := restPercent
		switch g.look(now) {
		case keep:
		case work:
			percent = GCPercent
		case unmap:
			l.check(lean.LetGoOfFiles(l.Log))
		case letGo:
			l.letGo(ctx)
		}
		l.Garbage.set(percent)
	}
}

// letGo gives back everything that is not needed. It returns false if ctx is done.
func (l *Lean) letGo(ctx context.Context) bool {
	l.Pack()
	if !pause(ctx, leanSaved) {
		return false
	}
	l.check(lean.LetGo(l.Log))
	return true
}

func (l *Lean) check(err error) {
	if err != nil {
		l.Logger.Warn("unused memory is kept", "error", err)
	}
}

// act is what Lean does after a look.
type act uint8

const (
	keep act = iota
	// work: the process has much to do, and collects garbage less often.
	work
	// unmap: pages of files are given back.
	unmap
	// letGo: all is given back that is not needed.
	letGo
)

// growth decides from the sizes of a process what Lean does.
type growth struct {
	// looks counts those since memory was given back. last is the size of the process's own
	// at the last one, ordinary at the first, and peak when memory was given back.
	looks, last, ordinary, peak int
	// worked: memory was given back because the process had grown, and not since.
	worked bool
	// mapped counts the looks since pages of files were given back, and fewest is the least
	// that the process had of them at the first look after that.
	mapped, fewest int
}

// look says what to do. Memory is given back once the process has grown by a sixteenth and no
// longer grows: while much is done, what was given back would be taken again. What a process
// takes again and again is left to it for longer, and so is what it has grown by little. But pages
// of files cost next to nothing to map again.
func (g *growth) look(now lean.Size) act {
	g.looks++
	g.mapped++
	if g.looks == 1 {
		g.ordinary, g.last = now.Own, now.Own
	}
	if g.mapped == 1 && (g.fewest == 0 || now.Files < g.fewest) {
		g.fewest = now.Files
	}
	rests, works := now.Own <= g.last+g.last/64, now.Own > g.last+g.last/16
	g.last = now.Own
	grown := now.Own > g.ordinary+g.ordinary/16 && now.Own > g.peak+g.peak/16 ||
		now.Own > g.ordinary+g.ordinary/64 && g.looks >= leanAgain
	switch {
	case grown && rests || g.looks >= leanAnyway || g.worked && rests && g.looks >= leanDone:
		*g = growth{peak: now.Own, fewest: g.fewest, worked: grown}
		return letGo
	case works:
		return work
	case g.mapped > 1 && now.Files > g.fewest+g.fewest/8:
		g.mapped = 0
		return unmap
	}
	return keep
}
