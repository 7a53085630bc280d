package server

import (
	"github.com/stele-runtime/stele/executors/monitor/proc"
	pb "github.com/stele-runtime/stele/proto/monitor/v1"
)

func fromIdentity(id proc.Identity) *pb.Process {
	return &pb.Process{Pid: int32(id.PID), StartTime: id.StartTime, Inode: id.Inode}
}

func toIdentity(p *pb.Process) proc.Identity {
	return proc.Identity{PID: int(p.GetPid()), StartTime: p.GetStartTime(), Inode: p.GetInode()}
}
