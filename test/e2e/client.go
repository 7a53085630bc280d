package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// patience is how long anything may take before a test gives up. The race detector and a
// busy machine make everything slow.
const patience = 2 * time.Minute

// Client calls a daemon over its socket, as the kubelet would. Calls that must succeed have
// a method, which fails the test.
type Client struct {
	Runtime runtimeapi.RuntimeServiceClient
	Images  runtimeapi.ImageServiceClient

	t testing.TB
}

// Connect makes a client for a socket, Stele's or another runtime's. It reconnects by itself
// when the daemon is back.
func Connect(t testing.TB, socket string) *Client {
	t.Helper()
	conn, err := grpc.NewClient("unix://"+socket,
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithConnectParams(grpc.ConnectParams{
			Backoff:           backoff.Config{BaseDelay: 20 * time.Millisecond, Multiplier: 1.5, MaxDelay: 100 * time.Millisecond},
			MinConnectTimeout: 5 * time.Second,
		}),
		// As the kubelet has it.
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(16<<20)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return &Client{Runtime: runtimeapi.NewRuntimeServiceClient(conn), Images: runtimeapi.NewImageServiceClient(conn), t: t}
}

// in returns the client for a subtest.
func (c *Client) in(t testing.TB) *Client {
	inner := *c
	inner.t = t
	return &inner
}

// Context bounds one call.
func (c *Client) Context() context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	c.t.Cleanup(cancel)
	return ctx
}

// Pull pulls an image and returns its id.
func (c *Client) Pull(image string) string {
	c.t.Helper()
	pulled, err := c.Images.PullImage(c.Context(), &runtimeapi.PullImageRequest{Image: &runtimeapi.ImageSpec{Image: image}})
	if err != nil {
		c.t.Fatalf("pull %s: %v", image, err)
	}
	return pulled.ImageRef
}

// removePod stops and removes a pod; both succeed when it is gone.
func (c *Client) removePod(id string) {
	c.t.Helper()
	if _, err := c.Runtime.StopPodSandbox(c.Context(), &runtimeapi.StopPodSandboxRequest{PodSandboxId: id}); err != nil {
		c.t.Errorf("stop pod %s: %v", id, err)
	}
	if _, err := c.Runtime.RemovePodSandbox(c.Context(), &runtimeapi.RemovePodSandboxRequest{PodSandboxId: id}); err != nil {
		c.t.Errorf("remove pod %s: %v", id, err)
	}
}

// StartContainer starts a container.
func (c *Client) StartContainer(id string) {
	c.t.Helper()
	if _, err := c.Runtime.StartContainer(c.Context(), &runtimeapi.StartContainerRequest{ContainerId: id}); err != nil {
		c.t.Fatalf("start container %s: %v", id, err)
	}
}

// StopContainer stops a container with a grace period in seconds.
func (c *Client) StopContainer(id string, grace int64) {
	c.t.Helper()
	if _, err := c.Runtime.StopContainer(c.Context(), &runtimeapi.StopContainerRequest{ContainerId: id, Timeout: grace}); err != nil {
		c.t.Fatalf("stop container %s: %v", id, err)
	}
}

// RemoveContainer removes a container.
func (c *Client) RemoveContainer(id string) {
	c.t.Helper()
	if _, err := c.Runtime.RemoveContainer(c.Context(), &runtimeapi.RemoveContainerRequest{ContainerId: id}); err != nil {
		c.t.Fatalf("remove container %s: %v", id, err)
	}
}

// ContainerStatus asks for a container's status.
func (c *Client) ContainerStatus(id string) *runtimeapi.ContainerStatus {
	c.t.Helper()
	answer, err := c.Runtime.ContainerStatus(c.Context(), &runtimeapi.ContainerStatusRequest{ContainerId: id})
	if err != nil {
		c.t.Fatalf("status of container %s: %v", id, err)
	}
	return answer.Status
}

