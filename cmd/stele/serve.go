package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/grpc"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/stele-runtime/stele/actors/host"
	"github.com/stele-runtime/stele/actors/image"
	"github.com/stele-runtime/stele/actors/node"
	"github.com/stele-runtime/stele/actors/redact"
	"github.com/stele-runtime/stele/cmd/stele/internal/config"
	"github.com/stele-runtime/stele/cri"
	"github.com/stele-runtime/stele/eventlog/boltlog"
	"github.com/stele-runtime/stele/executors"
	"github.com/stele-runtime/stele/projections"
	adminv1 "github.com/stele-runtime/stele/proto/admin/v1"
)

const (
	// messageMost is the size in bytes of the largest gRPC message, in both
	// directions; the kubelet's client has the same.
	messageMost = 16 << 20
	// stopWithin bounds the orderly end: calls under way get half of it and
	// effects the other half. What does not end in it is finished by the next
	// daemon.
	stopWithin = 10 * time.Second
	// eventsFile is the log below the root directory.
	eventsFile = "events.db"
)

func serveCommand() *cobra.Command {
	var flags config.Flags
	cmd := &cobra.Command{
		Use:   "serve",
		Short: "Run the daemon",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := flags.Load(cmd.Flags())
			if err != nil {
				return err
			}
			ctx, stop := signal.NotifyContext(cmd.Context(), os.Interrupt, syscall.SIGTERM)
			defer stop()
			return serve(ctx, c)
		},
	}
	flags.Register(cmd.Flags())
	return cmd
}

// serve runs the daemon until ctx is done. It reads as the list of the daemon's
// parts, in the order in which each needs the one before.
func serve(ctx context.Context, c config.Config) error {
	logger := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: c.Level(), ReplaceAttr: redact.Attr}))
	if err := makeDirs(c); err != nil {
		return err
	}

	// The log, and what it says.
	log, err := boltlog.Open(boltlog.Options{Path: filepath.Join(c.Root, eventsFile), Logger: logger})
	if err != nil {
		return fmt.Errorf("open the event log: %w", err)
	}
	defer func() {
		if err := log.Close(); err != nil {
			logger.Error("event log not closed", "error", err)
		}
	}()
	feed, err := projections.Open(ctx, log, logger)
	if err != nil {
		return fmt.Errorf("rebuild the projections: %w", err)
	}
	following, stopFollowing := context.WithCancel(context.Background())
	followed := make(chan struct{})
	go func() {
		defer close(followed)
		_ = feed.Run(following) // Health says why it stopped
	}()
	defer func() {
		stopFollowing()
		<-followed
	}()

	// The socket is there early, and served when all else is: making it changes the
	// mask of the process for a moment, in which nothing may be made.
	listener, err := listenUnix(c)
	if err != nil {
		return err
	}
	defer func() { _ = listener.Close() }() // after an orderly end it is closed already

	// What acts.
	reports := newReports()
	drivers, err := openDrivers(ctx, c, reports, logger)
	if err != nil {
		return err
	}
	defer drivers.close()
	credentials, execs := executors.NewCredentials(), executors.NewExecs()
	executor := executors.New(executors.Config{
		Drivers: drivers.Drivers, RootDir: c.Root, StateDir: c.State,
		MonitorBinary: c.Monitor, MaxLogSize: c.Runtime.MaxLogSize,
		Credentials: credentials, Execs: execs, Pulls: executors.NewPulls(), Logger: logger,
	})

	// What decides.
	actors, err := node.New(node.Config{Log: log, Executor: executor, Await: feed.Await, RecallImage: feed.Image, Logger: logger})
	if err != nil {
		return err
	}
	// For an end before the daemon serves: what is under way must not meet drivers
	// that are closed. After an orderly end it does nothing.
	defer func() {
		ending, cancel := context.WithTimeout(context.Background(), stopWithin)
		defer cancel()
		actors.Close(ending)
	}()
	executor.ImageNews = func(ctx context.Context, ref string, c image.Command) error {
		_, err := actors.Image(ctx, ref, c, nil)
		return err
	}
	if err := boot(ctx, actors, feed, executor, drivers, logger); err != nil {
		return err
	}
	background, endBackground := context.WithCancel(context.Background())
	done := drivers.follow(background, actors, reports, logger)
	defer func() {
		endBackground()
		<-done
	}()

	// Who asks.
	service := cri.New(cri.Parts{
		Actors: actors, Views: feed.Live, Images: imageStore{&drivers.Drivers},
		Credentials: credentials, Execs: execs, Validator: validator{drivers.Cgroups},
		Health:   cri.Health{Log: func() error { return cmp.Or(feed.Health(), log.Health()) }, Monitor: drivers.monitorHealth, Network: drivers.networkHealth},
		Handlers: drivers.handlers(c.Runtime.Default), DefaultHandler: c.Runtime.Default,
		CgroupDriver: drivers.cgroupDriver(), Version: version,
		Info: info(c, feed.Live, log), Logger: logger,
	})
	server := grpc.NewServer(
		grpc.MaxRecvMsgSize(messageMost), grpc.MaxSendMsgSize(messageMost),
		grpc.UnaryInterceptor(cri.UnaryErrors),
	)
	runtimeapi.RegisterRuntimeServiceServer(server, service)
	runtimeapi.RegisterImageServiceServer(server, service)
	adminv1.RegisterAdminServiceServer(server, &admin{
		log: log, live: feed.Live, actors: actors, drivers: drivers, pulls: executor.Pulls,
	})
	measuring, endMeasuring := context.WithCancel(background)
	measured, err := serveMetrics(measuring, c.Metrics.Listen, metrics(log, feed.Live, executor.Pulls), logger)
	if err != nil {
		endMeasuring()
		return err
	}
	defer func() {
		endMeasuring()
		<-measured
	}()
	return answer(ctx, listener, server, actors, logger)
}

