package codec

import (
	"time"

	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/stele-runtime/stele/actors/fault"
	pb "github.com/stele-runtime/stele/proto/event/v1"
)

// stamp is a time on disk; the zero time is absent.
func stamp(t time.Time) *timestamppb.Timestamp {
	if t.IsZero() {
		return nil
	}
	return timestamppb.New(t)
}

// at is a time from disk, in UTC.
func at(t *timestamppb.Timestamp) time.Time {
	if t == nil {
		return time.Time{}
	}
	return t.AsTime()
}

func span(d time.Duration) *durationpb.Duration {
	if d == 0 {
		return nil
	}
	return durationpb.New(d)
}

func faultTo(f fault.Fault) *pb.Fault {
	return &pb.Fault{Op: f.Op, Kind: string(f.Kind), Subject: f.Subject, Reason: f.Reason}
}

func faultFrom(f *pb.Fault) fault.Fault {
	return fault.Fault{Op: f.GetOp(), Kind: fault.Kind(f.GetKind()), Subject: f.GetSubject(), Reason: f.GetReason()}
}

func retryTo(f fault.Fault, at time.Time) *pb.Retry {
	return &pb.Retry{Fault: faultTo(f), RetryAt: stamp(at)}
}
