package daemon

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"os"
	"runtime/debug"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// GCPercent makes the heap grow by half before it is collected. A daemon that makes
	// little garbage is better off with less memory.
	GCPercent = 50
	// leanEvery is how often Lean looks whether the process has grown. After leanAnyway looks
	// it gives back memory in any case.
	leanEvery  = time.Minute
	leanAnyway = 10
	// leanFirst is how long after the start its tasks have begun.
	leanFirst = 10 * time.Second
)

// Lean keeps the process small.
type Lean struct {
	Logger *slog.Logger
	// ordinary is what the process had a while after the last LetGo, in pages; 0 if that is
	// not known yet.
	ordinary int
}

// Follow gives back memory whenever the process has grown by an eighth, and now and then.
func (l *Lean) Follow(ctx context.Context) {
	l.letGo()
	if pause(ctx, leanFirst) {
		l.letGo()
	}
	for looks := 1; pause(ctx, leanEvery); looks++ {
		now, err := resident()
		switch {
		case err != nil:
			l.Logger.Warn("size of the process not known", "error", err)
		case looks == leanAnyway || l.ordinary > 0 && now > l.ordinary+l.ordinary/8:
			l.letGo()
			looks = 0
		case l.ordinary == 0:
			l.ordinary = now
		}
	}
}

func (l *Lean) letGo() {
	l.ordinary = 0
	if err := LetGo(); err != nil {
		l.Logger.Warn("unused memory is kept", "error", err)
	}
}

// resident is how many pages of memory the process has.
func resident() (n int, err error) {
	b, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		return 0, err
	}
	var all int
	if _, err := fmt.Sscan(string(b), &all, &n); err != nil {
		return 0, fmt.Errorf("/proc/self/statm is %q: %w", b, err)
	}
	return n, nil
}

// LetGo gives back the memory that only the past needed: garbage, those pages of the program
// that ran once, and those of the event log that were read once. Most of a program this large
// runs at its start or with a pull, and as long as nobody else wants memory, the kernel keeps
// such pages mapped. What is needed again is mapped again from the page cache.
func LetGo() error {
	debug.FreeOSMemory()
	program, err := os.Readlink("/proc/self/exe")
	if err != nil {
		return err
	}
	mappings, err := os.ReadFile("/proc/self/smaps")
	if err != nil {
		return err
	}
	for _, m := range untouched(mappings, program) {
		// A huge page would bring back 2 MiB for each page that is needed.
		_, _, _ = unix.Syscall(unix.SYS_MADVISE, m.start, m.end-m.start, unix.MADV_NOHUGEPAGE)
		if _, _, errno := unix.Syscall(unix.SYS_MADVISE, m.start, m.end-m.start, unix.MADV_DONTNEED); errno != 0 && errno != unix.ENOMEM { // unmapped meanwhile
			return fmt.Errorf("give back the pages from %#x: %w", m.start, errno)
		}
	}
	return nil
}

// pages are a range of addresses.
type pages struct{ start, end uintptr }

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
		if _, err := fmt.Sscanf(place, "%x-%x", &at.start, &at.end); err != nil {
			at = pages{}
		}
	}
	return all
}
