package e2e

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// TestDamagedLog overwrites the event log's pages under running pods. The next daemon sets the
// log aside and goes on, with a backup and without: no process has changed, everything is listed
// as before, and can be ended.
func TestDamagedLog(t *testing.T) {
	for name, backedUp := range map[string]bool{"with a backup": true, "without": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			damagedLog(t, backedUp)
		})
	}
}

func damagedLog(t *testing.T, backedUp bool) {
	h := New(t, programs, Options{})
	gone, older := h.RunPod(h.PodConfig("gone")), h.RunPod(h.PodConfig("older"))
	stays := older.Run(h.ContainerConfig("stays"))
	ends := older.Run(h.TesterConfig("ends", "await", "/share/trigger", "71"))
	if backedUp {
		backUpLog(h)
	}
	// What the backup does not know.
	gone.Stop()
	gone.Remove()
	pods := append(podsOfEveryKind(h), older)
	trigger := h.TesterConfig("triggered", "await", "/share/trigger", "72")
	trigger.Mounts = []*runtimeapi.Mount{{HostPath: h.Share, ContainerPath: "/share"}}
	running := []string{stays, pods[0].Run(h.ContainerConfig("plain")), pods[1].Run(h.ContainerConfig("shared")), pods[2].Run(h.ContainerConfig("hostnet"))}
	triggered := pods[0].Run(trigger)
	created := pods[0].Create(h.ContainerConfig("created"))
	exited := pods[1].Run(h.ContainerConfig("exited", "sh", "-c", "exit 5"))
	h.WaitExit(exited)
	h.StopContainer(ends, 0)
	pids := pidsOf(h, running...)
	before := h.everything()
	awaitKept(h, before)

	h.Daemon.Kill9()
	h.write(filepath.Join(h.Share, "trigger"), "")
	overwriteLog(h)
	h.Daemon.Start()

	if got := h.WaitExit(triggered); got.ExitCode != 72 {
		t.Errorf("exit code %d of a container that ended without a daemon, want 72", got.ExitCode)
	}
	after := h.everything()
	delete(before, triggered)
	delete(after, triggered)
	expectUnchanged(t, before, after)
	expectPIDs(h, pids)
	for _, id := range running {
		h.Exec(id, "true")
	}
	h.StartContainer(created)
	h.Exec(created, "true")
	expectSetAside(h, backedUp)
	if says := h.Stele("replay", "--verify"); !strings.Contains(says, "pods") {
		t.Errorf("replay --verify says %q", says)
	}
	for _, pod := range pods {
		pod.Stop()
		pod.Remove()
	}
	for _, pid := range pids {
		h.Eventually("the processes are gone", func() bool { return !alive(pid) })
	}
}

// TestDamagedLogUnexplained: nothing but bundles is left of what runs. It stays, as unknown, until
// somebody ends it.
func TestDamagedLogUnexplained(t *testing.T) {
	t.Parallel()
	h := New(t, programs, Options{})
	pod := h.RunPod(h.PodConfig("pod"))
	id := pod.Run(h.ContainerConfig("c"))
	pids := pidsOf(h, id)
	awaitKept(h, h.everything())
	h.Daemon.Kill9()
	overwriteLog(h)
	if err := os.RemoveAll(filepath.Join(h.State, "kept")); err != nil {
		t.Fatal(err)
	}
	h.Daemon.Start()
	expectPIDs(h, pids)
	containers, err := h.Runtime.ListContainers(h.Context(), &runtimeapi.ListContainersRequest{})
	if err != nil || len(containers.GetContainers()) != 1 {
		t.Fatalf("listed are %v, %v", containers, err)
	}
	c := containers.GetContainers()[0]
	if c.GetId() != id || c.GetPodSandboxId() != pod.ID || c.GetState() != runtimeapi.ContainerState_CONTAINER_UNKNOWN || c.GetMetadata().GetName() != "c" {
		t.Errorf("listed is %v", c)
	}
	if status := h.ContainerStatus(id); !strings.Contains(status.GetMessage(), "its history is lost") {
		t.Errorf("its status is %v", status)
	}
	if state := pod.Status().GetStatus(); state.GetState() != runtimeapi.PodSandboxState_SANDBOX_NOTREADY || state.GetMetadata().GetUid() != pod.Config.GetMetadata().GetUid() {
		t.Errorf("the pod is %v", state)
	}
	pod.Stop()
	pod.Remove()
	for _, pid := range pids {
		h.Eventually("the process is gone", func() bool { return !alive(pid) })
	}
	h.Eventually("nothing is listed", func() bool {
		pods, err := h.Runtime.ListPodSandbox(h.Context(), &runtimeapi.ListPodSandboxRequest{})
		return err == nil && len(pods.GetItems()) == 0
	})
}

