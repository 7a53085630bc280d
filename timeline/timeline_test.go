package timeline

import (
	"bytes"
	"encoding/hex"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
	"pgregory.net/rapid"

	"github.com/stele-runtime/stele/actors/codec"
	"github.com/stele-runtime/stele/actors/container"
	"github.com/stele-runtime/stele/actors/fault"
	"github.com/stele-runtime/stele/actors/host"
	"github.com/stele-runtime/stele/actors/id"
	"github.com/stele-runtime/stele/actors/image"
	"github.com/stele-runtime/stele/actors/sandbox"
)

var update = flag.Bool("update", false, "write the golden files anew")

var epoch = time.Date(2026, 5, 4, 3, 0, 0, 0, time.UTC)

const (
	pod1 = "aaaa111111111111111111111111111111111111111111111111111111111111"
	pod2 = "aaaa222222222222222222222222222222222222222222222222222222222222"
	ctr  = "cccc"
)

// story writes a log: each event comes some time after the one before it.
type story struct {
	t        testing.TB
	now      time.Duration
	boot     string
	records  []Record
	versions map[string]uint64
	// command is what led to a pod's events.
	command string
}

func tell(t testing.TB) *story { return &story{t: t, boot: "boot-1", versions: map[string]uint64{}} }

func (s *story) add(after time.Duration, stream, command string, e codec.Encoded, err error) {
	if err != nil {
		s.t.Fatal(err)
	}
	s.now += after
	s.versions[stream]++
	s.records = append(s.records, Record{
		Sequence: uint64(len(s.records) + 1), Version: s.versions[stream], Stream: stream, Time: epoch.Add(s.now), SinceBoot: time.Hour + s.now,
		BootID: s.boot, Type: e.Type, Schema: e.Schema, Command: command, Payload: e.Payload,
	})
}

// at is the time of the event that comes that long after the last one.
func (s *story) at(after time.Duration) time.Time { return epoch.Add(s.now + after) }

func (s *story) pod(after time.Duration, pod string, e sandbox.Event) {
	encoded, err := codec.EncodeSandbox(e)
	command := s.command
	if _, is := e.(sandbox.SandboxRequested); is {
		command = "sandbox.Run"
	}
	s.add(after, "sandbox/"+pod, command, encoded, err)
}

func (s *story) ctr(after time.Duration, c string, e container.Event) {
	encoded, err := codec.EncodeContainer(e)
	s.add(after, "container/"+c, "", encoded, err)
}

func (s *story) image(after time.Duration, ref string, e image.Event) {
	encoded, err := codec.EncodeImage(e)
	s.add(after, "image/"+id.ImageKey(ref), "", encoded, err)
}

func (s *story) node(after time.Duration, e host.Event) {
	encoded, err := codec.EncodeHost(e)
	s.add(after, "node", "", encoded, err)
}

const ms = time.Millisecond

func (s *story) ready(pod, name string, attempt uint32) {
	s.pod(time.Second, pod, sandbox.SandboxRequested{ID: id.Sandbox(pod), Name: sandbox.Name{Name: name, Namespace: "shop", UID: "u", Attempt: attempt}, Handler: "runc", At: s.at(time.Second - ms)})
	s.pod(12*ms, pod, sandbox.SandboxPrepared{})
	s.pod(24*ms, pod, sandbox.NetworkAttached{IPs: []string{"10.86.0.2"}})
	s.pod(0, pod, sandbox.SandboxReady{})
}

func (s *story) create(pod, c string, attempt uint32) {
	config, err := proto.Marshal(&runtimeapi.ContainerConfig{
		Image: &runtimeapi.ImageSpec{Image: "sha256:1", UserSpecifiedImage: "lab.test/web:v1"},
		Linux: &runtimeapi.LinuxContainerConfig{Resources: &runtimeapi.LinuxContainerResources{MemoryLimitInBytes: 64 << 20}},
	})
	if err != nil {
		s.t.Fatal(err)
	}
	s.pod(10*ms, pod, sandbox.ContainerAdded{Container: id.Container(c)})
	s.ctr(ms, c, container.ContainerRequested{ID: id.Container(c), Sandbox: id.Sandbox(pod), Name: container.Name{Name: "web", Attempt: attempt}, Config: config, StopSignal: "SIGTERM", At: s.at(0)})
	s.ctr(20*ms, c, container.RootfsPrepared{})
	s.ctr(60*ms, c, container.ContainerCreated{Process: container.Process{PID: 4711, StartTime: 9}})
}

