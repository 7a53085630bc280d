package cni

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"runtime"
	"slices"
	"sync"
	"time"

	"github.com/containernetworking/cni/libcni"
	"github.com/containernetworking/cni/pkg/types"
	current "github.com/containernetworking/cni/pkg/types/100"
	"github.com/containernetworking/cni/pkg/types/create"
	"golang.org/x/sys/unix"

	"github.com/stele-runtime/stele/actors/fault"
)

const (
	// verbWithin bounds one verb over all plugins of a network.
	verbWithin = 2 * time.Minute
	// addIdle and delIdle are how long the plugins of an ADD or a DEL must not have used
	// the CPU to count as waiting. A DEL waits much longer without being stuck: for the
	// kernel to take down interfaces.
	addIdle, delIdle = 50 * time.Millisecond, 500 * time.Millisecond
	// delsMost is how many pods are detached at the same time, as long as none is stuck.
	delsMost = 16
	// runMost is how many ADDs, and how many DELs, run at the same time, waiting or not:
	// more than the 110 pods that a kubelet has by default, so that on such a node no
	// pod is kept waiting even if the plugins of all others hang.
	runMost = 128
)

// Config is what a Driver is made of.
type Config struct {
	// ConfDir is the folder with the node's network configurations.
	ConfDir    string
	PluginDirs []string
	// CacheDir keeps the records of attachments; it must survive a reboot.
	CacheDir string
	// Logger gets repairs and retries; it must not be nil.
	Logger *slog.Logger
	// OnReload is called, from New and whenever the network has changed, with the
	// network in use or why there is none. It must not block. It may be nil.
	OnReload func(Network, error)
}

// Network is a configured network.
type Network struct{ Name string }

// Driver attaches pods to the node's network. Its methods are safe for concurrent
// use, but calls for one pod must not overlap.
type Driver struct {
	config Config
	folder *folder
	// adds bounds concurrent ADDs: plugins are processes, and more of them than
	// cores only slow each other down.
	adds turns
	// dels bounds concurrent DELs. They mostly wait for the kernel, but each keeps
	// some processes in memory.
	dels turns

	mu      sync.Mutex
	network *libcni.NetworkConfigList
	// missing is why there is no network.
	missing error
}

// addsMost is how many ADDs use the CPU at the same time.
func addsMost() int { return max(2, runtime.GOMAXPROCS(0)) }

// New returns a Driver that follows its configuration folder, which need not
// exist yet. It must be closed.
func New(c Config) (*Driver, error) {
	d := &Driver{
		config: c,
		adds:   newTurns(addsMost(), runMost, addIdle),
		dels:   newTurns(delsMost, runMost, delIdle),
	}
	var err error
	if d.folder, err = watch(c.ConfDir); err != nil {
		return nil, err
	}
	d.reload(true)
	d.folder.follow(func() { d.reload(false) })
	return d, nil
}

// Close stops following the configuration folder.
func (d *Driver) Close() { d.folder.close() }

func (d *Driver) reload(first bool) {
	network, err := loadNetwork(d.config.ConfDir)
	d.mu.Lock()
	same := !first && sameNetwork(network, d.network) && sameReason(err, d.missing)
	d.network, d.missing = network, err
	d.mu.Unlock()
	if same || d.config.OnReload == nil {
		return
	}
	var told Network
	if network != nil {
		told.Name = network.Name
	}
	d.config.OnReload(told, err)
}

func sameNetwork(a, b *libcni.NetworkConfigList) bool {
	if a == nil || b == nil {
		return a == b
	}
	return bytes.Equal(a.Bytes, b.Bytes)
}

func sameReason(a, b error) bool {
	if a == nil || b == nil {
		return a == nil && b == nil
	}
	return a.Error() == b.Error()
}

// cni runs plugins; in a turn, if there is one.
func (d *Driver) cni(t *turn) *libcni.CNIConfig {
	return libcni.NewCNIConfigWithCacheDir(d.config.PluginDirs, d.config.CacheDir, executor{turn: t})
}

func (d *Driver) current() (*libcni.NetworkConfigList, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.network, d.missing
}

