package server

import (
	"context"
	"errors"
	"fmt"

	pb "github.com/stele-runtime/stele/proto/monitor/v1"
)

// failure is an error with a code of the protocol.
type failure struct {
	code    pb.Failure_Code
	message string
	runtime *pb.RuntimeFailure
}

func (f *failure) Error() string { return f.message }

func fail(code pb.Failure_Code, format string, args ...any) error {
	return &failure{code: code, message: fmt.Sprintf(format, args...)}
}

func notFound(id string) error {
	return fail(pb.Failure_CODE_NOT_FOUND, "container %q is not known to the monitor", id)
}

// toFailure returns the protocol's failure for an error.
func toFailure(err error) *pb.Failure {
	var f *failure
	switch {
	case errors.As(err, &f):
		return &pb.Failure{Code: f.code, Message: err.Error(), Runtime: f.runtime}
	case errors.Is(err, context.Canceled):
		return &pb.Failure{Code: pb.Failure_CODE_CANCELED, Message: err.Error()}
	default:
		return &pb.Failure{Code: pb.Failure_CODE_INTERNAL, Message: err.Error()}
	}
}
