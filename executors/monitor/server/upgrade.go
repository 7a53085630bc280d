package server

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/proto"

	"github.com/stele-runtime/stele/executors/monitor/proc"
	"github.com/stele-runtime/stele/executors/monitor/server/journal"
	"github.com/stele-runtime/stele/executors/monitor/server/pump"
	"github.com/stele-runtime/stele/executors/monitor/server/reaper"
	"github.com/stele-runtime/stele/executors/monitor/wire"
	pb "github.com/stele-runtime/stele/proto/monitor/v1"
)

const (
	// HandoverFormat is the version of the handover from a monitor to the program that
	// replaces it. A program that understands it exits with 0 when it is run with
	// `-takes-over NUMBER`.
	HandoverFormat = 1
	// upgradeWait is how long an upgrade, and all new work with it, may wait until
	// nothing is in flight.
	upgradeWait = 30 * time.Second
	// HandoverVariable is the environment variable with the handover's descriptor.
	HandoverVariable = "STELE_MONITOR_HANDOVER"
	// maxHandover bounds a handover, in bytes: some hundred for each of many thousand
	// containers.
	maxHandover = 16 << 20
)

// upgrader replaces the monitor's program.
type upgrader struct {
	// args are the next program's.
	args       []string
	home       *home
	journal    *journal.Journal
	reaper     *reaper.Reaper
	pump       *pump.Pump
	runtimes   *runtimes
	containers *containers
	notifiers  *notifiers
	// starts and ends are closed during an upgrade.
	starts, ends *gate
	logger       *slog.Logger
	// underWay is held during an upgrade.
	underWay sync.Mutex
}

// upgrade replaces this process's program by another. It returns only if that failed;
// then everything continues as before.
func (r *upgrader) upgrade(ctx context.Context, binary string) error {
	if !filepath.IsAbs(binary) {
		return fail(pb.Failure_CODE_INVALID, "upgrade: the path %q is not absolute", binary)
	}
	if !r.underWay.TryLock() {
		return fail(pb.Failure_CODE_BUSY, "upgrade: another is under way")
	}
	defer r.underWay.Unlock()
	ctx, cancel := context.WithTimeout(ctx, upgradeWait)
	defer cancel()
	if err := r.checkProgram(ctx, binary); err != nil {
		return err
	}
	if err := r.starts.close(ctx); err != nil {
		return fail(pb.Failure_CODE_BUSY, "upgrade: containers or execs are being started: %v", err)
	}
	defer r.starts.open()
	r.logger.Info("the monitor is replaced", "binary", binary)
	err := r.whileAtRest(ctx, func(left *pb.Handover) error { return r.replace(binary, left) })
	r.logger.Error("the monitor was not replaced", "binary", binary, "error", err)
	return fmt.Errorf("upgrade: %w", err)
}

// checkProgram asks a program whether it can take over.
func (r *upgrader) checkProgram(ctx context.Context, binary string) error {
	child, err := r.reaper.Start(reaper.Command{
		Path:  binary,
		Args:  []string{"-takes-over", strconv.Itoa(HandoverFormat)},
		Files: [3]int{-1, -1, -1},
	})
	if err != nil {
		return fmt.Errorf("upgrade: %w", err)
	}
	status, err := await(child, nil, ctx.Done())
	if err == nil && status.Code != 0 {
		err = fmt.Errorf("it ended with code %d", status.Code)
	}
	if err != nil {
		return fmt.Errorf("upgrade: %s can't take over (format %d): %w", binary, HandoverFormat, err)
	}
	return nil
}

// whileAtRest calls f while no process is reaped, every status is in the journal or was
// answered, no output is read, and nothing is written. The order matters: each step
// needs the later ones to finish.
func (r *upgrader) whileAtRest(ctx context.Context, f func(*pb.Handover) error) error {
	err := errors.New("the log pump has stopped")
	r.reaper.Rest(func() {
		if err = r.ends.close(ctx); err != nil {
			err = fmt.Errorf("exits are not passed on yet: %w", err)
			return
		}
		defer r.ends.open()
		r.notifiers.rest.Lock()
		defer r.notifiers.rest.Unlock()
		var left *pb.Handover
		if left, err = r.handover(); err != nil {
			return
		}
		defer closeLeft(left)
		restErr := r.pump.Rest(func() { r.journal.Rest(func() { err = f(left) }) })
		err = errors.Join(restErr, err)
	})
	return err
}

