package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"path/filepath"
	"slices"
	"time"

	"github.com/docker/go-units"
	"github.com/spf13/cobra"

	"github.com/stele-runtime/stele/cmd/stele/internal/client"
	"github.com/stele-runtime/stele/eventlog"
	adminv1 "github.com/stele-runtime/stele/proto/admin/v1"
)

// registerLog adds the flags that say whose log is meant.
func registerLog(cmd *cobra.Command, from *client.Source) {
	registerListen(cmd, from)
	cmd.Flags().StringVar(&from.Root, "root", "", "the log below this `DIR`, of a daemon that is not running")
}

func backupCommand() *cobra.Command {
	var from client.Source
	cmd := &cobra.Command{
		Use:   "backup FILE",
		Short: "Copy the event log to a new file",
		Long: `Copy the event log to a new file, which is a log of its own. The daemon serves meanwhile.

The copy has everything that was appended before the command. It holds what users put into
environments, so that only root can read it. A daemon that finds its log damaged goes on from the
newest of its own backups, in the directory backups below its root directory.

The exit code is 0 if the file was written; 1 if it exists already, or it or the log can't be
written or read; and 2 if the command line is wrong.`,
		Args: func(cmd *cobra.Command, args []string) error { return wrongUse(cobra.ExactArgs(1)(cmd, args)) },
		RunE: func(cmd *cobra.Command, args []string) error {
			path, err := filepath.Abs(args[0])
			if err != nil {
				return err
			}
			made, err := from.BackupLog(cmd.Context(), path)
			if err != nil {
				return err
			}
			fmt.Fprintf(cmd.OutOrStdout(), "the log up to record %d is in %s, %s\n", made.GetLastSequence(), path, bytes(made.GetBytes()))
			return nil
		},
	}
	registerLog(cmd, &from)
	return cmd
}

// errDamaged is what verify returns after it has listed the damage.
var errDamaged = errors.New("the log is damaged")

func verifyCommand() *cobra.Command {
	var from client.Source
	cmd := &cobra.Command{
		Use:   "verify [FILE]",
		Short: "Read the whole event log and report damage",
		Long: `Read the whole event log and report damage: of a running daemon, of a stopped one (--root), or in a
FILE, such as a backup or a log that was set aside.

What was removed on purpose is no damage. Records of types that this version does not know are
counted: those that it passes over, as their writer allows, and those that it cannot read.

The exit code is 0 if nothing is damaged; 1 if something is, or the log can't be read; and 2 if the
command line is wrong.`,
		Args: func(cmd *cobra.Command, args []string) error { return wrongUse(cobra.MaximumNArgs(1)(cmd, args)) },
		RunE: func(cmd *cobra.Command, args []string) error {
			var found *adminv1.VerifyLogResponse
			var err error
			if len(args) == 0 {
				found, err = from.VerifyLog(cmd.Context())
			} else if err = fileAlone(cmd, &from, args[0]); err == nil {
				found, err = client.VerifyFile(cmd.Context(), args[0])
			}
			if err != nil {
				return err
			}
			return verified(cmd.OutOrStdout(), found)
		},
	}
	registerLog(cmd, &from)
	return cmd
}

// verified prints what a verification found.
func verified(to io.Writer, found *adminv1.VerifyLogResponse) error {
	fmt.Fprintf(to, "%d records, from sequence %d to %d, of %d streams; %d checkpoints; %s\n",
		found.GetRecords(), found.GetFirstSequence(), found.GetLastSequence(), found.GetStreams(), found.GetCheckpoints(), bytes(found.GetBytes()))
	if removed := eventlog.Rules(found.GetRemoved()); removed.Total() > 0 {
		fmt.Fprintf(to, "%d records were removed on purpose: %s\n", removed.Total(), removed)
	}
	for _, count := range []struct {
		n    uint64
		what string
	}{
		{found.GetPassedOver(), "records are of newer types, and this version passes them over"},
		{found.GetUnreadable(), "records are of types that this version cannot read, and end their streams"},
	} {
		if count.n > 0 {
			fmt.Fprintf(to, "%d %s\n", count.n, count.what)
		}
	}
	if found.GetDamaged() == 0 {
		fmt.Fprintln(to, "nothing is damaged")
		return nil
	}
	for _, damage := range found.GetDamage() {
		fmt.Fprintln(to, damage)
	}
	return fmt.Errorf("%w: %d places", errDamaged, found.GetDamaged())
}

