package confine

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"maps"
	"os"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/moby/profiles/seccomp"
	specs "github.com/opencontainers/runtime-spec/specs-go"
	"github.com/opencontainers/runtime-spec/specs-go/features"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
)

var update = flag.Bool("update", false, "write testdata anew")

const notifyFile = "testdata/notify.txt"

// testdata/notify.txt has profiles before and after, and the answers.
func TestNotify(t *testing.T) {
	if runtime.GOARCH != "amd64" {
		t.Skip("the numbers of system calls, which decide how far a default reaches, are those of amd64")
	}
	var told bytes.Buffer
	for _, tc := range []struct{ name, profile string }{
		{"a list of what is forbidden", `{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[
			{"names":["chmod","fchmod"],"action":"SCMP_ACT_ERRNO"},
			{"names":["swapoff"],"action":"SCMP_ACT_ERRNO","errnoRet":13},
			{"names":["socket"],"action":"SCMP_ACT_ERRNO","errnoRet":22,"args":[{"index":0,"value":16,"op":"SCMP_CMP_EQ"}]}]}`},
		{"a list of what is allowed: the default becomes a rule, up to the last call that the profile knows",
			`{"defaultAction":"SCMP_ACT_ERRNO","defaultErrnoRet":13,"syscalls":[{"names":["read","write","open","lseek"],"action":"SCMP_ACT_ALLOW"}]}`},
		{"a default that hides calls stays", `{"defaultAction":"SCMP_ACT_ERRNO","defaultErrnoRet":38,"syscalls":[
			{"names":["read"],"action":"SCMP_ACT_ALLOW"},{"names":["swapoff"],"action":"SCMP_ACT_ERRNO"}]}`},
		{"rules that hide, kill and log stay", `{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[
			{"names":["clone3"],"action":"SCMP_ACT_ERRNO","errnoRet":38},{"names":["reboot"],"action":"SCMP_ACT_KILL_PROCESS"},
			{"names":["chmod"],"action":"SCMP_ACT_LOG"},{"names":["swapon"],"action":"SCMP_ACT_ERRNO"}]}`},
		{"write is not reported", `{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[
			{"names":["write","chmod"],"action":"SCMP_ACT_ERRNO"},{"names":["write"],"action":"SCMP_ACT_ERRNO","args":[{"index":0,"value":9,"op":"SCMP_CMP_EQ"}]}]}`},
		{"of two answers the first counts, and none is larger than the kernel has them", `{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[
			{"names":["chmod"],"action":"SCMP_ACT_ERRNO","errnoRet":13,"args":[{"index":1,"value":511,"op":"SCMP_CMP_EQ"}]},
			{"names":["chmod"],"action":"SCMP_ACT_ERRNO","errnoRet":1,"args":[{"index":1,"value":448,"op":"SCMP_CMP_EQ"}]},
			{"names":["swapoff"],"action":"SCMP_ACT_ERRNO","errnoRet":99999}]}`},
		{"nothing is forbidden", `{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["reboot"],"action":"SCMP_ACT_KILL"}]}`},
	} {
		var profile specs.LinuxSeccomp
		if err := json.Unmarshal([]byte(tc.profile), &profile); err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&told, "# %s\n%s", tc.name, show(&profile))
		errnos, err := (&Notice{}).Notify(&profile, "/run/socket", true)
		if err != nil {
			t.Errorf("%s: %v", tc.name, err)
		}
		fmt.Fprintf(&told, "becomes, with the answers %v\n%s\n", errnos, show(&profile))
	}
	if *update {
		if err := os.WriteFile(notifyFile, told.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if want, err := os.ReadFile(notifyFile); err != nil || !bytes.Equal(want, told.Bytes()) {
		t.Errorf("%v; %s differs from:\n%s", err, notifyFile, &told)
	}
}

// show prints a profile, a rule a line.
func show(p *specs.LinuxSeccomp) string {
	var s strings.Builder
	number := func(n *uint) string {
		if n == nil {
			return ""
		}
		return fmt.Sprint(" ", *n)
	}
	fmt.Fprintf(&s, "\tdefault %s%s", p.DefaultAction, number(p.DefaultErrnoRet))
	if p.ListenerPath != "" {
		fmt.Fprintf(&s, ", to %s", p.ListenerPath)
	}
	s.WriteString("\n")
	for _, rule := range p.Syscalls {
		fmt.Fprintf(&s, "\t%s%s: %s", rule.Action, number(rule.ErrnoRet), strings.Join(rule.Names, " "))
		for _, arg := range rule.Args {
			fmt.Fprintf(&s, " if %d %s %d", arg.Index, arg.Op, arg.Value)
		}
		s.WriteString("\n")
	}
	return s.String()
}

// What containers have by default reports what it forbids, and lets the C library find out that
// there is no clone3.
func TestNotifyDefault(t *testing.T) {
	profile, err := seccomp.GetDefaultProfile(&specs.Spec{Process: &specs.Process{Capabilities: &specs.LinuxCapabilities{}}})
	if err != nil {
		t.Fatal(err)
	}
	errnos, err := (&Notice{}).Notify(profile, "/run/socket", true)
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]bool{"swapoff": true, "mount": true, "keyctl": true, "clone3": false, "clone": false, "read": false, "write": false} {
		if got, is := errnos[name]; is != want || is && got != eperm {
			t.Errorf("%s is reported: %v, and answered %d", name, is, got)
		}
	}
	seen := map[string]specs.LinuxSeccompAction{}
	for _, rule := range profile.Syscalls {
		for _, name := range rule.Names {
			if before, is := seen[name]; is && (before == specs.ActNotify) != (rule.Action == specs.ActNotify) {
				t.Errorf("%s has rules with %s and %s", name, before, rule.Action)
			}
			seen[name] = rule.Action
		}
	}
	if got := slices.Sorted(maps.Keys(errnos)); len(got) < 50 || len(got) > 250 {
		t.Errorf("reported are %v", got)
	}
}