func (s *story) start(c string) {
	s.ctr(5*ms, c, container.StartRequested{At: s.at(5 * ms)})
	s.ctr(15*ms, c, container.ContainerStarted{At: s.at(15 * ms)})
}

func (s *story) remove(pod, c string) {
	s.ctr(time.Second, c, container.RemoveRequested{By: container.ByCall})
	s.ctr(10*ms, c, container.RuntimeDeleted{})
	s.ctr(10*ms, c, container.RootfsReleased{})
	s.ctr(0, c, container.ContainerRemoved{})
	s.pod(0, pod, sandbox.ContainerForgotten{Container: id.Container(c)})
}

// forbiddenCalls: a container is killed for its system calls.
func (s *story) forbiddenCalls(c string) {
	s.ready(pod1, "web", 0)
	s.create(pod1, c, 0)
	s.start(c)
	s.ctr(time.Second, c, container.SyscallsBlocked{Calls: []container.BlockedSyscall{{Name: "swapoff", Count: 1}}})
	s.ctr(5*time.Second, c, container.SyscallsBlocked{Calls: []container.BlockedSyscall{{Name: "swapoff", Count: 3}, {Count: 1}}, Stop: true})
	s.ctr(0, c, container.KillRequested{By: container.BySeccomp})
	s.ctr(5*ms, c, container.Killed{})
	s.ctr(5*ms, c, container.ContainerExited{Exit: container.Exit{Code: 137, Signal: 9, At: s.at(5 * ms)}})
}

// killed: a running container ends by SIGKILL, because of what happens then.
func (s *story) killed(c string, then func(*story)) {
	s.ready(pod1, "web", 0)
	s.create(pod1, c, 0)
	s.start(c)
	then(s)
	s.ctr(5*ms, c, container.Killed{})
	s.ctr(5*ms, c, container.ContainerExited{Exit: container.Exit{Code: 137, Signal: 9, At: s.at(5 * ms)}})
}

// ends are of containers that somebody or something ended.
func ends(begin func(string) *story, c string) {
	begin("stop_at_once").killed(c, func(s *story) { s.ctr(time.Minute, c, container.KillRequested{By: container.ByCall}) })
	begin("stop_by_pod").killed(c, func(s *story) {
		s.command = "sandbox.Stop"
		s.pod(time.Minute, pod1, sandbox.StopRequested{})
		s.ctr(ms, c, container.KillRequested{By: container.ByPod})
	})
	begin("removed_while_running").killed(c, func(s *story) {
		s.ctr(time.Minute, c, container.RemoveRequested{By: container.ByCall})
	})
	begin("removed_with_its_pod").killed(c, func(s *story) {
		s.command = "sandbox.Remove"
		s.pod(time.Minute, pod1, sandbox.StopRequested{})
		s.pod(0, pod1, sandbox.RemoveRequested{})
		s.ctr(ms, c, container.RemoveRequested{By: container.ByPod})
	})
	// Of an older daemon, whose events did not say it.
	begin("killed_by_nobody_knows").killed(c, func(s *story) { s.ctr(time.Minute, c, container.KillRequested{}) })
	s := begin("start_fails")
	s.ready(pod1, "web", 0)
	s.create(pod1, c, 0)
	s.ctr(5*ms, c, container.StartRequested{At: s.at(5 * ms)})
	s.ctr(15*ms, c, container.ContainerStartFailed{Fault: fault.Fault{Op: "start container", Reason: `exec: "/bin/serve": no such file or directory`}, At: s.at(15 * ms)})
	s = begin("oom_of_the_pod")
	s.ready(pod1, "web", 0)
	s.create(pod1, c, 0)
	s.start(c)
	s.ctr(time.Second, c, container.ContainerExited{Exit: container.Exit{
		Code: 137, Signal: 9, OOMKilled: true, MemoryPeak: 20 << 20, MemoryLimit: 64 << 20, At: s.at(time.Second),
	}})
}

