package server

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/stele-runtime/stele/executors/monitor/server/stdio"
	"github.com/stele-runtime/stele/executors/monitor/wire"
	pb "github.com/stele-runtime/stele/proto/monitor/v1"
)

const (
	// minVersion and maxVersion bound the protocol versions that this monitor speaks.
	minVersion = 1
	maxVersion = 3
	// versionTerminals is the version that brought terminals and all else that
	// proto/monitor/v1 lists for it.
	versionTerminals = 2
	// forgetWait is how long Forget waits for an exit: a runtime that has
	// deleted a container may be faster than the kernel's word of its end.
	forgetWait = 5 * time.Second
)

// session is one connection.
type session struct {
	server *Server
	conn   *wire.Conn
	// version is the negotiated one.
	version uint32
	// calls are the requests in flight.
	calls sync.WaitGroup

	mu sync.Mutex
	// unsubscribe ends the running Subscribe.
	unsubscribe context.CancelFunc
	// attachments are the running ones, with the function that ends each.
	attachments map[string]context.CancelCauseFunc
}

// serve answers a connection's requests until it ends, and then ends its execs.
func (s *Server) serve(ctx context.Context, conn *wire.Conn) {
	ctx, cancel := context.WithCancel(ctx)
	stop := context.AfterFunc(ctx, conn.Close)
	defer stop()
	n := &session{server: s, conn: conn, attachments: map[string]context.CancelCauseFunc{}}
	if err := n.run(ctx); err != nil && !errors.Is(err, io.EOF) && ctx.Err() == nil {
		s.logger.Warn("a connection ended", "error", err)
	}
	cancel()
	conn.Close()
	n.calls.Wait()
}

func (n *session) run(ctx context.Context) error {
	if err := n.hello(); err != nil {
		return err
	}
	for {
		req := new(pb.Request)
		fds, err := n.conn.Receive(req)
		if err != nil {
			return err
		}
		given, err := received(req.Descriptors, fds)
		c := &call{Request: req, given: given, done: func() {}}
		if err == nil {
			err = n.begin(ctx, c)
		}
		n.calls.Go(func() {
			defer c.done()
			n.answer(ctx, c, err)
		})
	}
}

// call is a request in flight.
type call struct {
	*pb.Request
	// given came with it. Those not taken are closed at the end.
	given descriptors
	// exec is set for Exec and AdoptExec.
	exec *execution
	// attached ends with the attachment of an Attach.
	attached context.Context
	// done is called after the reply was sent.
	done func()
}

// begin does what must be done before the next request is read: that one may refer to
// this one.
func (n *session) begin(ctx context.Context, c *call) (err error) {
	switch r := c.Call.(type) {
	case *pb.Request_Exec:
		c.exec, c.done, err = n.server.execs.await(ctx, r.Exec.ExecId)
	case *pb.Request_AdoptExec:
		c.exec, c.done, err = n.server.execs.await(ctx, r.AdoptExec.ExecId)
	case *pb.Request_Attach:
		c.attached, c.done, err = n.startAttach(ctx, r.Attach.AttachId)
	}
	return err
}

// hello negotiates a version.
func (n *session) hello() error {
	req := new(pb.Request)
	fds, err := n.conn.Receive(req)
	if err != nil {
		return err
	}
	stdio.Close(fds...)
	hello := req.GetHello()
	version := min(hello.GetMaxVersion(), maxVersion)
	if hello == nil || version < minVersion || version < hello.MinVersion {
		refusal := fail(pb.Failure_CODE_UNSUPPORTED_VERSION,
			"this monitor speaks versions %d to %d of the protocol, asked for were %d to %d",
			minVersion, maxVersion, hello.GetMinVersion(), hello.GetMaxVersion())
		return errors.Join(refusal, n.conn.Send(&pb.Reply{Id: req.Id, Failure: toFailure(refusal)}))
	}
	n.version = version
	s := n.server
	if err := s.journal.SkipTo(hello.LastSeq); err != nil {
		return err
	}
	return n.conn.Send(&pb.Reply{Id: req.Id, Result: &pb.Reply_Welcome{Welcome: &pb.Welcome{
		Version:       version,
		Build:         s.config.Build,
		Pid:           s.pid,
		Instance:      s.instance,
		BootId:        s.bootID,
		LastSeq:       s.journal.LastSeq(),
		JournalDamage: s.journal.Damage(),
	}}})
}

// answer executes a request, unless there is an error already, and sends the reply.
func (n *session) answer(ctx context.Context, c *call, err error) {
	reply, lent := &pb.Reply{}, descriptors{}
	if err == nil {
		reply, lent, err = n.call(ctx, c)
	}
	c.given.close()
	if err != nil {
		reply = &pb.Reply{Failure: toFailure(err)}
	}
	reply.Id = c.Id
	reply.Descriptors = lent.roles
	if err := n.conn.Send(reply, lent.fds...); err != nil && ctx.Err() == nil {
		n.server.logger.Warn("send a reply", "error", err)
	}
	lent.close()
	if c.GetShutdown() != nil && reply.Failure == nil {
		n.server.quitOnce.Do(func() { close(n.server.quit) })
	}
}

