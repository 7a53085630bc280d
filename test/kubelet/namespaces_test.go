package kubelet

import (
	"bufio"
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/stele-runtime/stele/test/e2e"
)

// nodeAddress is the node's in its network namespace.
const nodeAddress = "10.86.0.1"

// enter prepares the new namespaces of this process, which was started in them, and finds the
// programs.
func enter(dir string) (err error) {
	if err := enterMounts(dir); err != nil {
		return err
	}
	for _, args := range []string{
		"link set lo up",
		// A bridge without ports holds an address as well as a network card.
		"link add node0 type bridge",
		"address add " + nodeAddress + "/24 dev node0",
		"link set node0 up",
		"route add default via 10.86.0.254 dev node0",
	} {
		if out, err := exec.Command("ip", strings.Fields(args)...).CombinedOutput(); err != nil {
			return fmt.Errorf("ip %s: %w: %s", args, err, out)
		}
	}
	if programs.Programs, err = e2e.FoundPrograms(dir); err != nil {
		return err
	}
	programs.kubelet, programs.kubeadm, programs.health = filepath.Join(dir, "kubelet"), filepath.Join(dir, "kubeadm"), filepath.Join(dir, "health")
	programs.apiserver, programs.etcd = filepath.Join(dir, "kube-apiserver"), filepath.Join(dir, "etcd")
	return nil
}

// enterMounts gives /sys the view of the new network namespace, keeps what a kubelet writes to
// fixed places off the node's disk, and then lets mounts propagate within the namespace, as on
// a node.
func enterMounts(dir string) error {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("make mounts private: %w", err)
	}
	below, err := topMountsBelow("/sys")
	if err != nil {
		return err
	}
	old := filepath.Join(dir, "sys")
	if err := os.Mkdir(old, 0o700); err != nil {
		return err
	}
	if err := unix.Mount("/sys", old, "", unix.MS_BIND|unix.MS_REC, ""); err != nil {
		return fmt.Errorf("keep /sys: %w", err)
	}
	if err := unix.Unmount("/sys", unix.MNT_DETACH); err != nil {
		return fmt.Errorf("unmount /sys: %w", err)
	}
	if err := unix.Mount("sysfs", "/sys", "sysfs", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, ""); err != nil {
		return fmt.Errorf("mount /sys: %w", err)
	}
	for _, point := range below {
		if err := unix.Mount(filepath.Join(old, strings.TrimPrefix(point, "/sys")), point, "", unix.MS_BIND|unix.MS_REC, ""); err != nil {
			return fmt.Errorf("mount %s again: %w", point, err)
		}
	}
	if err := unix.Unmount(old, unix.MNT_DETACH); err != nil {
		return err
	}
	for _, fixed := range []string{"/var/log", kubeletsOwn} {
		if err := unix.Mount("tmpfs", fixed, "tmpfs", 0, "mode=755"); err != nil {
			return fmt.Errorf("cover %s: %w", fixed, err)
		}
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_SHARED, ""); err != nil {
		return fmt.Errorf("share mounts: %w", err)
	}
	return nil
}

// topMountsBelow are the mount points below a directory, without those below another of them.
func topMountsBelow(dir string) (points []string, err error) {
	table, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return nil, err
	}
	// A mount comes after the one that it is in.
	for lines := bufio.NewScanner(bytes.NewReader(table)); lines.Scan(); {
		point := strings.Fields(lines.Text())[4]
		inside := strings.HasPrefix(point, dir+"/")
		for _, other := range points {
			inside = inside && point != other && !strings.HasPrefix(point, other+"/")
		}
		if inside {
			points = append(points, point)
		}
	}
	return points, nil
}