// handover returns what the next program gets. Pipes are duplicated.
func (r *upgrader) handover() (*pb.Handover, error) {
	left := &pb.Handover{Listener: int32(r.home.listener.FD()), Lock: int32(r.home.lock.Fd())}
	if r.runtimes.oomScore.before != nil {
		left.ChildOomScore = proto.Int32(int32(*r.runtimes.oomScore.before))
	}
	for _, c := range r.containers.all() {
		lent, err := c.lend()
		if err != nil {
			return nil, err
		}
		b := takeBelongings(&lent)
		if d := c.describe(); d.LogLost > c.record.LogLost {
			if err := r.journal.Lost(&pb.Loss{ContainerId: c.id, Bytes: d.LogLost, Reason: d.LogError}); err != nil {
				return nil, err
			}
		}
		handed := &pb.HandoverContainer{
			Id:       c.id,
			Pidfd:    int32(b.pidfd),
			Stdin:    int32(b.stdin),
			Stdout:   int32(b.stdout),
			Stderr:   int32(b.stderr),
			Terminal: int32(b.terminal),
		}
		left.Containers = append(left.Containers, handed)
		if err := c.notifier.handOver(handed); err != nil {
			return nil, err
		}
	}
	return left, nil
}

// replace is called at rest. It returns only with an error.
func (r *upgrader) replace(binary string, left *pb.Handover) error {
	data, err := proto.Marshal(left)
	if err != nil {
		return fmt.Errorf("encode the handover: %w", err)
	}
	memfd, err := unix.MemfdCreate("stele-monitor-handover", 0)
	if err != nil {
		return fmt.Errorf("make a file for the handover: %w", err)
	}
	defer func() { _ = unix.Close(memfd) }()
	if n, err := unix.Pwrite(memfd, data, 0); err != nil || n != len(data) {
		return fmt.Errorf("write the handover: %d of %d bytes: %w", n, len(data), err)
	}
	defer func() { _ = setInherited(left, false) }()
	if err := setInherited(left, true); err != nil {
		return err
	}
	// In the environment, so that the command line, which administrators look for,
	// stays the same.
	environment := append(os.Environ(), HandoverVariable+"="+strconv.Itoa(memfd))
	if err := syscall.Exec(binary, append([]string{binary}, r.args...), environment); err != nil {
		return fmt.Errorf("execute %s: %w", binary, err)
	}
	return nil
}

// setInherited sets whether the next program inherits a handover's descriptors.
func setInherited(left *pb.Handover, inherited bool) error {
	flags := unix.FD_CLOEXEC
	if inherited {
		flags = 0
	}
	for _, fd := range handedDescriptors(left) {
		if _, err := unix.FcntlInt(uintptr(fd), unix.F_SETFD, flags); err != nil {
			return fmt.Errorf("hand over descriptor %d: %w", fd, err)
		}
	}
	return nil
}

func handedDescriptors(left *pb.Handover) []int {
	all := []int{int(left.Listener), int(left.Lock)}
	for _, c := range left.Containers {
		all = append(all, handed(c).list()...)
	}
	return all
}

// handed returns a container's descriptors in a handover.
func handed(c *pb.HandoverContainer) belongings {
	b := belongings{
		pidfd:    int(c.Pidfd),
		stdin:    int(c.Stdin),
		stdout:   int(c.Stdout),
		stderr:   int(c.Stderr),
		terminal: int(c.Terminal),
		notifier: -1,
	}
	if c.Notifier != nil {
		b.notifier = int(*c.Notifier)
	}
	for _, fd := range c.Notify {
		b.notify = append(b.notify, int(fd))
	}
	return b
}

// closeLeft closes a handover's duplicates, after a failed upgrade.
func closeLeft(left *pb.Handover) {
	for _, c := range left.Containers {
		handed(c).close()
	}
}

// inheritance is what the previous program left.
type inheritance struct {
	home       *home
	oomScore   oomScore
	containers map[string]belongings
}

// takeOver reads the handover from the memfd, and takes the directory, the socket and
// the OOM score over.
func takeOver(memfd int, dir string) (*inheritance, error) {
	file := os.NewFile(uintptr(memfd), "handover")
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return nil, fmt.Errorf("read the handover: %w", err)
	}
	data := make([]byte, min(info.Size(), maxHandover))
	if _, err := file.ReadAt(data, 0); err != nil {
		return nil, fmt.Errorf("read the handover: %w", err)
	}
	left := new(pb.Handover)
	if err := proto.Unmarshal(data, left); err != nil {
		return nil, fmt.Errorf("decode the handover: %w", err)
	}
	if err := setInherited(left, false); err != nil {
		return nil, err
	}
	unix.CloseOnExec(memfd)
	if err := proc.CloseInherited(); err != nil {
		return nil, err
	}
	all := &inheritance{
		home:       &home{dir: dir, lock: os.NewFile(uintptr(left.Lock), "lock")},
		containers: map[string]belongings{},
	}
	if all.home.listener, err = wire.Inherit(int(left.Listener), all.home.socket()); err != nil {
		return nil, err
	}
	if left.ChildOomScore != nil {
		before := int(*left.ChildOomScore)
		all.oomScore.before = &before
	}
	for _, c := range left.Containers {
		all.containers[c.Id] = handed(c)
	}
	return all, nil
}
