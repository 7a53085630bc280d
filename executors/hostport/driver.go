package hostport

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"slices"
	"time"

	"github.com/google/nftables"
	"github.com/mdlayher/netlink"
	"golang.org/x/sync/semaphore"
	"golang.org/x/sys/unix"

	"github.com/stele-runtime/stele/actors/fault"
)

const (
	// within bounds one exchange with the kernel, which answers in milliseconds.
	within = 10 * time.Second
	// buffer is the most that a transaction, and the answers to it, may take, in bytes; a
	// port takes about 110.
	buffer = 8 << 20
	// elementsMost is how many elements fit in one message, whose length has 16 bits.
	elementsMost = 256
	// idMost is the longest comment that the nft program shows, in bytes.
	idMost = 128
)

// Config is what a Driver is made of.
type Config struct {
	// Owner tells the daemons of a machine apart: its root directory.
	Owner string
	// Logger gets what goes wrong without harm to a mapping; it must not be nil.
	Logger *slog.Logger
}

// Driver maps ports of the node that it runs on (more exactly, of its network
// namespace). Its methods are safe for concurrent use.
type Driver struct {
	table  *table
	logger *slog.Logger
	// turn lets changes happen one after the other, as they do in the kernel: each begins
	// with a look at what is there.
	turn *semaphore.Weighted
	// made is true once this process has made the table. It belongs to whoever's turn it is.
	made bool
}

// New returns a Driver. It changes nothing.
func New(c Config) *Driver {
	return &Driver{table: newTable(TableName(c.Owner)), logger: c.Logger, turn: semaphore.NewWeighted(1)}
}

// TableName names the table of an owner, in the family inet.
func TableName(owner string) string {
	return fmt.Sprintf("stele-%x", sha256.Sum256([]byte(owner)))[:len("stele-")+8]
}

// Map maps all ports of a pod, or none, in place of those that were mapped to it before. It
// returns those that are for an address of a family that the pod has none of. Errors are
// *fault.Fault and name a port: of kind Unavailable if another pod has it.
func (d *Driver) Map(ctx context.Context, p Pod) (unmapped []Port, err error) {
	if len(p.Ports) == 0 {
		return nil, d.Unmap(ctx, p.ID)
	}
	if p.ID == "" || len(p.ID) > idMost {
		return nil, fault.New(fault.Invalid, "map host port", p.Ports[0].String(), "pod id %.200q is not an id", p.ID)
	}
	if err := d.turn.Acquire(ctx, 1); err != nil {
		return nil, fmt.Errorf("map host port %s: wait for other pods: %w", p.Ports[0], err)
	}
	defer d.turn.Release(1)
	have, err := d.elements()
	if err != nil {
		return nil, refused(p, err)
	}
	c, err := plan(p, have)
	if err != nil {
		return nil, err
	}
	if len(c.unmapped) < len(p.Ports) {
		err = d.ensure()
	}
	if err == nil {
		err = d.apply(c)
	}
	if err != nil {
		d.made = false // perhaps it is not
		return nil, refused(p, err)
	}
	d.openLoopback(p)
	d.forgetFlows(p)
	return c.unmapped, nil
}

// Unmap removes what was mapped to a pod. None is success.
func (d *Driver) Unmap(ctx context.Context, id string) error {
	_, err := d.removeOf(ctx, func(owner string) bool { return owner == id })
	if err != nil {
		return fmt.Errorf("unmap the host ports of pod %s: %w", id, err)
	}
	return nil
}

// Collect removes the mappings of pods that are not kept, and returns their ids.
func (d *Driver) Collect(ctx context.Context, keep func(id string) bool) (removed []string, err error) {
	gone, err := d.removeOf(ctx, func(owner string) bool { return !keep(owner) })
	if err != nil {
		return nil, fmt.Errorf("unmap the host ports of unknown pods: %w", err)
	}
	for _, e := range gone {
		removed = append(removed, e.owner)
	}
	slices.Sort(removed)
	return slices.Compact(removed), nil
}

func (d *Driver) removeOf(ctx context.Context, is func(owner string) bool) ([]element, error) {
	if err := d.turn.Acquire(ctx, 1); err != nil {
		return nil, fmt.Errorf("wait for other pods: %w", err)
	}
	defer d.turn.Release(1)
	have, err := d.elements()
	if absent(err) {
		return nil, nil // no nftables, no mappings
	}
	if err != nil {
		return nil, err
	}
	gone := ownedBy(have, is)
	return gone, d.apply(change{remove: gone})
}

// open returns a connection for one exchange.
func (d *Driver) open() (*nftables.Conn, error) {
	return nftables.New(nftables.WithSockOptions(func(c *netlink.Conn) error {
		return errors.Join(c.SetReadBuffer(buffer), c.SetWriteBuffer(buffer), c.SetDeadline(time.Now().Add(within)))
	}))
}