// ContainerPID is the pid of a container's init on the node, from the status's
// verbose information.
func (c *Client) ContainerPID(id string) int {
	c.t.Helper()
	answer, err := c.Runtime.ContainerStatus(c.Context(), &runtimeapi.ContainerStatusRequest{ContainerId: id, Verbose: true})
	if err != nil {
		c.t.Fatalf("status of container %s: %v", id, err)
	}
	var info struct{ PID int }
	if err := json.Unmarshal([]byte(answer.Info["info"]), &info); err != nil || info.PID <= 0 {
		c.t.Fatalf("the verbose status of container %s has no pid: %v in %q", id, err, answer.Info)
	}
	return info.PID
}

// ContainerPIDs are the pids of containers.
func (c *Client) ContainerPIDs(ids []string) []int {
	c.t.Helper()
	pids := make([]int, len(ids))
	for i, id := range ids {
		pids[i] = c.ContainerPID(id)
	}
	return pids
}

// WaitExit waits for a container's end.
func (c *Client) WaitExit(id string) *runtimeapi.ContainerStatus {
	c.t.Helper()
	var last *runtimeapi.ContainerStatus
	c.Eventually("container "+id+" ends", func() bool {
		last = c.ContainerStatus(id)
		return last.State == runtimeapi.ContainerState_CONTAINER_EXITED
	})
	return last
}

// ExecSync runs a command in a container.
func (c *Client) ExecSync(id string, command ...string) *runtimeapi.ExecSyncResponse {
	c.t.Helper()
	answer, err := c.Runtime.ExecSync(c.Context(), &runtimeapi.ExecSyncRequest{ContainerId: id, Cmd: command})
	if err != nil {
		c.t.Fatalf("exec %q in %s: %v", command, id, err)
	}
	return answer
}

// Exec runs a command in a container that must succeed and returns its output.
func (c *Client) Exec(id string, command ...string) string {
	c.t.Helper()
	answer := c.ExecSync(id, command...)
	if answer.ExitCode != 0 {
		c.t.Fatalf("exec %q in %s: exit code %d, stderr %q", command, id, answer.ExitCode, answer.Stderr)
	}
	return strings.TrimRight(string(answer.Stdout), "\n")
}

// Refused checks that err has the code and that its message has all words.
func (c *Client) Refused(err error, code codes.Code, words ...string) {
	c.t.Helper()
	if status.Code(err) != code {
		c.t.Errorf("got %v, want the code %s", err, code)
	}
	for _, word := range words {
		if err != nil && !strings.Contains(err.Error(), word) {
			c.t.Errorf("got %q, want a message with %q", err, word)
		}
	}
}

// LogLine is a record of a container's log.
type LogLine struct {
	Time              time.Time
	Stream, Tag, Text string
}

// ReadLog reads a log in the CRI's format; a missing file is empty. An unfinished last line
// is left out.
func (c *Client) ReadLog(path string) []LogLine {
	c.t.Helper()
	content, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		c.t.Fatal(err)
	}
	var lines []LogLine
	for line := range strings.Lines(string(content)) {
		if !strings.HasSuffix(line, "\n") {
			break
		}
		parts := strings.SplitN(strings.TrimSuffix(line, "\n"), " ", 4)
		if len(parts) != 4 {
			c.t.Fatalf("%s: %q is not TIME STREAM TAG TEXT", path, line)
		}
		at, err := time.Parse(time.RFC3339Nano, parts[0])
		if err != nil {
			c.t.Fatalf("%s: %v", path, err)
		}
		lines = append(lines, LogLine{at, parts[1], parts[2], parts[3]})
	}
	return lines
}

// removePods stops and removes every pod.
func (c *Client) removePods() {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	pods, err := c.Runtime.ListPodSandbox(ctx, &runtimeapi.ListPodSandboxRequest{})
	if err != nil {
		c.t.Errorf("list pods: %v", err)
		return
	}
	for _, pod := range pods.Items {
		c.removePod(pod.Id)
	}
}

// Eventually waits until the condition holds.
func (c *Client) Eventually(what string, condition func() bool) {
	c.t.Helper()
	for deadline := time.Now().Add(patience); !condition(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			c.t.Fatalf("waited in vain: %s", what)
		}
	}
}
