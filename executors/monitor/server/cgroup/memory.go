package cgroup

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// Memory is what a cgroup used of memory, in bytes.
type Memory struct {
	// Peak is the most that it ever used; 0 if unknown. Linux counts it on v2 since 5.19.
	Peak uint64
	// Limit is what it may use; 0 if unknown, or if there is none.
	Limit uint64
}

// noLimit and above are no limits: v1 shows the largest number of pages, in bytes.
const noLimit = 1 << 62

// MemoryOf returns what a container used of memory, by the file that counts its OOM kills.
// Nothing is known any more once the cgroup is removed.
func MemoryOf(counter string) Memory {
	peak, limit := "memory.max_usage_in_bytes", "memory.limit_in_bytes"
	switch filepath.Base(counter) {
	case ".":
		return Memory{}
	case eventsV2:
		peak, limit = "memory.peak", "memory.max"
	}
	dir := filepath.Dir(counter)
	return Memory{Peak: readBytes(filepath.Join(dir, peak)), Limit: readBytes(filepath.Join(dir, limit))}
}

// readBytes reads a number of bytes; 0 if there is none, or no limit.
func readBytes(file string) uint64 {
	text, err := os.ReadFile(file)
	if err != nil {
		return 0
	}
	n, err := strconv.ParseUint(strings.TrimSpace(string(text)), 10, 64)
	if err != nil || n >= noLimit {
		return 0
	}
	return n
}