// elements returns all that the table holds.
func (d *Driver) elements() (all []element, err error) {
	conn, err := d.open()
	if err != nil {
		return nil, err
	}
	for name, set := range d.table.sets {
		_, err := conn.GetSetByName(d.table.Table, set.Name)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("nftables: look for set %s: %w", name, err)
		}
		found, err := conn.GetSetElements(set)
		if err != nil {
			return nil, fmt.Errorf("nftables: list set %s: %w", name, err)
		}
		for _, e := range found {
			all = append(all, element{place{name, string(e.Key)}, string(e.Val), e.Comment})
		}
	}
	return all, nil
}

// ensure makes the table as it should be, without a change to its elements, unless it is. Each
// chain is replaced as a whole, so that a table that was damaged, or made by another version, is
// mended without a moment in which a mapping does not work.
func (d *Driver) ensure() error {
	conn, err := d.open()
	if err != nil {
		return err
	}
	if d.made && d.intact(conn) {
		return nil
	}
	conn.AddTable(d.table.Table)
	for _, set := range d.table.sets {
		if err := conn.AddSet(set, nil); err != nil {
			return fmt.Errorf("nftables: describe set %s: %w", set.Name, err)
		}
	}
	for _, chain := range d.table.chains {
		conn.AddChain(chain.Chain)
	}
	if err := conn.Flush(); err != nil {
		return fmt.Errorf("nftables: make table %s: %w", d.table.Name, err)
	}
	// The library takes the kernel's echo of the rules for one packet, which holds some ten
	// of them: a transaction a chain.
	for _, chain := range d.table.chains {
		conn.FlushChain(chain.Chain)
		for _, rule := range chain.rules {
			conn.AddRule(&nftables.Rule{Table: d.table.Table, Chain: chain.Chain, Exprs: rule})
		}
		if err := conn.Flush(); err != nil {
			return fmt.Errorf("nftables: make chain %s: %w", chain.Name, err)
		}
	}
	d.made = true
	return nil
}

// intact reports whether nobody has taken the rules away; a look is quick, and each change
// of a chain waits for an RCU grace period.
func (d *Driver) intact(conn *nftables.Conn) bool {
	for _, chain := range d.table.chains {
		if rules, err := conn.GetRules(d.table.Table, chain.Chain); err != nil || len(rules) != len(chain.rules) {
			return false
		}
	}
	return true
}

// apply makes a change in one transaction.
func (d *Driver) apply(c change) error {
	conn, err := d.open()
	if err != nil {
		return err
	}
	for set, elements := range d.bySet(c.remove) {
		for some := range slices.Chunk(elements, elementsMost) {
			if err := conn.SetDeleteElements(set, keysOf(some)); err != nil {
				return fmt.Errorf("nftables: describe elements of %s: %w", set.Name, err)
			}
		}
	}
	for set, elements := range d.bySet(c.add) {
		for some := range slices.Chunk(elements, elementsMost) {
			if err := conn.SetAddElements(set, some); err != nil {
				return fmt.Errorf("nftables: describe elements of %s: %w", set.Name, err)
			}
		}
	}
	if err := conn.Flush(); err != nil {
		return fmt.Errorf("nftables: change table %s: %w", d.table.Name, err)
	}
	return nil
}

func (d *Driver) bySet(elements []element) map[*nftables.Set][]nftables.SetElement {
	sorted := map[*nftables.Set][]nftables.SetElement{}
	for _, e := range elements {
		set := d.table.sets[e.set]
		sorted[set] = append(sorted[set], nftables.SetElement{Key: []byte(e.key), Val: []byte(e.value), Comment: e.owner})
	}
	return sorted
}

func keysOf(elements []nftables.SetElement) []nftables.SetElement {
	keys := slices.Clone(elements)
	for i := range keys {
		keys[i].Val, keys[i].Comment = nil, ""
	}
	return keys
}

// absent reports whether an error of elements means that this kernel has no nftables.
// EINVAL is how netfilter answers a question to a part of it that is not there.
func absent(err error) bool {
	return slices.ContainsFunc([]error{unix.EPROTONOSUPPORT, unix.EAFNOSUPPORT, unix.EOPNOTSUPP, unix.EINVAL},
		func(target error) bool { return errors.Is(err, target) })
}

// refused names one of the pod's ports, since the pod's author knows no tables.
func refused(p Pod, err error) error {
	return fault.New(fault.Unavailable, "map host port", p.Ports[0].String(),
		"no plugin of the pod's network maps ports, and the kernel refuses to (it needs nf_tables with NAT for inet): %v", err)
}
