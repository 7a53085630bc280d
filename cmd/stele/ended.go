package main

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strings"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/stele-runtime/stele/actors/codec"
	"github.com/stele-runtime/stele/actors/container"
	"github.com/stele-runtime/stele/actors/sandbox"
	"github.com/stele-runtime/stele/eventlog"
	adminv1 "github.com/stele-runtime/stele/proto/admin/v1"
)

// ended reads the last states of what is gone from memory out of the log: sandboxes
// that are meant by the beginning of an id or by a pod's name, with their
// containers, and containers by the beginning of an id.
func ended(ctx context.Context, log eventlog.Reader, name string) ([]*adminv1.Entity, error) {
	sandboxes, containers := map[string]sandbox.State{}, map[string]container.State{}
	for record, err := range log.Read(ctx, 1) {
		if err != nil {
			if ctx.Err() != nil {
				return nil, status.FromContextError(ctx.Err()).Err()
			}
			continue // one that is damaged; `stele events` says so
		}
		kind, of, _ := strings.Cut(string(record.Stream), "/")
		switch kind {
		case "sandbox":
			if e, err := codec.DecodeSandbox(record.Type, record.Schema, record.Payload); err == nil {
				sandboxes[of] = sandbox.Evolve(sandboxes[of], e)
			}
		case "container":
			if e, err := codec.DecodeContainer(record.Type, record.Schema, record.Payload); err == nil {
				containers[of] = container.Evolve(containers[of], e)
			}
		}
	}
	var entities []*adminv1.Entity
	var failed error
	add := func(e *adminv1.Entity, err error) {
		entities, failed = append(entities, e), errors.Join(failed, err)
	}
	meant := func(s string) bool {
		return strings.HasPrefix(s, name) || sandboxes[s].Name.Name == name
	}
	for _, s := range slices.Sorted(maps.Keys(sandboxes)) {
		if meant(s) {
			add(toEntity("sandbox/"+s, sandboxes[s], sandbox.Owed(sandboxes[s])))
		}
	}
	for _, c := range slices.Sorted(maps.Keys(containers)) {
		if strings.HasPrefix(c, name) || meant(string(containers[c].Sandbox)) {
			add(toEntity("container/"+c, containers[c], container.Owed(containers[c])))
		}
	}
	if failed != nil {
		return nil, status.Errorf(codes.Internal, "inspect %s: %v", name, failed)
	}
	return entities, nil
}