func stories(t testing.TB) map[string]*story {
	all := map[string]*story{}
	begin := func(name string) *story {
		s := tell(t)
		all[name] = s
		s.node(0, host.DaemonStarted{BootID: s.boot, Version: "1", PID: 1, At: epoch})
		return s
	}
	s := begin("oom_crash_loop")
	s.ready(pod1, "web", 0)
	for i := range 3 {
		c := fmt.Sprintf("%s%060d", ctr, i)
		s.create(pod1, c, uint32(i))
		s.start(c)
		s.ctr(2300*ms, c, container.ContainerExited{Exit: container.Exit{
			Code: 137, Signal: 9, OOMKilled: true, MemoryPeak: 64<<20 - 4096, MemoryLimit: 64 << 20, At: s.at(2300 * ms),
		}})
		if i < 2 {
			s.remove(pod1, c)
		}
	}
	s = begin("cni_fails_detach_owed")
	s.pod(time.Second, pod1, sandbox.SandboxRequested{ID: pod1, Name: sandbox.Name{Name: "web", Namespace: "shop", UID: "u"}, Handler: "runc", At: s.at(time.Second)})
	s.pod(12*ms, pod1, sandbox.SandboxPrepared{})
	s.pod(900*ms, pod1, sandbox.NetworkAttachFailed{Fault: fault.Fault{Op: "attach network", Kind: fault.Internal, Subject: pod1, Reason: "plugin bridge: no address left in 10.86.0.0/24"}})
	s.pod(100*ms, pod1, sandbox.NetworkDetachFailed{Fault: fault.Fault{Op: "detach network", Kind: fault.Internal, Subject: pod1, Reason: "plugin bridge:\n\x1b[31mcannot lock"}, RetryAt: s.at(1100 * ms)})
	s = begin("reboot")
	s.ready(pod1, "web", 0)
	c := ctr + strings.Repeat("0", 60)
	s.create(pod1, c, 0)
	s.start(c)
	s.boot = "boot-2"
	s.node(time.Minute, host.NodeRebooted{Before: "boot-1", Now: "boot-2"})
	s.ctr(ms, c, container.ContainerExited{Exit: container.Unknown("the node was rebooted", s.at(ms))})
	s.pod(ms, pod1, sandbox.SandboxLost{Fault: fault.Fault{Op: "keep sandbox", Kind: fault.Interrupted, Reason: "the node was rebooted"}})
	s.pod(ms, pod1, sandbox.ContainerStopped{Container: id.Container(c)})
	s.pod(30*ms, pod1, sandbox.NetworkDetached{})
	s.pod(0, pod1, sandbox.SandboxStopped{})
	s = begin("slow_pull")
	s.ready(pod1, "web", 0)
	s.image(5*ms, "lab.test/web:v1", image.PullRequested{Ref: "lab.test/web:v1", Pull: "p", At: s.at(5 * ms)})
	s.image(200*ms, "lab.test/web:v1", image.ImageResolved{Pull: "p", Resolved: image.Resolved{Name: "lab.test/web:v1", Digest: "sha256:1", Layers: 2, Bytes: 300 << 20}})
	s.image(40*time.Second, "lab.test/web:v1", image.ImagePulled{Pull: "p", ImageID: "1", Bytes: 300 << 20})
	s.create(pod1, c, 0)
	s.start(c)
	s = begin("stop_after_grace")
	s.ready(pod1, "web", 0)
	s.create(pod1, c, 0)
	s.start(c)
	s.ctr(time.Minute, c, container.StopRequested{Request: "r1", Deadline: s.at(time.Minute + 10*time.Second)})
	s.ctr(ms, c, container.StopSignalled{})
	s.ctr(10*time.Second, c, container.KillRequested{By: container.ByCall, GraceOver: true})
	s.ctr(5*ms, c, container.Killed{})
	s.ctr(5*ms, c, container.ContainerExited{Exit: container.Exit{Code: 137, Signal: 9, At: s.at(5 * ms)}})
	begin("forbidden_calls").forbiddenCalls(c)
	ends(begin, c)
	s = begin("waits_for_network")
	s.pod(time.Second, pod1, sandbox.SandboxRequested{ID: pod1, Name: sandbox.Name{Name: "web", Namespace: "shop", UID: "u"}, Handler: "runc", At: s.at(time.Second)})
	s.pod(12*ms, pod1, sandbox.SandboxPrepared{})
	s = begin("failed_with_a_debt")
	s.records = append([]Record(nil), all["cni_fails_detach_owed"].records...)
	s.now, s.versions["sandbox/"+pod1] = all["cni_fails_detach_owed"].now, 4
	s.pod(10*ms, pod1, sandbox.SandboxReleased{})
	s.pod(0, pod1, sandbox.SandboxFailed{})
	return all
}

