package syscalls

import (
	"cmp"
	"embed"
	"fmt"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
)

// Arch is the convention by which a call was made, as the kernel's audit has it: AUDIT_ARCH_* of
// linux/audit.h.
type Arch uint32

// The conventions whose names are known.
const (
	AMD64 Arch = 0xc000003e
	I386  Arch = 0x40000003
	ARM64 Arch = 0xc00000b7
	ARM   Arch = 0x40000028
)

// x32 marks, on AMD64, calls of programs with short pointers.
const x32 = 0x40000000

// Call is a system call.
type Call struct {
	Arch   Arch
	Number int32
}

//go:embed tables
var files embed.FS

// table has a convention's calls.
type table struct {
	names   map[int32]string
	numbers map[string]int32
}

// tables are read once, by those who need them.
var tables = sync.OnceValue(func() map[Arch]table {
	all := map[Arch]table{}
	for arch, name := range map[Arch]string{AMD64: "amd64", I386: "386", ARM64: "arm64", ARM: "arm"} {
		text, err := files.ReadFile("tables/" + name + ".txt")
		if err != nil {
			panic(err) // it is part of the program
		}
		all[arch] = parse(string(text))
	}
	return all
})

// parse reads lines of a number and a name.
func parse(text string) table {
	t := table{map[int32]string{}, map[string]int32{}}
	for line := range strings.Lines(text) {
		number, name, _ := strings.Cut(strings.TrimSpace(line), " ")
		n, err := strconv.ParseInt(number, 10, 32)
		if err != nil || name == "" {
			panic(fmt.Sprintf("the table of system calls has the line %q", line)) // it is part of the program
		}
		t.names[int32(n)], t.numbers[name] = name, int32(n)
	}
	return t
}

// native are the conventions of this machine's programs, its own first.
func native() []Arch {
	switch runtime.GOARCH {
	case "amd64":
		return []Arch{AMD64, I386}
	case "arm64":
		return []Arch{ARM64, ARM}
	}
	return nil
}

// Name names a call; one without a known name by its number.
func Name(c Call) string {
	number := c.Number
	if c.Arch == AMD64 {
		number &^= x32
	}
	if name, is := tables()[c.Arch].names[number]; is {
		return name
	}
	return "syscall " + strconv.Itoa(int(c.Number))
}

// Named returns the calls of this machine's programs that have a name.
func Named(name string) []Call {
	var calls []Call
	for _, arch := range native() {
		if number, is := tables()[arch].numbers[name]; is {
			calls = append(calls, Call{arch, number})
		}
	}
	return calls
}

// UpTo returns the names of this machine's own calls, in the order of their numbers, up to the
// last of those given; none if it knows none of them.
func UpTo(names []string) []string {
	own := native()
	if len(own) == 0 {
		return nil
	}
	t := tables()[own[0]]
	last := int32(-1)
	for _, name := range names {
		if number, is := t.numbers[name]; is {
			last = max(last, number)
		}
	}
	var all []string
	for name, number := range t.numbers {
		if number <= last {
			all = append(all, name)
		}
	}
	slices.SortFunc(all, func(a, b string) int { return cmp.Compare(t.numbers[a], t.numbers[b]) })
	return all
}
