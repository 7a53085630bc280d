package monitor_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/stele-runtime/stele/executors/monitor"
	"github.com/stele-runtime/stele/executors/monitor/wire"
	pb "github.com/stele-runtime/stele/proto/monitor/v1"
)

// oldMonitor is a monitor that speaks only version 1: it fails the test on any other
// request.
type oldMonitor struct {
	t    *testing.T
	conn *wire.Conn
	// pid is the one that it reports.
	pid int
}

func (o *oldMonitor) serve() {
	for {
		req := new(pb.Request)
		fds, err := o.conn.Receive(req)
		if err != nil {
			return
		}
		for _, fd := range fds {
			unix.Close(fd)
		}
		reply := &pb.Reply{Id: req.Id}
		switch call := req.Call.(type) {
		case *pb.Request_Hello:
			if call.Hello.MinVersion > 1 {
				o.t.Errorf("the daemon speaks no version below %d", call.Hello.MinVersion)
			}
			reply.Result = &pb.Reply_Welcome{Welcome: &pb.Welcome{Version: 1, Build: "old", Pid: int32(o.pid), Instance: "old", BootId: "x"}}
		case *pb.Request_Settle, *pb.Request_List, *pb.Request_Ack, *pb.Request_Shutdown:
		case *pb.Request_Create:
			reply.Result = &pb.Reply_Container{Container: &pb.Container{Id: call.Create.ContainerId, Process: &pb.Process{Pid: 7, StartTime: 8}}}
		case *pb.Request_Exec:
			reply.Result = &pb.Reply_ExecEnded{ExecEnded: &pb.ExecEnded{Code: 5}}
		case *pb.Request_Subscribe:
			reply.More, reply.Result = true, &pb.Reply_Exit{Exit: &pb.Exit{Seq: 3, ContainerId: "a", Code: 4}}
		default:
			o.t.Errorf("the old monitor was asked for %T", call)
			reply.Failure = &pb.Failure{Code: pb.Failure_CODE_UNIMPLEMENTED}
		}
		if err := o.conn.Send(reply); err != nil {
			return
		}
	}
}

// A daemon works with a monitor of the previous version.
func TestOldMonitor(t *testing.T) {
	dir, err := os.MkdirTemp("", "mon")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	if err := os.Mkdir(filepath.Join(dir, "monitor"), 0o700); err != nil {
		t.Fatal(err)
	}
	listener, err := wire.Listen(filepath.Join(dir, "monitor", "monitor.sock"))
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		conn, err := listener.Accept()
		if err != nil {
			t.Error(err)
			return
		}
		defer conn.Close()
		(&oldMonitor{t: t, conn: conn, pid: os.Getpid()}).serve()
	})
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	client, err := monitor.Start(ctx, monitor.Config{Binary: tools.monitor, StateDir: dir, Build: "new"})
	if err != nil {
		t.Fatal(err)
	}
	if p, err := client.Create(ctx, monitor.CreateRequest{ContainerID: "a", Runtime: "/r", PidFile: "/p"}); err != nil || p.PID != 7 {
		t.Errorf("Create gave %+v, %v", p, err)
	}
	if result, err := client.Exec(ctx, monitor.ExecRequest{ContainerID: "a", ExecID: "x", Timeout: time.Second}); err != nil || result.Code != 5 {
		t.Errorf("Exec gave %+v, %v", result, err)
	}
	for e := range client.Exits(ctx, 0) {
		if e.Seq != 3 || e.Code != 4 || e.Process != (monitor.Process{}) {
			t.Errorf("the exit is %+v", e)
		}
		break
	}
	for what, err := range map[string]error{
		"Create":  second(client.Create(ctx, monitor.CreateRequest{ContainerID: "b", Terminal: true})),
		"Exec":    second(client.Exec(ctx, monitor.ExecRequest{ContainerID: "a", ExecID: "y", Terminal: true})),
		"Attach":  second(client.Attach(ctx, monitor.AttachRequest{ContainerID: "a"})),
		"Resize":  client.Resize(ctx, "a", 80, 24),
		"Upgrade": client.Upgrade(ctx),
	} {
		if !errors.Is(err, monitor.ErrUnimplemented) {
			t.Errorf("%s gave %v", what, err)
		}
	}
	client.Close()
	listener.Close()
	wg.Wait()
}

func second[T any](_ T, err error) error { return err }

// A daemon of the previous version gets only what it knows.
func TestOldDaemon(t *testing.T) {
	n := newNode(t)
	n.run(container{id: "a", script: "sleep 1000"})
	conn, err := wire.Dial(filepath.Join(n.config.StateDir, "monitor", "monitor.sock"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	ask := func(req *pb.Request) *pb.Reply {
		t.Helper()
		if err := conn.Send(req); err != nil {
			t.Fatal(err)
		}
		reply := new(pb.Reply)
		fds, err := conn.Receive(reply)
		if err != nil || len(fds) != 0 {
			t.Fatalf("the answer is %v with descriptors %v, %v", reply, fds, err)
		}
		return reply
	}
	if got := ask(&pb.Request{Call: &pb.Request_Hello{Hello: &pb.Hello{MinVersion: 1, MaxVersion: 1}}}); got.GetWelcome().GetVersion() != 1 {
		t.Errorf("the welcome is %v", got)
	}
	r := n.execRequest("a", "x", "exit 9")
	exec := &pb.Exec{ContainerId: "a", ExecId: "x", Runtime: r.Runtime, Args: r.Args, PidFile: r.PidFile, Env: []string{"PATH=" + os.Getenv("PATH")}}
	if got := ask(&pb.Request{Id: 2, Call: &pb.Request_Exec{Exec: exec}}); got.Id != 2 || got.More || got.GetExecEnded().GetCode() != 9 {
		t.Errorf("the exec gave %v", got)
	}
	exec.ExecId, exec.Terminal = "y", true // the first may still be known
	if got := ask(&pb.Request{Id: 3, Call: &pb.Request_Exec{Exec: exec}}); got.GetFailure().GetCode() != pb.Failure_CODE_UNIMPLEMENTED {
		t.Errorf("the exec with a terminal gave %v", got)
	}
}
