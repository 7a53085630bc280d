package codec

import (
	"time"

	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/stele-runtime/stele/actors/fault"
	pb "github.com/stele-runtime/stele/proto/event/v1"
)

// latest is the last time that both a Timestamp and JSON can hold.
var latest = time.Date(9999, 12, 31, 23, 59, 59, 999999999, time.UTC)

// stamp is a time on disk; the zero time is absent. A later time than latest becomes
// latest: a decoder would refuse it.
func stamp(t time.Time) *timestamppb.Timestamp {
	if !t.After(time.Time{}) {
		return nil
	}
	if t.After(latest) {
		t = latest
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

// span is a duration on disk; zero is absent.
func span(d time.Duration) *durationpb.Duration {
	if d == 0 {
		return nil
	}
	return durationpb.New(d)
}

// faultTo is a failure on disk.
func faultTo(f fault.Fault) *pb.Fault {
	return &pb.Fault{Op: f.Op, Kind: string(f.Kind), Subject: f.Subject, Reason: f.Reason}
}

// faultFrom is a failure from disk. It keeps a kind that this version doesn't know.
func faultFrom(f *pb.Fault) fault.Fault {
	return fault.Fault{Op: f.GetOp(), Kind: fault.Kind(f.GetKind()), Subject: f.GetSubject(), Reason: f.GetReason()}
}
