package stats

import (
	"bytes"
	"cmp"
	"fmt"
	"runtime"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

const (
	// defaultInterface is the one that the pod's network made; the others are the pod's own
	// or of further networks.
	defaultInterface = "eth0"
	// maxInterfaces bounds how many of a pod are listed: it can make as many as it likes.
	maxInterfaces = 64
)

// interfaceUsage is what went through a network interface, seen from the pod.
type interfaceUsage struct {
	name                                    string
	rxBytes, rxPackets, rxErrors, rxDropped number
	txBytes, txPackets, txErrors, txDropped number
}

// network is the use of a pod's interfaces but the loopback, the default one first.
type network struct {
	at         time.Time
	interfaces []interfaceUsage
}

// message is nil if the pod has no interface: the kubelet takes for granted that there is a
// default one.
func (n network) message() *runtimeapi.NetworkUsage {
	if len(n.interfaces) == 0 {
		return nil
	}
	message := &runtimeapi.NetworkUsage{Timestamp: n.at.UnixNano()}
	for i, x := range n.interfaces {
		used := &runtimeapi.NetworkInterfaceUsage{
			Name: x.name, RxBytes: x.rxBytes.message(), RxErrors: x.rxErrors.message(),
			TxBytes: x.txBytes.message(), TxErrors: x.txErrors.message(),
		}
		if i == 0 {
			message.DefaultInterface = used
		} else {
			message.Interfaces = append(message.Interfaces, used)
		}
	}
	return message
}

// thread is one that may change its network namespace.
type thread struct {
	// net is the directory /proc/thread-self/net, which has what the thread's namespace has.
	net int
}

// ownThread calls work on a thread that may change its network namespace, and brings it
// back. A thread that cannot be brought back stays locked, and so ends with the goroutine.
func ownThread(work func(*thread)) {
	runtime.LockOSThread()
	home, err := unix.Open("/proc/thread-self/ns/net", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	own := &thread{net: missing}
	if net, err := unix.Open("/proc/thread-self/net", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0); err == nil {
		own.net = net
		defer func() { _ = unix.Close(net) }()
	}
	work(own)
	if err != nil {
		return
	}
	if unix.Setns(home, unix.CLONE_NEWNET) == nil {
		runtime.UnlockOSThread()
	}
	_ = unix.Close(home)
}

// network reads a pod's interfaces. One whose namespace is gone has none.
func (t *thread) network(p Pod) network {
	if p.Network == "" {
		return network{}
	}
	n, err := t.readNetwork(p.Network)
	if err != nil {
		return network{}
	}
	return n
}

// readNetwork reads the interfaces of a network namespace by its pin; no process needs to
// be in it. What is not a namespace has none.
func (t *thread) readNetwork(pin string) (n network, err error) {
	fd, err := unix.Open(pin, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return n, fmt.Errorf("open network namespace %s: %w", pin, err)
	}
	defer func() { _ = unix.Close(fd) }()
	if err := unix.Setns(fd, unix.CLONE_NEWNET); err != nil {
		return n, fmt.Errorf("enter network namespace %s: %w", pin, err)
	}
	n.at = time.Now()
	inFile(t.net, "dev", func(content []byte) { n.interfaces = parseInterfaces(content) })
	return n, nil
}

// parseInterfaces reads /proc/net/dev: two lines of headings, and for each interface its
// name, eight figures of what was received and eight of what was sent.
func parseInterfaces(content []byte) (all []interfaceUsage) {
	if end := bytes.LastIndexByte(content, '\n'); end >= 0 {
		content = content[:end+1] // more than fits in the buffer ends in the middle of a line
	}
	for line := range bytes.Lines(content) {
		name, figures, found := bytes.Cut(line, []byte{':'})
		name = bytes.TrimSpace(name)
		var fields [12][]byte
		n := 0
		for field := range bytes.FieldsSeq(figures) {
			fields[n] = field
			if n++; n == len(fields) {
				break
			}
		}
		if !found || n < len(fields) || string(name) == "lo" {
			continue
		}
		all = append(all, interfaceUsage{
			name:    text(string(name)),
			rxBytes: parse(fields[0]), rxPackets: parse(fields[1]), rxErrors: parse(fields[2]), rxDropped: parse(fields[3]),
			txBytes: parse(fields[8]), txPackets: parse(fields[9]), txErrors: parse(fields[10]), txDropped: parse(fields[11]),
		})
	}
	slices.SortStableFunc(all, func(a, b interfaceUsage) int { return cmp.Compare(rankOf(a), rankOf(b)) })
	return all[:min(len(all), maxInterfaces)]
}

func rankOf(x interfaceUsage) int {
	if x.name == defaultInterface {
		return 0
	}
	return 1
}