// Status returns nil if pods can be attached, or why they cannot: no configuration,
// a missing plugin, or one whose STATUS fails.
func (d *Driver) Status(ctx context.Context) error {
	network, err := d.current()
	if err != nil {
		return err
	}
	for _, p := range network.Plugins {
		if _, err := (executor{}).FindInPath(p.Network.Type, d.config.PluginDirs); err != nil {
			return fmt.Errorf("network %s: %w", network.Name, err)
		}
	}
	ctx, cancel := context.WithTimeout(ctx, verbWithin)
	defer cancel()
	// libcni asks only networks whose CNI version has the verb.
	if err := d.cni(nil).GetStatusNetworkList(ctx, network); err != nil {
		return fmt.Errorf("network %s: CNI STATUS: %w", network.Name, err)
	}
	return nil
}

// Attach attaches a pod with CNI ADD. A pod that is attached is checked and left as
// it is; one whose attachment has changed, or was never completed, is detached
// first. When Attach fails, Detach undoes what it did.
func (d *Driver) Attach(ctx context.Context, p Pod) (Attachment, error) {
	if err := p.validate(); err != nil {
		return Attachment{}, err
	}
	before, known, err := d.load(p.ID)
	if err != nil {
		return Attachment{}, err
	}
	if known && len(before.Result) > 0 {
		err := d.check(ctx, before)
		if err == nil {
			return before.attachment()
		}
		if ctx.Err() != nil { // that says nothing about the attachment
			return Attachment{}, err
		}
		d.config.Logger.Warn("pod is attached anew", "pod", p.ID, "error", err)
	}
	if known {
		if err := d.Detach(ctx, p); err != nil {
			return Attachment{}, err
		}
	}
	network, err := d.current()
	if err != nil {
		return Attachment{}, fault.New(fault.Unavailable, "attach network", p.ID, "%v", err)
	}
	return d.add(ctx, network, p)
}

func (d *Driver) add(ctx context.Context, network *libcni.NetworkConfigList, p Pod) (Attachment, error) {
	turn, err := d.adds.take(ctx)
	if err != nil {
		return Attachment{}, err
	}
	defer turn.done()
	now := record{Config: network.Bytes, Pod: p}
	if err := d.store(now); err != nil {
		return Attachment{}, err
	}
	ctx, cancel := context.WithTimeout(ctx, verbWithin)
	defer cancel()
	result, err := d.cni(turn).AddNetworkList(ctx, network, p.runtimeConf())
	if err != nil {
		return Attachment{}, fmt.Errorf("network %s: CNI ADD: %w", network.Name, err)
	}
	if now.Result, err = json.Marshal(result); err != nil {
		return Attachment{}, fmt.Errorf("network %s: encode the result: %w", network.Name, err)
	}
	if err := d.store(now); err != nil {
		return Attachment{}, err
	}
	return now.attachment()
}

// Check asks the plugins whether the pod's attachment is unchanged. CNI before
// 0.4.0 has no such verb, and its networks are not asked.
func (d *Driver) Check(ctx context.Context, p Pod) error {
	r, known, err := d.load(p.ID)
	if err != nil {
		return err
	}
	if !known || len(r.Result) == 0 {
		return fmt.Errorf("pod %s is not attached", p.ID)
	}
	return d.check(ctx, r)
}

func (d *Driver) check(ctx context.Context, r record) error {
	network, err := r.network()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, verbWithin)
	defer cancel()
	err = d.cni(nil).CheckNetworkList(ctx, network, r.Pod.runtimeConf())
	if err != nil && !errors.Is(err, libcni.ErrorCheckNotSupp) {
		return fmt.Errorf("network %s: CNI CHECK: %w", network.Name, err)
	}
	return nil
}

// Detach undoes Attach with CNI DEL and the configuration that was used then. A pod
// that is not attached is success; a namespace may be gone. The pod's ID is enough,
// unless the record of the attachment is damaged or lost: then the rest is needed,
// and the present configuration is used.
func (d *Driver) Detach(ctx context.Context, p Pod) error {
	r, known, err := d.load(p.ID)
	if err != nil {
		return err
	}
	if !known {
		// There was no ADD, or its record is lost (it is not synced): DEL is right
		// for both, if there is a network.
		// Attach has refused what is not valid, and no plugin could be told of it.
		if _, err := d.current(); err != nil || p.validate() != nil {
			return d.forget(p.ID)
		}
	}
	network, pod, err := d.attachedBy(r, p)
	if err != nil {
		return err
	}
	conf := pod.runtimeConf()
	if conf.NetNS, err = namespaceIfThere(conf.NetNS); err != nil {
		return err
	}
	turn, err := d.dels.take(ctx)
	if err != nil {
		return err
	}
	defer turn.done()
	ctx, cancel := context.WithTimeout(ctx, verbWithin)
	defer cancel()
	if len(r.Result) == 0 {
		if err := endOrphans(ctx, p.ID); err != nil {
			return err
		}
	}
	if err := d.cni(turn).DelNetworkList(ctx, network, conf); err != nil {
		return fmt.Errorf("network %s: CNI DEL: %w", network.Name, err)
	}
	return d.forget(p.ID)
}