func timelineOf(records []Record) *Timeline {
	t := New()
	for _, r := range records {
		t.Add(r)
	}
	return t
}

// write shows everything that the model says of a timeline.
func write(t *Timeline) string {
	var b bytes.Buffer
	entity := func(e *Entity) {
		for _, m := range e.Moments {
			mark := ' '
			if m.Bad {
				mark = '!'
			}
			fmt.Fprintf(&b, "%c %3d %s +%-8s %s %s\n", mark, m.Sequence, m.At.Format("15:04:05.000"), Took(m.Since), m.Words, m.Call)
		}
		for _, s := range e.Steps {
			fmt.Fprintf(&b, "  step %s: %s, done %t, failed %t\n", s.Name, Took(s.Took), s.Done, s.Failed)
		}
		for _, p := range e.Phases {
			fmt.Fprintf(&b, "  %s from %s\n", p.Name, p.Began.Format("15:04:05.000"))
		}
	}
	for _, p := range t.Pods() {
		for _, line := range t.ExplainPod(p, t.Last.Add(5*time.Second)) {
			fmt.Fprintln(&b, line)
		}
		fmt.Fprintf(&b, "\npod %.12s\n", p.State.ID)
		entity(&p.Entity)
		for _, c := range t.Containers(p) {
			fmt.Fprintf(&b, "container %.12s, image %s\n", c.State.ID, c.ImageRef)
			entity(&c.Entity)
			if pull, has := t.Pull(c); has {
				fmt.Fprintf(&b, "  its image was pulled in %s\n", Took(pull.Took))
			}
		}
	}
	fmt.Fprintln(&b, "node")
	entity(&t.Node)
	return b.String()
}

