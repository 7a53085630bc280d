package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/grpc"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	adminv1 "github.com/stele-runtime/stele/proto/admin/v1"
)

func imageCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "image", Short: "List, inspect, pull, load and remove images", Args: cobra.NoArgs}
	cmd.AddCommand(imageListCommand(), imageInspectCommand(), imagePullCommand(), imageLoadCommand(), imageRemoveCommand())
	return cmd
}

// with calls fn with a connection to the daemon.
func (s *source) with(ctx context.Context, fn func(context.Context, *grpc.ClientConn) error) error {
	conn, err := s.dial()
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }() // only this process has it
	return fn(ctx, conn)
}

func imageListCommand() *cobra.Command {
	var at source
	cmd := &cobra.Command{
		Use: "ls", Aliases: []string{"list"}, Short: "List the images in the store", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return at.with(cmd.Context(), func(ctx context.Context, conn *grpc.ClientConn) error {
				found, err := runtimeapi.NewImageServiceClient(conn).ListImages(ctx, &runtimeapi.ListImagesRequest{})
				if err != nil {
					return fmt.Errorf("list images: %w", err)
				}
				return printImages(cmd.OutOrStdout(), found.GetImages())
			})
		},
	}
	at.registerListen(cmd)
	return cmd
}

func printImages(out io.Writer, images []*runtimeapi.Image) error {
	table := tabwriter.NewWriter(out, 0, 8, 2, ' ', 0)
	fmt.Fprintln(table, "NAME\tID\tBYTES\tPINNED")
	for _, i := range images {
		names := i.GetRepoTags()
		if len(names) == 0 {
			names = i.GetRepoDigests()
		}
		if len(names) == 0 {
			names = []string{"<none>"}
		}
		for _, name := range names {
			fmt.Fprintf(table, "%s\t%.19s\t%d\t%t\n", name, i.GetId(), i.GetSize(), i.GetPinned())
		}
	}
	return table.Flush()
}

func imageInspectCommand() *cobra.Command {
	var at source
	var tags bool
	cmd := &cobra.Command{
		Use:   "inspect IMAGE",
		Short: "Show what is known of an image, also without pulling it",
		Long: `Show what is known of an image, as JSON: of one in the store (NAME or ID), of one in a
registry, without pulling it (docker://NAME), or of one in an archive
(oci:DIRECTORY, oci-archive:FILE, docker-archive:FILE).`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			name, err := imageName(args[0])
			if err != nil {
				return err
			}
			return at.with(cmd.Context(), func(ctx context.Context, conn *grpc.ClientConn) error {
				return printInspection(ctx, cmd.OutOrStdout(), conn, &adminv1.InspectImageRequest{Image: name, Tags: tags})
			})
		},
	}
	at.registerListen(cmd)
	cmd.Flags().BoolVar(&tags, "tags", false, "list the repository's tags, too")
	return cmd
}

// transports of images that are not in the store.
var archives = []string{"oci", "oci-archive", "docker-archive"}

// imageName completes what a user wrote: a name without a transport is one in the
// store, and the path of an archive is made absolute, as the daemon is elsewhere.
func imageName(written string) (string, error) {
	transport, path, ok := strings.Cut(written, ":")
	switch {
	case ok && slices.Contains(archives, transport):
		return absoluteSource(transport, path)
	case strings.HasPrefix(written, "docker://"), strings.HasPrefix(written, "containers-storage:"):
		return written, nil
	}
	return "containers-storage:" + written, nil
}

func absoluteSource(transport, path string) (string, error) {
	absolute, err := filepath.Abs(path)
	if err != nil {
		return "", fmt.Errorf("%s:%s: %w", transport, path, err)
	}
	return transport + ":" + absolute, nil
}

func printInspection(ctx context.Context, out io.Writer, conn *grpc.ClientConn, req *adminv1.InspectImageRequest) error {
	found, err := adminv1.NewAdminServiceClient(conn).InspectImage(ctx, req)
	if err != nil {
		return fmt.Errorf("inspect image %s: %w", req.GetImage(), err)
	}
	var shown bytes.Buffer
	if err := json.Indent(&shown, []byte(found.GetInspectionJson()), "", "  "); err != nil {
		return fmt.Errorf("inspect image %s: %w", req.GetImage(), err)
	}
	_, err = fmt.Fprintln(out, shown.String())
	return err
}