// TestDamagedLogAfterReboot: the backup's pods ended with the node.
func TestDamagedLogAfterReboot(t *testing.T) {
	t.Parallel()
	h := New(t, programs, Options{OwnBoot: true})
	pod := h.RunPod(h.PodConfig("pod"))
	pod.Run(h.ContainerConfig("c"))
	backUpLog(h)
	h.RunPod(h.PodConfig("later"))
	log := filepath.Join(h.Root, "events.db")
	content, err := os.ReadFile(log)
	if err != nil {
		t.Fatal(err)
	}
	copy(content[8192:], bytes.Repeat([]byte("garbage!"), len(content)/8))
	h.PowerFailure(map[string][]byte{log: content})
	pods, err := h.Runtime.ListPodSandbox(h.Context(), &runtimeapi.ListPodSandboxRequest{})
	if err != nil || len(pods.GetItems()) != 1 || pods.GetItems()[0].GetId() != pod.ID || pods.GetItems()[0].GetState() != runtimeapi.PodSandboxState_SANDBOX_NOTREADY {
		t.Errorf("listed are %v, %v", pods, err)
	}
}

// backUpLog backs the log up as the daemon does by itself, checks it, and that no file is overwritten.
func backUpLog(h *Harness) {
	h.t.Helper()
	dir := filepath.Join(h.Root, "backups")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		h.t.Fatal(err)
	}
	path := filepath.Join(dir, "events-20260101T000000Z.db")
	h.Stele("log", "backup", path)
	if says := h.Stele("log", "verify"); !strings.Contains(says, "nothing is damaged") {
		h.t.Errorf("the log: %s", says)
	}
	if says, err := exec.Command(h.Programs.Stele, "log", "verify", path).CombinedOutput(); err != nil || !strings.Contains(string(says), "nothing is damaged") {
		h.t.Errorf("the backup: %s, %v", says, err)
	}
	if says, err := exec.Command(h.Programs.Stele, "log", "backup", "--listen", "unix://"+h.Socket, path).CombinedOutput(); err == nil || !strings.Contains(string(says), "exists already") {
		h.t.Errorf("a second backup to %s: %s, %v", path, says, err)
	}
}

// awaitKept waits until the state directory has all that was listed.
func awaitKept(h *Harness, listed map[string]proto.Message) {
	h.t.Helper()
	h.Eventually("the state directory has it all", func() bool {
		entries, err := os.ReadDir(filepath.Join(h.State, "kept"))
		n := 0
		for id := range listed {
			if !strings.Contains(id, " ") {
				n++
			}
		}
		return err == nil && len(entries) == n+3 // and the node, the boot, and the last record
	})
}

// overwriteLog damages the pages of the log, but for the first two.
func overwriteLog(h *Harness) {
	h.t.Helper()
	path := filepath.Join(h.Root, "events.db")
	info, err := os.Stat(path)
	if err != nil {
		h.t.Fatal(err)
	}
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		h.t.Fatal(err)
	}
	if _, err := f.WriteAt(bytes.Repeat([]byte("garbage!"), int(info.Size()-8192)/8), 8192); err != nil {
		h.t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		h.t.Fatal(err)
	}
}

func pidsOf(h *Harness, ids ...string) map[string]int {
	h.t.Helper()
	pids := map[string]int{}
	for _, id := range ids {
		pids[id] = h.ContainerPID(id)
	}
	return pids
}

func expectPIDs(h *Harness, pids map[string]int) {
	h.t.Helper()
	for id, pid := range pids {
		if !alive(pid) {
			h.t.Errorf("process %d of container %s was ended", pid, id)
		}
	}
}

// expectSetAside checks that the damaged log is there, and named to everybody who looks.
func expectSetAside(h *Harness, backedUp bool) {
	h.t.Helper()
	var stats struct {
		SetAside []string `json:"set_aside"`
	}
	if err := json.Unmarshal([]byte(h.Stele("log", "stats", "-o", "json")), &stats); err != nil || len(stats.SetAside) != 1 {
		h.t.Fatalf("stats: %+v, %v", stats, err)
	}
	path := stats.SetAside[0]
	if says, err := exec.Command(h.Programs.Stele, "log", "verify", path).CombinedOutput(); err == nil || !strings.Contains(string(says), "damaged") {
		h.t.Errorf("the damaged log: %s, %v", says, err)
	}
	status, err := h.Runtime.Status(h.Context(), &runtimeapi.StatusRequest{})
	if err != nil {
		h.t.Fatal(err)
	}
	for _, c := range status.GetStatus().GetConditions() {
		if c.GetType() == runtimeapi.RuntimeReady && (!c.GetStatus() || !strings.Contains(c.GetMessage(), path)) {
			h.t.Errorf("Status says %v", c)
		}
	}
	says := strings.Join(strings.Fields(h.Stele("events", "node")), " ") // not in lines
	want := "there was no good backup"
	if backedUp {
		want = "is from the backup"
	}
	if !strings.Contains(says, path) || !strings.Contains(says, want) {
		h.t.Errorf("the node's history has not %q and %q:\n%s", path, want, says)
	}
}
