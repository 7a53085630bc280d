package server

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// The monitor's own log never exceeds its limit, and has what was written last.
func TestOwnLog(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	log := OwnLog(file, 100)
	for i := range 50 {
		line := fmt.Sprintf("line %d of this log\n", i)
		if _, err := log.Write([]byte(line)); err != nil {
			t.Fatal(err)
		}
		data, err := os.ReadFile(path)
		if err != nil || len(data) > 100 || !strings.HasSuffix(string(data), line) {
			t.Fatalf("after line %d the log is %q, %v", i, data, err)
		}
	}
}
