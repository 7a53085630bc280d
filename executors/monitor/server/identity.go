package server

import (
	"os"

	"github.com/stele-runtime/stele/executors/monitor/proc"
	pb "github.com/stele-runtime/stele/proto/monitor/v1"
)

func fromIdentity(id proc.Identity) *pb.Process {
	return &pb.Process{Pid: int32(id.PID), StartTime: id.StartTime, Inode: id.Inode}
}

func toIdentity(p *pb.Process) proc.Identity {
	return proc.Identity{PID: int(p.GetPid()), StartTime: p.GetStartTime(), Inode: p.GetInode()}
}

// isOwnChild reports whether a process is there and is a child of this one, so
// that its status comes from the reaper.
func isOwnChild(p *pb.Process) bool {
	pid := int(p.GetPid())
	return proc.Parent(pid) == os.Getpid() && proc.StartTime(pid) == p.GetStartTime()
}
