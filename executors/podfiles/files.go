package podfiles

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// maxHostFile bounds what is read of the node's resolv.conf and hosts, in bytes.
const maxHostFile = 1 << 20

// Files are the paths, on the node, of what a pod's containers see.
type Files struct {
	ResolvConf, Hostname, Hosts string
	// ContainerEnv is empty: it says that it is there.
	ContainerEnv string
	// Shm is the tmpfs that they see as /dev/shm.
	Shm string
}

// Owner is the pod's root on the node.
type Owner struct {
	UID, GID uint32
	// Label is the SELinux label of the pod's files; it must be empty where SELinux is off.
	Label string
}

// labelled adds the label to the options of a mount: all files of it have that label.
func (o Owner) labelled(options string) string {
	if o.Label == "" {
		return options
	}
	return fmt.Sprintf("%s,context=%q", options, o.Label)
}

// In names the files of the pod whose directory is dir.
func In(dir string) Files {
	etc := etcDir(dir)
	return Files{
		ResolvConf:   filepath.Join(etc, "resolv.conf"),
		Hostname:     filepath.Join(etc, "hostname"),
		Hosts:        filepath.Join(etc, "hosts"),
		ContainerEnv: filepath.Join(etc, "containerenv"),
		Shm:          filepath.Join(dir, "shm"),
	}
}

// Find is In for a pod that may be older than this daemon: it once had its files of /etc
// beside Shm, and no ContainerEnv.
func Find(dir string) Files {
	files := In(dir)
	if _, err := os.Lstat(etcDir(dir)); errors.Is(err, fs.ErrNotExist) {
		files.ResolvConf = filepath.Join(dir, "resolv.conf")
		files.Hostname, files.Hosts = filepath.Join(dir, "hostname"), filepath.Join(dir, "hosts")
	}
	if _, err := os.Lstat(files.ContainerEnv); errors.Is(err, fs.ErrNotExist) {
		files.ContainerEnv = ""
	}
	return files
}

func etcDir(dir string) string { return filepath.Join(dir, "etc") }

// maxEtc bounds a pod's files of /etc in sum, in bytes: containers may write them, and
// what they write is in the node's memory. It has room for the node's own files twice,
// the old ones and the new.
const maxEtc = 5 * maxHostFile

// Write makes the files of /etc on a tmpfs in a pod's directory, dir, and replaces those
// that are there. Shm is left to MountShm.
//
// They belong to the pod's root, whose ids on the node are given.
func Write(dir string, config *cri.PodSandboxConfig, owner Owner) error {
	if err := mountTmpfs(etcDir(dir), owner.labelled(fmt.Sprintf("mode=0700,size=%d,nr_inodes=16", maxEtc))); err != nil {
		return err
	}
	resolv, err := resolvConf(config.GetDnsConfig())
	if err != nil {
		return err
	}
	hostname := config.GetHostname()
	if hostname == "" {
		if hostname, err = os.Hostname(); err != nil {
			return fmt.Errorf("write the pod's files: host name: %w", err)
		}
	}
	hosts, err := hostsFile(config)
	if err != nil {
		return err
	}
	files := In(dir)
	for _, f := range []struct {
		path string
		data []byte
	}{{files.ResolvConf, resolv}, {files.Hostname, []byte(hostname + "\n")}, {files.Hosts, hosts}, {files.ContainerEnv, nil}} {
		if err := replaceFile(f.path, f.data, owner); err != nil {
			return fmt.Errorf("write the pod's files: %w", err)
		}
	}
	return nil
}

// replaceFile leaves the old or the new content, whatever happens.
func replaceFile(path string, data []byte, owner Owner) error {
	unfinished := path + ".new"
	// Whoever made the last one may have been killed.
	if err := os.Remove(unfinished); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := os.WriteFile(unfinished, data, 0o644); err != nil {
		return err
	}
	if err := os.Chmod(unfinished, 0o644); err != nil {
		return err
	}
	if err := os.Chown(unfinished, int(owner.UID), int(owner.GID)); err != nil {
		return err
	}
	return os.Rename(unfinished, path)
}

// resolvConf writes what the CRI says, or copies the node's if it says nothing.
func resolvConf(dns *cri.DNSConfig) ([]byte, error) {
	if len(dns.GetServers()) == 0 && len(dns.GetSearches()) == 0 && len(dns.GetOptions()) == 0 {
		return hostFile("/etc/resolv.conf")
	}
	var b strings.Builder
	if len(dns.Searches) > 0 {
		fmt.Fprintf(&b, "search %s\n", strings.Join(dns.Searches, " "))
	}
	for _, server := range dns.Servers {
		fmt.Fprintf(&b, "nameserver %s\n", server)
	}
	if len(dns.Options) > 0 {
		fmt.Fprintf(&b, "options %s\n", strings.Join(dns.Options, " "))
	}
	return []byte(b.String()), nil
}

// hostsFile is for pods that bring no /etc/hosts; the kubelet's all do. A pod on
// the node's network has the node's.
func hostsFile(config *cri.PodSandboxConfig) ([]byte, error) {
	if config.GetLinux().GetSecurityContext().GetNamespaceOptions().GetNetwork() == cri.NamespaceMode_NODE {
		return hostFile("/etc/hosts")
	}
	return []byte("127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n"), nil
}

// hostFile reads a file of the node's; a missing one is empty.
func hostFile(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return nil, nil
		}
		return nil, fmt.Errorf("copy the node's file: %w", err)
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxHostFile+1))
	if err != nil {
		return nil, fmt.Errorf("copy the node's %s: %w", path, err)
	}
	if len(data) > maxHostFile {
		return nil, fmt.Errorf("copy the node's %s: larger than %d bytes", path, maxHostFile)
	}
	return data, nil
}