// call executes a request.
func (n *session) call(ctx context.Context, c *call) (*pb.Reply, descriptors, error) {
	s := n.server
	done := &pb.Reply{}
	switch call := c.Call.(type) {
	case *pb.Request_Create:
		container, err := s.creator.create(ctx, call.Create)
		return lendContainer(container, err)
	case *pb.Request_Lend:
		container, err := s.containers.find(call.Lend.ContainerId)
		return lendContainer(container, err)
	case *pb.Request_Adopt:
		return done, descriptors{}, s.successor.adopt(call.Adopt, &c.given)
	case *pb.Request_Settle:
		s.successor.settle()
		s.execs.settle()
		return done, descriptors{}, nil
	case *pb.Request_Exec:
		ended, err := n.exec(c.exec, c.Id, call.Exec, &c.given)
		return &pb.Reply{Result: &pb.Reply_ExecEnded{ExecEnded: ended}}, descriptors{}, err
	case *pb.Request_AdoptExec:
		ended, err := s.execs.adopt(c.exec, call.AdoptExec, &c.given)
		return &pb.Reply{Result: &pb.Reply_ExecEnded{ExecEnded: ended}}, descriptors{}, err
	case *pb.Request_KillExec:
		s.execs.kill(call.KillExec.ExecId)
		return done, descriptors{}, nil
	case *pb.Request_Signal:
		return done, descriptors{}, s.containers.with(call.Signal.ContainerId, func(c *container) error { return c.signal(unix.Signal(call.Signal.Signal)) })
	case *pb.Request_ReopenLog:
		return done, descriptors{}, s.containers.with(call.ReopenLog.ContainerId, (*container).reopenLog)
	case *pb.Request_Forget:
		exit, err := s.containers.forget(call.Forget.ContainerId)
		if err != nil || exit == nil {
			return done, descriptors{}, err
		}
		return &pb.Reply{Result: &pb.Reply_Exit{Exit: exit}}, descriptors{}, nil
	case *pb.Request_List:
		reply, err := n.list(c.Id, call.List.GetContainerId())
		return reply, descriptors{}, err
	case *pb.Request_Subscribe:
		return done, descriptors{}, n.subscribe(ctx, c.Id, call.Subscribe.After)
	case *pb.Request_Ack:
		return done, descriptors{}, s.journal.Ack(call.Ack.Seq)
	case *pb.Request_Resize:
		return done, descriptors{}, s.containers.with(call.Resize.ContainerId, func(c *container) error { return c.resize(call.Resize) })
	case *pb.Request_Attach:
		ended, err := n.attach(c.attached, c.Id, call.Attach, &c.given)
		return &pb.Reply{Result: &pb.Reply_AttachEnded{AttachEnded: ended}}, descriptors{}, err
	case *pb.Request_DetachClient:
		n.detachClient(call.DetachClient.AttachId)
		return done, descriptors{}, nil
	case *pb.Request_Losses:
		return done, descriptors{}, n.tellLosses(ctx, c.Id)
	case *pb.Request_Blocked:
		return done, descriptors{}, n.tellBlocked(ctx, c.Id)
	case *pb.Request_Upgrade:
		return nil, descriptors{}, s.upgrader.upgrade(ctx, call.Upgrade.Binary)
	case *pb.Request_Shutdown:
		return done, descriptors{}, s.containers.checkShutdown()
	default:
		return nil, descriptors{}, fail(pb.Failure_CODE_UNIMPLEMENTED, "this monitor doesn't know a call of the type %T", call)
	}
}

// lendContainer answers with a container and its descriptors.
func lendContainer(c *container, err error) (*pb.Reply, descriptors, error) {
	if err != nil {
		return nil, descriptors{}, err
	}
	lent, err := c.lend()
	if err != nil {
		return nil, descriptors{}, err
	}
	return &pb.Reply{Result: &pb.Reply_Container{Container: c.describe()}}, lent, nil
}

// list sends all containers but the last, which it returns; unless only is empty, no
// other than that.
func (n *session) list(id uint64, only string) (*pb.Reply, error) {
	last := &pb.Reply{}
	for _, c := range n.server.containers.all() {
		if only != "" && c.id != only {
			continue
		}
		if last.Result != nil {
			last.Id, last.More = id, true
			if err := n.conn.Send(last); err != nil {
				return nil, err
			}
		}
		last = &pb.Reply{Result: &pb.Reply_Container{Container: c.describe()}}
	}
	return last, nil
}

// subscribe sends exits until ctx or the subscription ends.
func (n *session) subscribe(ctx context.Context, id, after uint64) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	n.mu.Lock()
	if n.unsubscribe != nil {
		n.unsubscribe()
	}
	n.unsubscribe = cancel
	n.mu.Unlock()
	for {
		exits, more := n.server.journal.Exits(after)
		for _, exit := range exits {
			if err := n.conn.Send(&pb.Reply{Id: id, More: true, Result: &pb.Reply_Exit{Exit: exit}}); err != nil {
				return err
			}
			after = exit.Seq
		}
		select {
		case <-more:
		case <-ctx.Done():
			return fmt.Errorf("the subscription ended: %w", ctx.Err())
		}
	}
}