// answer serves until ctx is done, then ends everything in order.
func answer(ctx context.Context, listener net.Listener, server *grpc.Server, actors *node.Node, logger *slog.Logger) (err error) {
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	logger.Info("serving", "address", listener.Addr().String(), "version", version, "pid", os.Getpid())

	select {
	case <-ctx.Done():
	case err = <-served:
		err = fmt.Errorf("serve %s: %w", listener.Addr(), err)
	}
	ending, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopWithin)
	defer cancel()
	drained := context.AfterFunc(halfOf(ending), server.Stop)
	server.GracefulStop()
	drained()
	if recordErr := actors.Host(ending, host.StopDaemon{At: time.Now().UTC()}); recordErr != nil {
		err = errors.Join(err, fmt.Errorf("record the daemon's stop: %w", recordErr))
	}
	actors.Close(ending)
	logger.Info("stopped", "pid", os.Getpid())
	return err
}

// halfOf returns a context that ends when half of ctx's time has passed.
func halfOf(ctx context.Context) context.Context {
	deadline, _ := ctx.Deadline()
	half, cancel := context.WithDeadline(ctx, time.Now().Add(time.Until(deadline)/2))
	context.AfterFunc(ctx, cancel)
	return half
}

// listenUnix makes the socket, in place of one that a daemon left that is gone:
// the event log's lock says that no other daemon runs on this root.
func listenUnix(c config.Config) (net.Listener, error) {
	path := c.Socket()
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, fmt.Errorf("make the socket's directory: %w", err)
	}
	if info, err := os.Lstat(path); err == nil && info.Mode().Type() != fs.ModeSocket {
		return nil, fmt.Errorf("listen: %s is there and is not a socket", path)
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("remove the old socket: %w", err)
	}
	// No moment may pass in which another user can connect.
	before := syscall.Umask(0o177)
	defer syscall.Umask(before)
	listener, err := net.Listen("unix", path)
	if err != nil {
		return nil, fmt.Errorf("listen: %w", err)
	}
	return listener, nil
}

func makeDirs(c config.Config) error {
	for dir, mode := range map[string]fs.FileMode{
		c.Root: 0o700,
		// Container processes pass through to their bind mounts' sources only in
		// the kernel, but runtimes that drop privileges walk the path.
		c.State: 0o711,
	} {
		if err := os.MkdirAll(dir, mode); err != nil {
			return fmt.Errorf("make the daemon's directories: %w", err)
		}
		if err := os.Chmod(dir, mode); err != nil {
			return fmt.Errorf("make the daemon's directories: %w", err)
		}
	}
	return nil
}
