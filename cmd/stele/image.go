package main

import (
	"context"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/grpc"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/stele-runtime/stele/cmd/stele/internal/client"
	"github.com/stele-runtime/stele/cmd/stele/internal/show"
	adminv1 "github.com/stele-runtime/stele/proto/admin/v1"
)

func imageCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "image", Short: "List, inspect, pull, load and remove images", Args: cobra.NoArgs}
	cmd.AddCommand(imageListCommand(), imageInspectCommand(), imagePullCommand(), imageLoadCommand(), imageRemoveCommand())
	return cmd
}

func imageListCommand() *cobra.Command {
	var at client.Source
	cmd := &cobra.Command{
		Use: "ls", Aliases: []string{"list"}, Short: "List the images in the store", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return at.With(func(conn *grpc.ClientConn) error {
				found, err := runtimeapi.NewImageServiceClient(conn).ListImages(cmd.Context(), &runtimeapi.ListImagesRequest{})
				if err != nil {
					return fmt.Errorf("list images: %w", err)
				}
				return show.Images(cmd.OutOrStdout(), found.GetImages())
			})
		},
	}
	registerListen(cmd, &at)
	return cmd
}

func imageInspectCommand() *cobra.Command {
	var at client.Source
	var tags bool
	cmd := &cobra.Command{
		Use:   "inspect IMAGE",
		Short: "Describe an image without pulling it",
		Long: `Describe an image as JSON: one in the store (NAME or ID), in a registry, without pulling
it (docker://NAME), or in an archive (oci:DIRECTORY, oci-archive:FILE,
docker-archive:FILE).`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			name, err := imageName(args[0])
			if err != nil {
				return err
			}
			return at.With(func(conn *grpc.ClientConn) error {
				return printInspection(cmd.Context(), cmd.OutOrStdout(), conn, &adminv1.InspectImageRequest{Image: name, Tags: tags})
			})
		},
	}
	registerListen(cmd, &at)
	cmd.Flags().BoolVar(&tags, "tags", false, "list the repository's tags, too")
	return cmd
}

// transports of images that are not in the store.
var archives = []string{"oci", "oci-archive", "docker-archive"}

// imageName completes a user's name: without a transport it is one in the store, and an
// archive's path is made absolute, as the daemon has another working directory.
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
	if err := show.JSON(out, found.GetInspectionJson()); err != nil {
		return fmt.Errorf("inspect image %s: %w", req.GetImage(), err)
	}
	return nil
}

func imagePullCommand() *cobra.Command {
	var at client.Source
	cmd := &cobra.Command{
		Use:   "pull NAME",
		Short: "Pull an image with the daemon's configured credentials",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return at.With(func(conn *grpc.ClientConn) error {
				pulled, err := runtimeapi.NewImageServiceClient(conn).PullImage(cmd.Context(), &runtimeapi.PullImageRequest{
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
	registerListen(cmd, &at)
	return cmd
}

func imageLoadCommand() *cobra.Command {
	var at client.Source
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
				return fmt.Errorf("load %s: the source must begin with one of %s", args[0], strings.Join(archives, ": ")+":")
			}
			source, err := absoluteSource(transport, path)
			if err != nil {
				return err
			}
			return at.With(func(conn *grpc.ClientConn) error {
				loaded, err := adminv1.NewAdminServiceClient(conn).LoadImage(cmd.Context(), &adminv1.LoadImageRequest{Source: source, Name: name})
				if err != nil {
					return fmt.Errorf("load %s: %w", source, err)
				}
				return show.Loaded(cmd.OutOrStdout(), loaded.GetImages())
			})
		},
	}
	registerListen(cmd, &at)
	cmd.Flags().StringVar(&name, "name", "", "`NAME` for the source's only image, instead of its own")
	return cmd
}

func imageRemoveCommand() *cobra.Command {
	var at client.Source
	cmd := &cobra.Command{
		Use:   "rm IMAGE...",
		Short: "Remove names from images, and images that have no other name",
		Args:  cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return at.With(func(conn *grpc.ClientConn) error {
				for _, name := range args {
					if _, err := runtimeapi.NewImageServiceClient(conn).RemoveImage(cmd.Context(), &runtimeapi.RemoveImageRequest{
						Image: &runtimeapi.ImageSpec{Image: name},
					}); err != nil {
						return fmt.Errorf("remove image %s: %w", name, err)
					}
				}
				return nil
			})
		},
	}
	registerListen(cmd, &at)
	return cmd
}

// inspectImageCommand is `stele inspect image`: the image that the store has under a
// name, and the progress of its pull.
func inspectImageCommand() *cobra.Command {
	var at client.Source
	cmd := &cobra.Command{
		Use:   "image [NAME]",
		Short: "Show the progress of pulls, and the image that the store has under a name",
		Args:  cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			name := ""
			if len(args) > 0 {
				name = args[0]
			}
			return at.With(func(conn *grpc.ClientConn) error {
				return inspectImage(cmd.Context(), cmd.OutOrStdout(), conn, name)
			})
		},
	}
	registerListen(cmd, &at)
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
			if err := show.Pull(out, p, time.Local); err != nil {
				return err
			}
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
