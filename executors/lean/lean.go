package lean

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"os"
	"runtime"
	"runtime/debug"

	"golang.org/x/sys/unix"
)

// Size is what a process has in memory, in pages: its own, and those of files.
type Size struct{ Own, Files int }

// Resident is the size of this process.
func Resident() (now Size, err error) {
	b, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		return Size{}, err
	}
	var mapped, all int
	if _, err := fmt.Sscan(string(b), &mapped, &all, &now.Files); err != nil {
		return Size{}, fmt.Errorf("/proc/self/statm is %q: %w", b, err)
	}
	now.Own = all - now.Files
	return now, nil
}

// Mapped calls use with the address at which a file is mapped. It stays mapped until use returns:
// something else might be there afterwards, and would lose what it has.
type Mapped func(use func(start uintptr) error) error

// LetGo gives back the memory that only the past needed: garbage, and pages of files.
func LetGo(file Mapped) error {
	runtime.GC() // pools give up what they keep after two collections
	debug.FreeOSMemory()
	return LetGoOfFiles(file)
}

// LetGoOfFiles gives back those pages of the program that ran once, and those of a file, if one is
// given, that were read once. Most of a program this large runs at its start, with a pull or with a
// collection of garbage, and as long as nobody else wants memory, the kernel keeps such pages
// mapped. What is needed again is mapped again from the page cache.
func LetGoOfFiles(file Mapped) error {
	if file == nil {
		return letGoOfFiles(0)
	}
	return file(letGoOfFiles)
}

// letGoOfFiles gives back pages of the program and of the file that is mapped from start.
func letGoOfFiles(start uintptr) error {
	all, err := ownFiles()
	if err != nil {
		return err
	}
	for _, m := range all {
		if !m.program && m.start != start {
			continue
		}
		// A huge page would bring back 2 MiB for each page that is needed.
		_ = m.advise(unix.MADV_NOHUGEPAGE)
		if err := m.advise(unix.MADV_DONTNEED); err != nil {
			return fmt.Errorf("give back the pages from %#x: %w", m.start, err)
		}
	}
	return nil
}

// Recache has the kernel read the program again, as it is needed. The kernel may have it in large
// blocks, as a linker or an installer wrote it, and maps many pages at once when one of them is
// needed: up to nine tenths of what is only read of the program, instead of half of it. What is
// read anew comes in small blocks. A program that others run as well stays.
func Recache() error {
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

// ownFiles are the mappings of this process that LetGoOfFiles may give back.
func ownFiles() ([]pages, error) {
	program, err := os.Readlink("/proc/self/exe")
	if err != nil {
		return nil, err
	}
	smaps, err := os.Open("/proc/self/smaps")
	if err != nil {
		return nil, err
	}
	defer smaps.Close()
	return untouched(smaps, program)
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
func untouched(smaps io.Reader, program string) (all []pages, err error) {
	var at pages
	lines := bufio.NewScanner(smaps)
	for lines.Scan() {
		place, rest, _ := bytes.Cut(lines.Bytes(), []byte(" "))
		if name, field := bytes.CutSuffix(place, []byte(":")); field {
			if string(name) == "Anonymous" && string(bytes.TrimSpace(rest)) == "0 kB" && at != (pages{}) {
				all = append(all, at)
			}
			continue
		}
		at = pages{}
		mode, _, _ := bytes.Cut(rest, []byte(" "))
		ofProgram := (string(mode) == "r--p" || string(mode) == "r-xp") && bytes.HasSuffix(rest, []byte(" "+program))
		if !ofProgram && string(mode) != "r--s" {
			continue
		}
		at.program = ofProgram
		if _, err := fmt.Sscanf(string(place), "%x-%x", &at.start, &at.end); err != nil {
			at = pages{}
		}
	}
	return all, lines.Err()
}
