package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/stele-runtime/stele/cmd/stele/internal/bundle"
	"github.com/stele-runtime/stele/cmd/stele/internal/client"
	"github.com/stele-runtime/stele/cmd/stele/internal/facts"
	"github.com/stele-runtime/stele/cmd/stele/internal/show"
)

func logCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "log", Short: "Export, back up, verify and compact the event log", Args: cobra.NoArgs}
	cmd.AddCommand(exportCommand(), backupCommand(), verifyCommand(), statsCommand(), compactCommand())
	return cmd
}

func exportCommand() *cobra.Command {
	var x export
	cmd := &cobra.Command{
		Use:   "export FILE",
		Short: "Write events and what is known of the node to one file",
		Long: `Write events and what is known of the node (kernel, versions, configurations) to one file, which
the commands of this program read with --bundle: without root, on any machine, also on macOS and
Windows.

--pod NAME selects pods with their containers, their images and the node's own events; --since and
--until select pods of which there is an event in that time. A pod is whole or not in the file.

Values of environment variables and credentials are left out, unless --environment asks for the
former. What else is in configurations, in the arguments of commands and in the containers' logs
(--logs) is not looked at.

The exit code is 0 if the file was written; 1 if nothing has the name, or the daemon, its log or
the file can't be read or written; and 2 if the command line is wrong.`,
		Args: func(cmd *cobra.Command, args []string) error { return wrongUse(cobra.ExactArgs(1)(cmd, args)) },
		RunE: func(cmd *cobra.Command, args []string) error { return x.run(cmd, args[0]) },
	}
	registerSource(cmd, &x.from)
	cmd.Flags().StringSliceVar(&x.pods, "pod", nil, "only this pod `NAME`; may be repeated")
	_ = cmd.RegisterFlagCompletionFunc("pod", completeNames) // the flag is there
	cmd.Flags().StringVar(&x.since, "since", "", "only pods with an event from this `TIME` on")
	cmd.Flags().StringVar(&x.until, "until", "", "only pods with an event until this `TIME`")
	cmd.Flags().BoolVar(&x.part.Environment, "environment", false, "with the values of environment variables, which may be secrets")
	cmd.Flags().BoolVar(&x.logs, "logs", false, "with the last MiB of each container's log")
	cmd.Flags().StringVar(&x.config, "config", "", "the daemon's configuration `FILE`, if it is not the usual one")
	return cmd
}

// export is the command's flags.
type export struct {
	from         client.Source
	pods         []string
	since, until string
	part         client.Part
	logs         bool
	config       string
}

func (x *export) run(cmd *cobra.Command, path string) (err error) {
	if x.part.Names, err = namesOf(x.pods); err != nil {
		return err
	}
	for _, bound := range []struct {
		flag, text string
		to         *time.Time
	}{{"since", x.since, &x.part.Since}, {"until", x.until, &x.part.Until}} {
		if bound.text == "" {
			continue
		}
		if *bound.to, err = show.ParseTime(bound.text, time.Now(), time.Local); err != nil {
			return wrongUse(fmt.Errorf("--%s: %w", bound.flag, err))
		}
	}
	switch {
	case !x.part.Until.IsZero() && x.part.Until.Before(x.part.Since):
		return wrongUse(fmt.Errorf("--until: %s is before --since, %s", x.until, x.since))
	case x.logs && x.from.Bundle != "":
		return wrongUse(errors.New("--logs: has no meaning with --bundle; the logs are on the node"))
	}
	if _, err := os.Lstat(path); err == nil {
		return fmt.Errorf("write %s: it exists already", path)
	}
	// Whoever sees the file sees all of it.
	file, err := os.CreateTemp(filepath.Dir(path), ".stele-export-*") // 0600
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	defer func() {
		_ = file.Close() // closed already, unless something failed
		if err != nil {
			_ = os.Remove(file.Name()) // a part of a bundle is none
		}
	}()
	m, err := x.write(cmd, file)
	if err != nil {
		return err
	}
	if err := errors.Join(file.Sync(), file.Close(), os.Rename(file.Name(), path)); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	fmt.Fprintf(cmd.OutOrStdout(), "%d records, from sequence %d to %d, are in %s\n", m.Records, m.First, m.Last, path)
	return nil
}

func (x *export) write(cmd *cobra.Command, to io.Writer) (bundle.Manifest, error) {
	w, err := bundle.NewWriter(to)
	if err != nil {
		return bundle.Manifest{}, err
	}
	history, dropped, err := x.from.Export(cmd.Context(), x.part, w.Record)
	if err != nil {
		return bundle.Manifest{}, err
	}
	if x.from.Bundle == "" {
		of := facts.Node{Stele: version, Config: x.config, Warnings: x.from.Warnings}
		if x.from.Live() {
			of.Info = func() (map[string]string, error) { return x.from.Info(cmd.Context()) }
		}
		if err := of.Write(w.File); err != nil {
			return bundle.Manifest{}, err
		}
		if x.logs {
			if err := of.Logs(history, w.File); err != nil {
				return bundle.Manifest{}, err
			}
		}
	}
	m := bundle.Manifest{Made: time.Now().UTC(), Stele: version, Selected: x.selected(), Environment: x.part.Environment}
	if dropped.Records > 0 {
		m.Dropped = dropped.String()
	}
	return w.Close(m)
}

// selected is what was asked for, in words.
func (x *export) selected() string {
	said := "all pods"
	if len(x.pods) > 0 {
		said = "pods " + strings.Join(x.pods, ", ")
	}
	if x.since != "" {
		said += ", with events since " + x.part.Since.UTC().Format(time.RFC3339)
	}
	if x.until != "" {
		said += ", with events until " + x.part.Until.UTC().Format(time.RFC3339)
	}
	return said
}
