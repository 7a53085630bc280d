package cgroup

import (
	"os"
	"path/filepath"
	"testing"
)

func TestMemoryOf(t *testing.T) {
	for name, test := range map[string]struct {
		counter string
		files   map[string]string
		want    Memory
	}{
		"v1":            {"memory.oom_control", map[string]string{"memory.max_usage_in_bytes": "8192\n", "memory.limit_in_bytes": "16384\n"}, Memory{8192, 16384}},
		"v1, no limit":  {"memory.oom_control", map[string]string{"memory.max_usage_in_bytes": "8192\n", "memory.limit_in_bytes": "9223372036854771712\n"}, Memory{Peak: 8192}},
		"v2":            {"memory.events", map[string]string{"memory.peak": "8192\n", "memory.max": "16384\n"}, Memory{8192, 16384}},
		"v2, no limit":  {"memory.events", map[string]string{"memory.peak": "8192\n", "memory.max": "max\n"}, Memory{Peak: 8192}},
		"v2, no peak":   {"memory.events", map[string]string{"memory.max": "16384\n"}, Memory{Limit: 16384}},
		"gone":          {"memory.events", nil, Memory{}},
		"not a number":  {"memory.events", map[string]string{"memory.peak": "x\n", "memory.max": "-1\n"}, Memory{}},
		"other's files": {"memory.events", map[string]string{"memory.max_usage_in_bytes": "8192\n"}, Memory{}},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			for file, text := range test.files {
				if err := os.WriteFile(filepath.Join(dir, file), []byte(text), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			if got := MemoryOf(filepath.Join(dir, test.counter)); got != test.want {
				t.Errorf("got %+v, want %+v", got, test.want)
			}
		})
	}
	if got := MemoryOf(""); got != (Memory{}) {
		t.Errorf("of no file: %+v", got)
	}
}
