package syscalls

import (
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write the tables anew")

var constant = regexp.MustCompile(`(?m)^\tSYS_(\w+) += (\d+)$`)

// The tables are those of the golang.org/x/sys that go.mod has.
func TestTables(t *testing.T) {
	out, err := exec.CommandContext(t.Context(), "go", "list", "-m", "-f", "{{.Dir}}", "golang.org/x/sys").Output()
	if err != nil {
		t.Fatal(err)
	}
	for _, arch := range []string{"amd64", "386", "arm64", "arm"} {
		source, err := os.ReadFile(filepath.Join(strings.TrimSpace(string(out)), "unix", "zsysnum_linux_"+arch+".go"))
		if err != nil {
			t.Fatal(err)
		}
		var text strings.Builder
		for _, m := range constant.FindAllStringSubmatch(string(source), -1) {
			// A mark where a machine's own calls begin.
			if m[1] != "ARCH_SPECIFIC_SYSCALL" {
				fmt.Fprintf(&text, "%s %s\n", m[2], strings.ToLower(m[1]))
			}
		}
		path := filepath.Join("tables", arch+".txt")
		if *update {
			if err := os.WriteFile(path, []byte(text.String()), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		if have, err := os.ReadFile(path); err != nil || string(have) != text.String() {
			t.Errorf("%s is not what golang.org/x/sys has (%v): go test ./executors/syscalls -update", path, err)
		}
	}
}

func TestNames(t *testing.T) {
	for call, want := range map[Call]string{
		{AMD64, 168}: "swapoff", {I386, 115}: "swapoff", {ARM64, 225}: "swapoff", {ARM, 115}: "swapoff",
		{AMD64, 435}: "clone3", {AMD64, x32 | 168}: "swapoff",
		{AMD64, 99999}: "syscall 99999", {AMD64, -1}: "syscall -1", {Arch(7), 0}: "syscall 0",
	} {
		if got := Name(call); got != want {
			t.Errorf("%+v is named %q, want %q", call, got, want)
		}
	}
	for _, call := range Named("swapoff") {
		if Name(call) != "swapoff" {
			t.Errorf("swapoff is %+v, whose name is %s", call, Name(call))
		}
	}
	if got := Named("none such"); got != nil {
		t.Errorf("a call that does not exist is %v", got)
	}
}

func TestUpTo(t *testing.T) {
	got := UpTo([]string{"read", "close", "no such call"})
	if len(native()) == 0 {
		t.Skip("the names of this machine's calls are not known")
	}
	if len(got) == 0 || Named(got[len(got)-1])[0].Number > max(Named("read")[0].Number, Named("close")[0].Number) {
		t.Errorf("the calls up to close are %v", got)
	}
	if got := UpTo([]string{"no such call"}); got != nil {
		t.Errorf("the calls up to none are %v", got)
	}
}
