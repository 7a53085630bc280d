package daemon

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"runtime"
	"runtime/debug"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// GCPercent makes the heap grow by half before it is collected. A daemon that makes
	// little garbage is better off with less memory; one that rests, with even less.
	GCPercent, restPercent = 50, 20
	// leanEvery is how often Lean looks how large the process is. leanFirst is how long after
	// the start its tasks have begun.
	leanEvery = 5 * time.Second
	leanFirst = 10 * time.Second
	// After leanAgain looks Lean gives back what the process has grown by, even if it was as
	// large before, and after leanAnyway in any case.
	leanAgain, leanAnyway = 12, 120
)

// Lean keeps the process small.
type Lean struct {
	Garbage *Garbage
	Logger  *slog.Logger
}

// Follow gives back memory whenever the process has grown and has come to rest, and now and then.
func (l *Lean) Follow(ctx context.Context) {
	l.check(LetGo())
	if !pause(ctx, leanFirst) {
		return
	}
	l.check(recache())
	l.check(LetGo())
	var g growth
	for pause(ctx, leanEvery) {
		now, err := resident()
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
			l.check(letGoOfFiles())
		case letGo:
			l.check(LetGo())
		}
		l.Garbage.set(percent)
	}
}

func (l *Lean) check(err error) {
	if err != nil {
		l.Logger.Warn("unused memory is kept", "error", err)
	}
}

// size is what a process has in memory, in pages: its own, and those of files.
type size struct{ own, files int }

// resident is the size of this process.
func resident() (now size, err error) {
	b, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		return size{}, err
	}
	var mapped, all int
	if _, err := fmt.Sscan(string(b), &mapped, &all, &now.files); err != nil {
		return size{}, fmt.Errorf("/proc/self/statm is %q: %w", b, err)
	}
	now.own = all - now.files
	return now, nil
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
	// mapped counts the looks since pages of files were given back, and fewest is the least
	// that the process had of them at the first look after that.
	mapped, fewest int
}

// look says what to do. Memory is given back once the process has grown by a sixteenth and no
// longer grows: while much is done, what was given back would be taken again. What a process
// takes again and again is left to it for longer. But pages of files cost next to nothing to
// map again.
func (g *growth) look(now size) act {
	g.looks++
	g.mapped++
	if g.looks == 1 {
		g.ordinary, g.last = now.own, now.own
	}
	if g.mapped == 1 && (g.fewest == 0 || now.files < g.fewest) {
		g.fewest = now.files
	}
	rests, works := now.own <= g.last+g.last/64, now.own > g.last+g.last/16
	g.last = now.own
	grown := now.own > g.ordinary+g.ordinary/16 && (g.looks >= leanAgain || now.own > g.peak+g.peak/16)
	switch {
	case grown && rests || g.looks >= leanAnyway:
		*g = growth{peak: now.own, fewest: g.fewest}
		return letGo
	case works:
		return work
	case g.mapped > 1 && now.files > g.fewest+g.fewest/8:
		g.mapped = 0
		return unmap
	}
	return keep
}

// LetGo gives back the memory that only the past needed: garbage, and pages of files.
func LetGo() error {
	runtime.GC() // pools give up what they keep after two collections
	debug.FreeOSMemory()
	return letGoOfFiles()
}

// letGoOfFiles gives back those pages of the program that ran once, and those of the event log
// that were read once. Most of a program this large runs at its start, with a pull or with a
// collection of garbage, and as long as nobody else wants memory, the kernel keeps such pages
// mapped. What is needed again is mapped again from the page cache.
func letGoOfFiles() error {
	all, err := ownFiles()
	if err != nil {
		return err
	}
	for _, m := range all {
		// A huge page would bring back 2 MiB for each page that is needed.
		_ = m.advise(unix.MADV_NOHUGEPAGE)
		if err := m.advise(unix.MADV_DONTNEED); err != nil && !errors.Is(err, unix.ENOMEM) { // unmapped meanwhile
			return fmt.Errorf("give back the pages from %#x: %w", m.start, err)
		}
	}
	return nil
}

// recache has the kernel read the program again, as it is needed. The kernel may have it in large
// blocks, as a linker or an installer wrote it, and maps many pages at once when one of them is
// needed: up to nine tenths of what is only read of the program, instead of half of it. What is
// read anew comes in small blocks. A program that others run as well stays.
func recache() error {
	all, err := ownFiles()
	if err != nil {
		return err
	}
	for _, m := range all {
		if m.program {
			_ = m.advise(unix.MADV_PAGEOUT) // unknown before Linux 5.4
		}
	}
	return nil
}

// ownFiles are the mappings of this process that letGoOfFiles gives back.
func ownFiles() ([]pages, error) {
	program, err := os.Readlink("/proc/self/exe")
	if err != nil {
		return nil, err
	}
	mappings, err := os.ReadFile("/proc/self/smaps")
	if err != nil {
		return nil, err
	}
	return untouched(mappings, program), nil
}

// pages are a range of addresses.
type pages struct {
	start, end uintptr
	// program: it is a part of the program.
	program bool
}

func (p pages) advise(advice int) error {
	if _, _, errno := unix.Syscall(unix.SYS_MADVISE, p.start, p.end-p.start, uintptr(advice)); errno != 0 {
		return errno
	}
	return nil
}

// untouched returns the mappings in /proc/PID/smaps (see proc_pid_smaps(5)) of a program and
// of shared files that may not be written to and have not been, by a linker or a debugger
// either: of those the file has all.
func untouched(smaps []byte, program string) (all []pages) {
	var at pages
	for lines := bufio.NewScanner(bytes.NewReader(smaps)); lines.Scan(); {
		place, rest, _ := strings.Cut(lines.Text(), " ")
		if name, field := strings.CutSuffix(place, ":"); field {
			if name == "Anonymous" && strings.TrimSpace(rest) == "0 kB" && at != (pages{}) {
				all = append(all, at)
			}
			continue
		}
		at = pages{}
		mode, _, _ := strings.Cut(rest, " ")
		ofProgram := (mode == "r--p" || mode == "r-xp") && strings.HasSuffix(rest, " "+program)
		if !ofProgram && mode != "r--s" {
			continue
		}
		at.program = ofProgram
		if _, err := fmt.Sscanf(place, "%x-%x", &at.start, &at.end); err != nil {
			at = pages{}
		}
	}
	return all
}