func statsCommand() *cobra.Command {
	var from client.Source
	var o output
	cmd := &cobra.Command{
		Use:   "stats [FILE]",
		Short: "Print figures of the event log",
		Long: `Print figures of the event log: its size, what is in it and what was removed on purpose; of a running
daemon, which also says what was appended since its start and how long that took, which backups
there are, and which damaged logs were set aside; of a stopped one (--root); or of a FILE.

The exit code is 0; 1 if the daemon can't be asked or the log can't be read; and 2 if the command
line is wrong.`,
		Args: func(cmd *cobra.Command, args []string) error { return wrongUse(cobra.MaximumNArgs(1)(cmd, args)) },
		RunE: func(cmd *cobra.Command, args []string) error {
			var stats *adminv1.LogStatsResponse
			var err error
			if len(args) == 0 {
				stats, err = from.LogStats(cmd.Context())
			} else if err = fileAlone(cmd, &from, args[0]); err == nil {
				stats, err = client.FileStats(cmd.Context(), args[0])
			}
			if err != nil {
				return err
			}
			return printStats(cmd.OutOrStdout(), logFigures(stats, len(args) == 0 && from.Live()), o.format == "json")
		},
	}
	registerLog(cmd, &from)
	o.register(cmd, "text", "json")
	return cmd
}

// fileAlone refuses a file that is given beside a daemon.
func fileAlone(cmd *cobra.Command, from *client.Source, file string) error {
	if from.Root != "" || cmd.Flags().Changed("listen") {
		return wrongUse(fmt.Errorf("%s: a file is given, and a daemon, too", file))
	}
	return nil
}

func compactCommand() *cobra.Command {
	var from client.Source
	cmd := &cobra.Command{
		Use:   "compact",
		Short: "Give the event log's unused space back to the file system",
		Long: `Give the event log's unused space back to the file system: of a running daemon, which serves
meanwhile and does this by itself from time to time, or of a stopped one (--root). It needs as much
free space as the log will have.

The exit code is 0; 1 if the log can't be compacted, which leaves it as it was; and 2 if the command
line is wrong.`,
		Args: func(cmd *cobra.Command, args []string) error { return wrongUse(cobra.NoArgs(cmd, args)) },
		RunE: func(cmd *cobra.Command, _ []string) error {
			done, err := from.CompactLog(cmd.Context())
			if err != nil {
				return err
			}
			fmt.Fprintf(cmd.OutOrStdout(), "the log has %s, and had %s\n", bytes(done.GetAfter()), bytes(done.GetBefore()))
			return nil
		},
	}
	registerLog(cmd, &from)
	return cmd
}

// figure is a line of stats.
type figure struct {
	key   string
	value any
}

// logFigures are those of a file, and of a daemon if there is one.
func logFigures(s *adminv1.LogStatsResponse, live bool) []figure {
	figures := []figure{
		{"bytes", s.GetBytes()}, {"free_bytes", s.GetFreeBytes()}, {"record_bytes", s.GetRecordBytes()}, {"records", s.GetKeptRecords()},
		{"first_sequence", s.GetFirstSequence()}, {"last_sequence", s.GetLastSequence()},
	}
	removed := s.GetRemoved()
	for _, rule := range slices.Sorted(maps.Keys(removed)) {
		figures = append(figures, figure{"removed_" + rule, removed[rule]})
	}
	if !live {
		return figures
	}
	mean := time.Duration(0)
	if n := s.GetAppends(); n > 0 {
		mean = s.GetWaitTime().AsDuration() / time.Duration(n)
	}
	return append(figures, []figure{
		{"appended_records", s.GetRecords()}, {"appends", s.GetAppends()}, {"commits", s.GetCommits()}, {"mean_wait", mean.Round(time.Microsecond).String()},
		{"passed_over", s.GetPassedOver()},
		{"backups", list(s.GetBackups())}, {"backup_problem", s.GetBackupProblem()}, {"set_aside", list(s.GetSetAside())},
		{"problem", s.GetProblem()},
	}...)
}

// list is never nil, so that JSON has an empty list.
func list(all []string) []string { return append([]string{}, all...) }

func printStats(to io.Writer, figures []figure, asJSON bool) error {
	if asJSON {
		all := map[string]any{}
		for _, f := range figures {
			all[f.key] = f.value
		}
		encoder := json.NewEncoder(to)
		encoder.SetIndent("", "  ")
		return encoder.Encode(all)
	}
	for _, f := range figures {
		paths, many := f.value.([]string)
		switch {
		case many:
			for _, path := range paths {
				fmt.Fprintf(to, "%-20s %s\n", f.key, path)
			}
		case f.value != "":
			fmt.Fprintf(to, "%-20s %v\n", f.key, f.value)
		}
	}
	return nil
}

// bytes is a size as people read it.
func bytes(n int64) string { return units.BytesSize(float64(n)) }
