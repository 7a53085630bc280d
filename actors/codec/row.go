package codec

import (
	"reflect"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/stele-runtime/stele/actors/fault"
	pb "github.com/stele-runtime/stele/proto/event/v1"
)

// pointer is the generated message that P points to.
type pointer[M any] interface {
	*M
	proto.Message
}

// message is the row of an event T of the machine whose Event is E; it is stored
// as the message M.
func message[E, T, M any, P pointer[M]](name string, to func(T) P, from func(P) T) row[E] {
	times := timesOf(P(nil).ProtoReflect().Descriptor())
	return row[E]{
		name: name, event: reflect.TypeFor[T](),
		encode: func(e E) proto.Message { return to(any(e).(T)) },
		decode: func(payload []byte) (proto.Message, E, error) {
			m := P(new(M))
			if err := unmarshal(payload, m, times); err != nil {
				var none E
				return nil, none, err
			}
			return m, any(from(m)).(E), nil
		},
	}
}

// plain is the row of an event that has no fields.
func plain[E any, T ~struct{}, M any, P pointer[M]](name string) row[E] {
	return message[E](name, func(T) P { return new(M) }, func(P) T { return T{} })
}

// failed is the row of an event that has only a fault.
func failed[E any, T ~struct{ Fault fault.Fault }, M any, P interface {
	pointer[M]
	GetFault() *pb.Fault
}](name string, to func(*pb.Fault) P) row[E] {
	type failure struct{ Fault fault.Fault }
	return message[E](name,
		func(e T) P { return to(faultTo(failure(e).Fault)) },
		func(m P) T { return T(failure{faultFrom(m.GetFault())}) })
}

// retried is the row of an event that has only a fault and the time of the retry.
func retried[E any, T ~struct {
	Fault   fault.Fault
	RetryAt time.Time
}, M any, P interface {
	pointer[M]
	GetFault() *pb.Fault
	GetRetryAt() *timestamppb.Timestamp
}](name string, to func(*pb.Fault, *timestamppb.Timestamp) P) row[E] {
	type retry struct {
		Fault   fault.Fault
		RetryAt time.Time
	}
	return message[E](name,
		func(e T) P { return to(faultTo(retry(e).Fault), stamp(retry(e).RetryAt)) },
		func(m P) T { return T(retry{faultFrom(m.GetFault()), at(m.GetRetryAt())}) })
}