func imagePullCommand() *cobra.Command {
	var at source
	cmd := &cobra.Command{
		Use:   "pull NAME",
		Short: "Pull an image, with the credentials that the daemon is configured with",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return at.with(cmd.Context(), func(ctx context.Context, conn *grpc.ClientConn) error {
				pulled, err := runtimeapi.NewImageServiceClient(conn).PullImage(ctx, &runtimeapi.PullImageRequest{
					Image: &runtimeapi.ImageSpec{Image: args[0]},
				})
				if err != nil {
					return fmt.Errorf("pull image %s: %w", args[0], err)
				}
				fmt.Fprintln(cmd.OutOrStdout(), pulled.GetImageRef())
				return nil
			})
		},
	}
	at.registerListen(cmd)
	return cmd
}

func imageLoadCommand() *cobra.Command {
	var at source
	var name string
	cmd := &cobra.Command{
		Use:   "load SOURCE",
		Short: "Put the images of an archive into the store",
		Long: `Put the images of an archive into the store. SOURCE is oci:DIRECTORY[:IMAGE],
oci-archive:FILE[:IMAGE] or docker-archive:FILE[:IMAGE]; without IMAGE all are loaded.`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			transport, path, ok := strings.Cut(args[0], ":")
			if !ok || !slices.Contains(archives, transport) {
				return fmt.Errorf("load %s: it does not begin with one of %s", args[0], strings.Join(archives, ": ")+":")
			}
			source, err := absoluteSource(transport, path)
			if err != nil {
				return err
			}
			return at.with(cmd.Context(), func(ctx context.Context, conn *grpc.ClientConn) error {
				loaded, err := adminv1.NewAdminServiceClient(conn).LoadImage(ctx, &adminv1.LoadImageRequest{Source: source, Name: name})
				if err != nil {
					return fmt.Errorf("load %s: %w", source, err)
				}
				for _, i := range loaded.GetImages() {
					fmt.Fprintln(cmd.OutOrStdout(), i.GetName(), i.GetImageId())
				}
				return nil
			})
		},
	}
	at.registerListen(cmd)
	cmd.Flags().StringVar(&name, "name", "", "`NAME` for the source's one image, instead of its own")
	return cmd
}

func imageRemoveCommand() *cobra.Command {
	var at source
	cmd := &cobra.Command{
		Use:   "rm IMAGE...",
		Short: "Remove names from images, and images that have no other name",
		Args:  cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return at.with(cmd.Context(), func(ctx context.Context, conn *grpc.ClientConn) error {
				for _, name := range args {
					if _, err := runtimeapi.NewImageServiceClient(conn).RemoveImage(ctx, &runtimeapi.RemoveImageRequest{
						Image: &runtimeapi.ImageSpec{Image: name},
					}); err != nil {
						return fmt.Errorf("remove image %s: %w", name, err)
					}
				}
				return nil
			})
		},
	}
	at.registerListen(cmd)
	return cmd
}

// inspectImageCommand is `stele inspect image`: what is in the store under a name,
// and how far its pull is.
func inspectImageCommand() *cobra.Command {
	var at source
	cmd := &cobra.Command{
		Use:   "image [NAME]",
		Short: "Show how far pulls are, and what the store has under a name",
		Args:  cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			name := ""
			if len(args) > 0 {
				name = args[0]
			}
			return at.with(cmd.Context(), func(ctx context.Context, conn *grpc.ClientConn) error {
				return inspectImage(ctx, cmd.OutOrStdout(), conn, name)
			})
		},
	}
	at.registerListen(cmd)
	return cmd
}

func inspectImage(ctx context.Context, out io.Writer, conn *grpc.ClientConn, name string) error {
	under, err := adminv1.NewAdminServiceClient(conn).Pulls(ctx, &adminv1.PullsRequest{})
	if err != nil {
		return fmt.Errorf("ask for the pulls under way: %w", err)
	}
	pulling := false
	for _, p := range under.GetPulls() {
		if name == "" || p.GetRef() == name || p.GetName() == name {
			printPull(out, p)
			pulling = true
		}
	}
	if name == "" {
		return nil
	}
	err = printInspection(ctx, out, conn, &adminv1.InspectImageRequest{Image: "containers-storage:" + name})
	if pulling {
		return nil // it need not be there yet
	}
	return err
}

func printPull(out io.Writer, p *adminv1.Pull) {
	fmt.Fprintf(out, "%s is being pulled since %s\n", p.GetRef(), p.GetRequestedAt().AsTime().Local().Format(time.RFC3339))
	if p.GetDigest() != "" {
		fmt.Fprintf(out, "  %s@%s: %d of %d layers have come, %d bytes in all\n", p.GetName(), p.GetDigest(), p.GetLayersFetched(), p.GetLayers(), p.GetBytes())
	}
	for _, t := range p.GetTransfers() {
		fmt.Fprintf(out, "  %s: %d of %d bytes\n", t.GetDigest(), t.GetOffset(), t.GetSize())
	}
}
