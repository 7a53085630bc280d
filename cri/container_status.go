package cri

import (
	"cmp"
	"context"
	"strings"
	"time"

	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"google.golang.org/protobuf/proto"

	"github.com/stele-runtime/stele/actors/container"
	"github.com/stele-runtime/stele/projections"
)

// ContainerStatus returns the status of a container.
func (s containerService) ContainerStatus(_ context.Context, req *runtimeapi.ContainerStatusRequest) (*runtimeapi.ContainerStatusResponse, error) {
	found, err := s.container(req.GetContainerId())
	if err != nil {
		return nil, err
	}
	answer := &runtimeapi.ContainerStatusResponse{Status: containerStatus(found)}
	if req.GetVerbose() {
		if answer.Info, err = s.containerInfo(found); err != nil {
			return nil, err
		}
	}
	return answer, nil
}

func containerStatus(x *projections.Container) *runtimeapi.ContainerStatus {
	status := &runtimeapi.ContainerStatus{
		Id:          string(x.State.ID),
		Metadata:    x.Shown.Metadata,
		State:       containerState(x),
		CreatedAt:   x.State.Request.At.UnixNano(),
		StartedAt:   nanoseconds(x.State.Run.StartedAt),
		Image:       shownImage(x),
		ImageRef:    x.Shown.Image.GetImage(),
		ImageId:     x.State.Request.Image,
		Labels:      x.Labels(),
		Annotations: x.Annotations(),
		Mounts:      x.Config().GetMounts(),
		LogPath:     x.State.Request.LogPath,
		StopSignal:  shownSignal(x.State.Request.StopSignal),
	}
	if x.State.Creation.Process.PID != 0 {
		status.User = containerUser(x.State.Creation.User)
	}
	if limits := x.Shown.Limits; limits != nil {
		status.Resources = &runtimeapi.ContainerResources{Linux: limits}
	}
	if status.State == runtimeapi.ContainerState_CONTAINER_EXITED {
		status.FinishedAt = nanoseconds(x.State.Run.Exit.At)
		status.ExitCode = int32(x.State.Run.Exit.Code)
		status.Reason, status.Message = exitReason(x.State)
	}
	if x.Damage != "" {
		status.Reason = "HistoryDamaged"
		status.Message = "what became of the container is not known, since its history cannot be read; stop or remove it to end whatever is left: " + x.Damage
	}
	return status
}

// containerUser is the user of the container's first process.
func containerUser(u container.User) *runtimeapi.ContainerUser {
	user := &runtimeapi.LinuxContainerUser{Uid: int64(u.UID), Gid: int64(u.GID)}
	for _, group := range u.Groups {
		user.SupplementalGroups = append(user.SupplementalGroups, int64(group))
	}
	return &runtimeapi.ContainerUser{Linux: user}
}

// signalSigns spells the signs of real-time signals as the CRI does. It is costly to make.
var signalSigns = strings.NewReplacer("+", "PLUS", "-", "MINUS")

// shownSignal is a stop signal in the CRI's enumeration; images also write "quit" and
// "SIGRTMIN+3". A signal that the CRI does not name is shown as the default.
func shownSignal(name string) runtimeapi.Signal {
	name = signalSigns.Replace(strings.ToUpper(name))
	if !strings.HasPrefix(name, "SIG") {
		name = "SIG" + name
	}
	return runtimeapi.Signal(runtimeapi.Signal_value[signalPrefix+name])
}

// exitReason says how a container ended, in the words that the kubelet passes on to
// users.
func exitReason(s container.State) (reason, message string) {
	switch {
	case s.Run.Exit.Unknown != "":
		return "Unknown", s.Run.Exit.Unknown
	case s.Failure.Failed():
		return "StartError", s.Failure.Error()
	case s.Run.Exit.OOMKilled:
		return "OOMKilled", s.Run.Exit.Note
	case s.SeccompKilled():
		// CRI-O's words, by which its users know the seccomp notifier.
		return "seccomp killed", "Used forbidden syscalls: " + s.Blocked.String()
	case s.Run.Exit.Code == 0:
		return "Completed", s.Run.Exit.Note
	}
	return "Error", s.Run.Exit.Note
}

func containerState(x *projections.Container) runtimeapi.ContainerState {
	switch x.Stage() {
	case projections.Made:
		return runtimeapi.ContainerState_CONTAINER_CREATED
	case projections.Active:
		return runtimeapi.ContainerState_CONTAINER_RUNNING
	case projections.Over:
		return runtimeapi.ContainerState_CONTAINER_EXITED
	case projections.Hidden, projections.Unclear:
	}
	return runtimeapi.ContainerState_CONTAINER_UNKNOWN
}

// shownImage is the image as the user named it. The kubelet requests it by id and
// passes the user's name along.
func shownImage(x *projections.Container) *runtimeapi.ImageSpec {
	shown := proto.CloneOf(x.Shown.Image)
	shown.Image = cmp.Or(shown.GetUserSpecifiedImage(), shown.GetImage())
	return shown
}

// nanoseconds is the CRI's form of a time; the zero time is 0.
func nanoseconds(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixNano()
}
