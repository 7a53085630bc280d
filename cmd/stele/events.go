package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	"github.com/stele-runtime/stele/actors/codec"
	"github.com/stele-runtime/stele/cmd/stele/internal/config"
	"github.com/stele-runtime/stele/eventlog"
	"github.com/stele-runtime/stele/eventlog/boltlog"
	adminv1 "github.com/stele-runtime/stele/proto/admin/v1"
)

// source is where a tool reads from: a running daemon, or the file of one that is
// not running.
type source struct{ listen, root string }

func (s *source) register(cmd *cobra.Command) {
	s.registerListen(cmd)
	cmd.Flags().StringVar(&s.root, "root", "", "read the log below this `DIR`, of a daemon that is not running")
}

func (s *source) registerListen(cmd *cobra.Command) {
	cmd.Flags().StringVar(&s.listen, "listen", config.Default().Listen, "`ADDRESS` of the daemon's socket")
}

func (s *source) dial() (*grpc.ClientConn, error) {
	conn, err := grpc.NewClient(s.listen, grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(messageMost)))
	if err != nil {
		return nil, fmt.Errorf("reach the daemon at %s: %w", s.listen, err)
	}
	return conn, nil
}

func eventsCommand() *cobra.Command {
	var from source
	var follow, asJSON, configs, environment bool
	var first uint64
	cmd := &cobra.Command{
		Use:   "events [ID | STREAM]...",
		Short: "Print what happened, in order",
		Long: `Print the records of the event log, in order: all of them, or those of the
sandboxes and containers whose ids begin as given. A sandbox stands for its
containers, too. The node's own events are the stream "node".`,
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx, stop := signal.NotifyContext(cmd.Context(), os.Interrupt, syscall.SIGTERM)
			defer stop()
			print := printEvent
			if asJSON {
				print = printEventJSON
			}
			var details []codec.Detail
			if configs || environment {
				details = append(details, codec.Configs)
			}
			if environment {
				details = append(details, codec.Environment)
			}
			about := newSelection(args)
			return from.events(ctx, first, follow, func(r *adminv1.Record) error {
				if !about.has(r) {
					return nil
				}
				return print(cmd.OutOrStdout(), r, details...)
			})
		},
	}
	from.register(cmd)
	cmd.Flags().Uint64Var(&first, "from", 0, "begin with this `SEQUENCE`")
	cmd.Flags().BoolVarP(&follow, "follow", "f", false, "go on with what happens next")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print one JSON object a line")
	cmd.Flags().BoolVar(&configs, "configs", false, "show the CRI's configurations, without the values of environment variables")
	cmd.Flags().BoolVar(&environment, "environment", false, "show the configurations with the values of environment variables, which may be secrets")
	return cmd
}

// events calls each with the records of the source.
func (s *source) events(ctx context.Context, first uint64, follow bool, each func(*adminv1.Record) error) error {
	if s.root != "" {
		return s.eventsOfFile(ctx, first, follow, each)
	}
	conn, err := s.dial()
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }() // only this process has it
	stream, err := adminv1.NewAdminServiceClient(conn).Events(ctx, &adminv1.EventsRequest{From: first, Follow: follow})
	if err != nil {
		return fmt.Errorf("ask the daemon at %s for events: %w", s.listen, err)
	}
	for {
		got, err := stream.Recv()
		if errors.Is(err, io.EOF) || status.Code(err) == codes.Canceled && ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return fmt.Errorf("ask the daemon at %s for events: %w", s.listen, err)
		}
		if damage := got.GetDamage(); damage != "" {
			fmt.Fprintln(os.Stderr, "stele:", damage)
			continue
		}
		if err := each(got.GetRecord()); err != nil {
			return err
		}
	}
}

func (s *source) eventsOfFile(ctx context.Context, first uint64, follow bool, each func(*adminv1.Record) error) error {
	if follow {
		return errors.New("--follow needs a running daemon, and --root is for one that is not running")
	}
	log, err := boltlog.OpenReadOnly(filepath.Join(s.root, eventsFile))
	if err != nil {
		return err
	}
	defer func() { _ = log.Close() }() // read-only
	for record, err := range log.Read(ctx, eventlog.Sequence(max(1, first))) {
		if err != nil {
			if damage, ok := errors.AsType[*eventlog.DamageError](err); ok {
				fmt.Fprintln(os.Stderr, "stele:", damage)
				continue
			}
			return err
		}
		if err := each(toRecord(record)); err != nil {
			return err
		}
	}
	return nil
}

// selection is what a user wants to read about. It learns from the records which
// containers belong to a sandbox.
type selection struct {
	names   []string
	streams map[string]bool
}

func newSelection(names []string) *selection {
	return &selection{names: names, streams: map[string]bool{}}
}

func (s *selection) has(r *adminv1.Record) bool {
	if len(s.names) == 0 {
		return true
	}
	stream := r.GetStream()
	if s.streams[stream] {
		return true
	}
	_, name, _ := strings.Cut(stream, "/")
	wanted := slices.ContainsFunc(s.names, func(n string) bool {
		return n == stream || name != "" && strings.HasPrefix(name, n)
	})
	if !wanted && strings.HasPrefix(r.GetType(), "container.ContainerRequested.") {
		if e, err := codec.DecodeContainer(r.GetType(), r.GetSchema(), r.GetPayload()); err == nil {
			wanted = s.streams[sandboxOf(e)]
		}
	}
	if wanted {
		s.streams[stream] = true
	}
	return wanted
}

func printEvent(to io.Writer, r *adminv1.Record, details ...codec.Detail) error {
	what := r.GetType()
	var fields strings.Builder
	if d, err := codec.Describe(r.GetType(), r.GetSchema(), r.GetPayload(), details...); err != nil {
		fmt.Fprintf(&fields, " (%v)", err)
	} else {
		what = d.Name
		for _, f := range d.Fields {
			fmt.Fprintf(&fields, " %s=%s", f.Name, f.Value)
		}
	}
	_, err := fmt.Fprintf(to, "%6d %s %-23s %-4d %-22s%s\n", r.GetSequence(), r.GetTime().AsTime().Local().Format("15:04:05.000000"),
		shortStream(r.GetStream()), r.GetVersion(), what, fields.String())
	return err
}

func printEventJSON(to io.Writer, r *adminv1.Record, details ...codec.Detail) error {
	shown := struct {
		Sequence  uint64            `json:"sequence"`
		Time      time.Time         `json:"time"`
		SinceBoot time.Duration     `json:"sinceBootNanoseconds"`
		BootID    string            `json:"bootId"`
		Stream    string            `json:"stream"`
		Version   uint64            `json:"version"`
		Type      string            `json:"type"`
		Command   string            `json:"command,omitempty"`
		Cause     uint64            `json:"cause,omitempty"`
		Fields    map[string]string `json:"fields,omitempty"`
		Problem   string            `json:"problem,omitempty"`
	}{
		Sequence: r.GetSequence(), Time: r.GetTime().AsTime(), SinceBoot: r.GetSinceBoot().AsDuration(), BootID: r.GetBootId(),
		Stream: r.GetStream(), Version: r.GetVersion(), Type: r.GetType(), Command: r.GetCommand(), Cause: r.GetCause(),
	}
	d, err := codec.Describe(r.GetType(), r.GetSchema(), r.GetPayload(), details...)
	if err != nil {
		shown.Problem = err.Error()
	}
	for _, f := range d.Fields {
		if shown.Fields == nil {
			shown.Fields = map[string]string{}
		}
		shown.Fields[f.Name] = f.Value
	}
	return json.NewEncoder(to).Encode(shown)
}
