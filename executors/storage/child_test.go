package storage

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/moby/sys/mountinfo"
	"github.com/opencontainers/selinux/go-selinux"
	"golang.org/x/sys/unix"
)

// childJob is a job for a copy of the test program in a process of its own, in an
// environment variable.
type childJob struct {
	Do        string
	GraphRoot string
	RunRoot   string
	Arguments []string
}

const childVariable = "STELE_STORAGE_TEST_CHILD"

// runAsChild does the job in the environment, if any.
func runAsChild() bool {
	text := os.Getenv(childVariable)
	if text == "" {
		return false
	}
	var job childJob
	if err := json.Unmarshal([]byte(text), &job); err != nil {
		panic(err)
	}
	s, err := Open(Options{StorageConf: "/dev/null", GraphRoot: job.GraphRoot, RunRoot: job.RunRoot})
	if err != nil {
		panic(err)
	}
	if err := childJobs[job.Do](s, job.Arguments); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	return true
}

var childJobs = map[string]func(s *Store, arguments []string) error{
	"rename": func(s *Store, arguments []string) error {
		return s.lib.AddNames(arguments[0], arguments[1:])
	},
	// churn makes and removes root filesystems until it is killed.
	"churn": func(s *Store, arguments []string) error {
		fmt.Println("ready")
		for {
			for _, container := range arguments[1:] {
				request := RootfsRequest{ContainerID: container, ImageID: arguments[0]}
				if _, err := s.Rootfses.Prepare(context.Background(), request); err != nil {
					return err
				}
			}
			for _, container := range arguments[1:] {
				if err := s.Rootfses.Release(context.Background(), container); err != nil {
					return err
				}
			}
		}
	},
	"prepare on a shared host": func(s *Store, arguments []string) error {
		if err := unix.Mount("", "/", "", unix.MS_SHARED|unix.MS_REC, ""); err != nil {
			return fmt.Errorf("make mounts shared: %w", err)
		}
		rootfs, err := s.Rootfses.Prepare(context.Background(), RootfsRequest{ContainerID: arguments[1], ImageID: arguments[0]})
		if err != nil {
			return err
		}
		mounts, err := mountinfo.GetMounts(mountinfo.SingleEntryFilter(rootfs.Mountpoint))
		if err != nil {
			return err
		}
		if len(mounts) != 1 {
			return fmt.Errorf("%d mounts, want one", len(mounts))
		}
		if mounts[0].Optional != "" {
			return fmt.Errorf("the mount is %q, want private", mounts[0].Optional)
		}
		return s.Rootfses.Release(context.Background(), arguments[1])
	},
	// A policy's files are there, and the kernel does not use them.
	"prepare beside a policy": func(s *Store, arguments []string) error {
		if err := unix.Mount("tmpfs", "/usr/share", "tmpfs", 0, ""); err != nil {
			return fmt.Errorf("hide the host's policy: %w", err)
		}
		const contexts = "/usr/share/containers/selinux/contexts"
		if err := os.MkdirAll(filepath.Dir(contexts), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(contexts, []byte("file = \"system_u:object_r:container_file_t:s0\"\n"), 0o644); err != nil {
			return err
		}
		if label := selinux.PrivContainerMountLabel(); label == "" {
			return errors.New("the policy is not read")
		}
		_, err := s.Rootfses.Prepare(context.Background(), RootfsRequest{ContainerID: arguments[1], ImageID: arguments[0]})
		return errors.Join(err, s.Rootfses.Release(context.Background(), arguments[1]))
	},
	// volumes mounts an image for a container and unmounts it until it is killed.
	"volumes": func(s *Store, arguments []string) error {
		fmt.Println("ready")
		for {
			for i := range 3 {
				request := MountImageRequest{ID: VolumeID(arguments[1], i), Image: arguments[0], SubPath: "data"}
				if i == 0 {
					request.SubPath = ""
				}
				if _, err := s.Volumes.MountImage(context.Background(), request); err != nil {
					return err
				}
			}
			if err := s.Rootfses.Release(context.Background(), arguments[1]); err != nil {
				return err
			}
		}
	},
	// pull once pulls an image, under its own name.
	"pull once": func(s *Store, arguments []string) error {
		_, err := tryPull(context.Background(), s, registries{arguments[0], arguments[1]}, arguments[2], arguments[2])
		return err
	},
	// pull pulls and removes an image until it is killed.
	"pull": func(s *Store, arguments []string) error {
		fmt.Println("ready")
		for {
			image, err := tryPull(context.Background(), s, registries{arguments[0], arguments[1]}, arguments[2], arguments[2])
			if err != nil {
				return err
			}
			if err := s.Images.Remove(context.Background(), image.ID); err != nil {
				return err
			}
		}
	},
}

func childCommand(t *testing.T, do string, options Options, arguments []string) *exec.Cmd {
	t.Helper()
	job, err := json.Marshal(childJob{Do: do, GraphRoot: options.GraphRoot, RunRoot: options.RunRoot, Arguments: arguments})
	if err != nil {
		t.Fatal(err)
	}
	command := exec.Command("/proc/self/exe")
	command.Env = append(os.Environ(), childVariable+"="+string(job))
	return command
}

// runChild lets another process do something to the store.
func runChild(t *testing.T, do string, options Options, arguments ...string) {
	t.Helper()
	if output, err := childCommand(t, do, options, arguments).CombinedOutput(); err != nil {
		t.Fatalf("child %s: %v: %s", do, err, output)
	}
}

// killableChild starts another process that works on the store until kill is called.
func killableChild(t *testing.T, do string, options Options, arguments ...string) (kill func()) {
	t.Helper()
	command := childCommand(t, do, options, arguments)
	var stderr bytes.Buffer
	command.Stderr = &stderr
	stdout, err := command.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	if line, err := bufio.NewReader(stdout).ReadString('\n'); err != nil || line != "ready\n" {
		_ = command.Wait()
		t.Fatalf("child %s said %q, %v: %s", do, line, err, stderr.String())
	}
	return func() {
		if err := command.Process.Kill(); err != nil {
			t.Errorf("kill child: %v", err)
		}
		if _ = command.Wait(); command.ProcessState.Exited() {
			t.Errorf("child %s ended by itself: %s", do, stderr.String())
		}
	}
}