func TestNotifyRefused(t *testing.T) {
	forbids := func() *specs.LinuxSeccomp {
		return &specs.LinuxSeccomp{DefaultAction: specs.ActAllow, Syscalls: []specs.LinuxSyscall{{Names: []string{"chmod"}, Action: specs.ActErrno}}}
	}
	notice := Notice{Annotation: notifierKeys()[0]}
	own := forbids()
	own.ListenerPath = "/run/agent"
	if _, err := notice.Notify(own, "/run/socket", true); err == nil || !strings.Contains(err.Error(), "/run/agent") || !strings.Contains(err.Error(), notice.Annotation) {
		t.Errorf("a profile with a listener of its own: %v", err)
	}
	can := func(actions ...string) *features.Features {
		return &features.Features{Linux: &features.Linux{Seccomp: &features.Seccomp{Actions: actions}}}
	}
	if _, err := notice.Notify(forbids(), "/run/socket", CanNotify(can("SCMP_ACT_ERRNO"))); err == nil || !strings.Contains(err.Error(), "SCMP_ACT_NOTIFY") {
		t.Errorf("a runtime that can't report: %v", err)
	}
	for name, f := range map[string]*features.Features{"says nothing": nil, "can": can("SCMP_ACT_NOTIFY")} {
		if _, err := notice.Notify(forbids(), "/run/socket", CanNotify(f)); err != nil {
			t.Errorf("a runtime that %s: %v", name, err)
		}
	}
	if errnos, err := notice.Notify(nil, "/run/socket", false); errnos != nil || err != nil {
		t.Errorf("no profile: %v, %v", errnos, err)
	}
}

func TestAskedNotice(t *testing.T) {
	const older, newer = "io.kubernetes.cri-o.seccompNotifierAction", "seccomp-notifier-action.crio.io"
	both := []string{older, newer}
	for name, tc := range map[string]struct {
		annotations map[string]string
		allowed     []string
		want        *Notice
	}{
		"stop":                        {map[string]string{older: "stop"}, both, &Notice{older, true}},
		"the newer key":               {map[string]string{newer: "stop"}, both, &Notice{newer, true}},
		"the newer key goes before":   {map[string]string{newer: "", older: "stop"}, both, &Notice{newer, false}},
		"report":                      {map[string]string{older: "log"}, both, &Notice{older, false}},
		"another case":                {map[string]string{older: "Stop"}, both, &Notice{older, false}},
		"nothing":                     {map[string]string{older: ""}, both, &Notice{older, false}},
		"not asked":                   {nil, both, nil},
		"not allowed":                 {map[string]string{older: "stop"}, []string{newer}, nil},
		"CVE-2023-6476: a longer key": {map[string]string{older + "x": "stop"}, both, nil},
	} {
		got := AskedNotice(&cri.PodSandboxConfig{Annotations: tc.annotations}, tc.allowed)
		if (got == nil) != (tc.want == nil) || got != nil && *got != *tc.want {
			t.Errorf("%s: %v, want %v", name, got, tc.want)
		}
	}
}