// TestStories compares what is said of each incident with a golden file.
func TestStories(t *testing.T) {
	for name, s := range stories(t) {
		got := write(timelineOf(s.records))
		path := filepath.Join("testdata", name+".txt")
		if *update {
			if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if got != string(want) {
			t.Errorf("%s is\n%s\nwant\n%s", name, got, want)
		}
		for _, wrong := range []string{"0001", "sha256:", "\x1b", "%!", "no words yet"} {
			if strings.Contains(got, wrong) {
				t.Errorf("%s has %q:\n%s", name, wrong, got)
			}
		}
	}
}

// TestAnyPart: any records, in any order and with any bytes changed, give a timeline.
func TestAnyPart(t *testing.T) {
	var all []Record
	for _, s := range stories(t) {
		all = append(all, s.records...)
	}
	rapid.Check(t, func(rt *rapid.T) {
		chosen := rapid.SliceOfN(rapid.SampledFrom(all), 0, 40).Draw(rt, "records")
		line := New()
		for i, r := range chosen {
			r.Sequence = uint64(i + 1)
			if rapid.IntRange(0, 4).Draw(rt, "damage") == 0 && len(r.Payload) > 0 {
				r.Payload = bytes.Clone(r.Payload)
				r.Payload[rapid.IntRange(0, len(r.Payload)-1).Draw(rt, "byte")] ^= byte(rapid.IntRange(1, 255).Draw(rt, "bits"))
			}
			line.Add(r)
			_ = write(line)
		}
		seen := line.Skipped + len(line.Node.Moments)
		for _, p := range line.pods {
			seen += len(p.Moments)
		}
		for _, c := range line.containers {
			seen += len(c.Moments)
		}
		for _, i := range line.images {
			seen += len(i.Moments)
		}
		if seen != len(chosen) {
			rt.Fatalf("%d records gave %d moments", len(chosen), seen)
		}
	})
}

func TestNames(t *testing.T) {
	s := tell(t)
	s.ready(pod1, "web", 0)
	s.create(pod1, "cccc1", 0)
	s.create(pod1, "cccc2", 1)
	s.ready(pod2, "db", 0)
	line := timelineOf(s.records)
	for name, want := range map[string]string{
		"web": pod1, "shop/web": pod1, "shop/web@0": pod1, pod1[:5]: pod1, "sandbox/" + pod1: pod1, "db": pod2,
		"shop/web/web": "cccc2", "shop/web/web@0": "cccc1", "cccc1": "cccc1", "container/cccc2": "cccc2",
		"shop/web@1": "unknown", "nothing": "unknown", "shop/db/web": "unknown",
		"aaaa": "ambiguous", "cccc": "ambiguous",
		"": "bad", "a/b/c/d": "bad", "shop/": "bad", "web@x": "bad", "web@-1": "bad", "web@99999999999": "bad", strings.Repeat("x", 600): "bad",
	} {
		n, err := ParseName(name)
		if err != nil {
			if want != "bad" {
				t.Errorf("%q: %v", name, err)
			}
			continue
		}
		found, err := line.Find(n)
		var got string
		if _, unknown := errors.AsType[*UnknownError](err); unknown {
			got = "unknown"
		} else if several, is := errors.AsType[*AmbiguousError](err); is {
			got = "ambiguous"
			if len(several.Could) != 2 {
				t.Errorf("%q could mean %q", name, several.Could)
			}
		} else {
			got = string(found.Pod.State.ID)
			if found.Container != nil {
				got = string(found.Container.State.ID)
			}
		}
		if got != want {
			t.Errorf("%q means %s, want %s", name, got, want)
		}
	}
}

func TestPercentiles(t *testing.T) {
	line := New()
	if _, has := line.Percentiles(StepNetwork); has {
		t.Error("nothing was measured, and there are percentiles")
	}
	for i := range 100 {
		line.sample(StepNetwork, time.Duration(i+1)*ms)
	}
	if p, has := line.Percentiles(StepNetwork); !has || p != (Percentiles{100, 50 * ms, 95 * ms}) {
		t.Errorf("percentiles are %v, %t", p, has)
	}
}

// TestEveryEventHasWords: each event that was ever written to a log is read, has words of its
// own, and harms nothing as the only record there is.
func TestEveryEventHasWords(t *testing.T) {
	files, err := filepath.Glob("../actors/codec/testdata/*.txt")
	if err != nil || len(files) < 80 {
		t.Fatal(len(files), err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		_, digits, _ := strings.Cut(string(text), "\n\n")
		payload, err := hex.DecodeString(strings.Join(strings.Fields(digits), ""))
		if err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		name := strings.TrimSuffix(filepath.Base(file), ".txt")
		kind, _, _ := strings.Cut(name, ".")
		line := timelineOf([]Record{{Sequence: 1, Version: 1, Stream: kind + "/x", Time: epoch, Type: name, Schema: codec.Schema, Payload: payload}})
		shown := write(line)
		for _, i := range line.images {
			for _, m := range i.Moments {
				shown += m.Words
			}
		}
		if line.Skipped != 0 || strings.Contains(shown, "no words yet") {
			t.Errorf("%s: skipped %d, shown as\n%s", name, line.Skipped, shown)
		}
	}
}