// attachedBy returns the network and the Pod of an attachment, as far as they are
// known.
func (d *Driver) attachedBy(r record, p Pod) (*libcni.NetworkConfigList, Pod, error) {
	if len(r.Config) > 0 {
		network, err := r.network()
		return network, r.Pod, err
	}
	network, err := d.current()
	if err != nil {
		return nil, Pod{}, fault.New(fault.Unavailable, "detach network", p.ID, "%v", err)
	}
	return network, p, nil
}

// namespaceIfThere returns the path, or none if no network namespace is there any
// more: "When CNI_NETNS is not provided, the plugin should clean up as much as
// possible", says the CNI specification about DEL; but given a path to something
// else, a plugin may fail every time.
func namespaceIfThere(path string) (string, error) {
	var st unix.Statfs_t
	err := unix.Statfs(path, &st)
	switch {
	case errors.Is(err, unix.ENOENT), errors.Is(err, unix.ENOTDIR):
		return "", nil
	case err != nil:
		return "", fmt.Errorf("look at network namespace %s: %w", path, err)
	case st.Type != unix.NSFS_MAGIC:
		return "", nil
	}
	return path, nil
}

// GC detaches every pod that has a record and is not kept, and has the network's
// plugins drop what belongs to no kept pod (CNI 1.1). No other pod may be attached
// meanwhile.
func (d *Driver) GC(ctx context.Context, keep []Attached) error {
	ids, err := d.recorded()
	if err != nil {
		return err
	}
	failed := d.detachAllBut(ctx, keep, ids)
	network, err := d.current()
	if err != nil {
		return errors.Join(failed...) // without a network there are no plugins to ask
	}
	ctx, cancel := context.WithTimeout(ctx, verbWithin)
	defer cancel()
	args := &libcni.GCArgs{ValidAttachments: []types.GCAttachment{}}
	for _, k := range keep {
		args.ValidAttachments = append(args.ValidAttachments, types.GCAttachment{ContainerID: k.ID, IfName: interfaceName})
	}
	if err := d.cni(nil).GCNetworkList(ctx, network, args); err != nil {
		failed = append(failed, fmt.Errorf("network %s: CNI GC: %w", network.Name, err))
	}
	return errors.Join(failed...)
}

// detachAllBut detaches pods side by side, so that a plugin that hangs for one of them
// holds up no other.
func (d *Driver) detachAllBut(ctx context.Context, keep []Attached, ids []string) []error {
	slices.Sort(ids)
	ids = slices.Compact(ids) // calls for one pod must not overlap
	failed := make([]error, len(ids))
	var all sync.WaitGroup
	for i, id := range ids {
		if !slices.Contains(keep, Attached{ID: id}) {
			all.Go(func() { failed[i] = d.Detach(ctx, Pod{ID: id}) })
		}
	}
	all.Wait()
	return failed
}

func (r record) attachment() (Attachment, error) {
	network, err := r.network()
	if err != nil {
		return Attachment{}, err
	}
	result, err := create.CreateFromBytes(r.Result)
	if err != nil {
		return Attachment{}, fmt.Errorf("network %s: read the result of CNI ADD: %w", network.Name, err)
	}
	// The result has the version of the configuration; all convert to this one.
	now, err := current.NewResultFromResult(result)
	if err != nil {
		return Attachment{}, fmt.Errorf("network %s: read the result of CNI ADD: %w", network.Name, err)
	}
	a := Attachment{Network: network.Name, Result: r.Result, Capabilities: capabilities(network)}
	for _, ip := range now.IPs {
		if addr, ok := netip.AddrFromSlice(ip.Address.IP); ok && r.isPods(addr.Unmap(), ip.Interface, now.Interfaces) {
			a.IPs = append(a.IPs, addr.Unmap())
		}
	}
	return a, nil
}

// capabilities are those that any plugin of the network declares.
func capabilities(network *libcni.NetworkConfigList) map[string]bool {
	all := map[string]bool{}
	for _, plugin := range network.Plugins {
		for name, has := range plugin.Network.Capabilities {
			all[name] = all[name] || has
		}
	}
	return all
}
