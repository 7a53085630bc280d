package spec

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// maxHostFile bounds what is read of the node's resolv.conf and hosts, in bytes.
const maxHostFile = 1 << 20

// WriteSandboxFiles makes the files that containers of a pod see in /etc, in a
// directory of the sandbox's own, and returns their paths. Files that are there
// are replaced. Shm is left to MountShm.
func WriteSandboxFiles(dir string, config *cri.PodSandboxConfig) (Files, error) {
	if err := os.MkdirAll(dir, 0o711); err != nil {
		return Files{}, fmt.Errorf("write the sandbox's files: %w", err)
	}
	resolv, err := resolvConf(config.GetDnsConfig())
	if err != nil {
		return Files{}, err
	}
	hostname := config.GetHostname()
	if hostname == "" {
		if hostname, err = os.Hostname(); err != nil {
			return Files{}, fmt.Errorf("write the sandbox's files: host name: %w", err)
		}
	}
	hosts, err := hostsFile(config)
	if err != nil {
		return Files{}, err
	}
	var files Files
	for _, f := range []struct {
		name string
		path *string
		data []byte
	}{
		{"resolv.conf", &files.ResolvConf, resolv},
		{"hostname", &files.Hostname, []byte(hostname + "\n")},
		{"hosts", &files.Hosts, hosts},
	} {
		*f.path = filepath.Join(dir, f.name)
		if err := replaceFile(*f.path, f.data); err != nil {
			return Files{}, fmt.Errorf("write the sandbox's files: %w", err)
		}
	}
	return files, nil
}

// replaceFile leaves the old or the new content, whatever happens.
func replaceFile(path string, data []byte) error {
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
	data, err := readBounded(f, maxHostFile)
	if err != nil {
		return nil, fmt.Errorf("copy the node's %s: %w", path, err)
	}
	return data, nil
}
