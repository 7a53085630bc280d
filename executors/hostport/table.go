package hostport

import (
	"net/netip"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// setName names a set or map of the table.
type setName string

// The sets of each family.
var (
	// ports: protocol and port of the node, on all addresses → address and port of a pod.
	ports = [...]setName{v4: "ports_ip", v6: "ports_ip6"}
	// addressPorts: the same on one address of the node, which comes first in the key.
	addressPorts = [...]setName{v4: "address_ports_ip", v6: "address_ports_ip6"}
	// hairpins: a pod's address, twice, as source and destination of what the pod sends to
	// its own port.
	hairpins = [...]setName{v4: "hairpins_ip", v6: "hairpins_ip6"}
)

// protocolOf is how nftables names each family.
var protocolOf = [...]byte{v4: unix.NFPROTO_IPV4, v6: unix.NFPROTO_IPV6}

// table is the daemon's table with all that is in it but the elements:
//
//	chain guard       { type filter hook prerouting priority raw
//	    iifname != lo, ip saddr or daddr 127.0.0.0/8: drop }
//	chain prerouting  { type nat hook prerouting priority dstnat; fib daddr type local: goto hostports }
//	chain output      { type nat hook output priority dstnat
//	    ip6 daddr ::1: return
//	    fib daddr type local: goto hostports }
//	chain hostports   { for each family:
//	    daddr . l4proto . dport in address_ports: dnat
//	    l4proto . dport in ports: dnat }
//	chain postrouting { type nat hook postrouting priority srcnat
//	    ct status dnat, saddr . daddr in hairpins: masquerade
//	    ct status dnat, ip saddr 127.0.0.0/8, ip daddr . daddr in hairpins: masquerade }
//
// Packets that arrive go through prerouting, those of the node's processes through output.
// Without masquerading, a pod that reaches itself would see its own address as the
// sender and answer without the node; and what comes from loopback must not leave the node
// with such a sender. See loopback.go about guard.
type table struct {
	*nftables.Table
	sets   map[setName]*nftables.Set
	chains []chain
}

type chain struct {
	*nftables.Chain
	rules [][]expr.Any
}

func newTable(name string) *table {
	t := &table{Table: &nftables.Table{Name: name, Family: nftables.TableFamilyINet}, sets: map[setName]*nftables.Set{}}
	address := [...]nftables.SetDatatype{v4: nftables.TypeIPAddr, v6: nftables.TypeIP6Addr}
	port := []nftables.SetDatatype{nftables.TypeInetProto, nftables.TypeInetService}
	for _, f := range families {
		pod := nftables.MustConcatSetType(address[f], nftables.TypeInetService)
		t.set(ports[f], nftables.MustConcatSetType(port...), &pod)
		t.set(addressPorts[f], nftables.MustConcatSetType(append([]nftables.SetDatatype{address[f]}, port...)...), &pod)
		t.set(hairpins[f], nftables.MustConcatSetType(address[f], address[f]), nil)
	}

	t.hook("guard", nftables.ChainTypeFilter, nftables.ChainHookPrerouting, nftables.ChainPriorityRaw,
		onLoopback(sourceAt[v4], notFromLo, drop), onLoopback(destAt[v4], notFromLo, drop))
	hostports := &nftables.Chain{Name: "hostports", Table: t.Table}
	var mappings [][]expr.Any
	for _, f := range families {
		mappings = append(mappings, mapPort(f, addressPorts[f], true), mapPort(f, ports[f], false))
	}
	t.chains = append(t.chains, chain{hostports, mappings})
	t.hook("prerouting", nftables.ChainTypeNAT, nftables.ChainHookPrerouting, nftables.ChainPriorityNATDest,
		localTo(hostports.Name))
	t.hook("output", nftables.ChainTypeNAT, nftables.ChainHookOutput, nftables.ChainPriorityNATDest,
		notTo6Loopback(), localTo(hostports.Name))
	toPod := append(translated(), lookup(v4, destAt[v4], destAt[v4])...)
	t.hook("postrouting", nftables.ChainTypeNAT, nftables.ChainHookPostrouting, nftables.ChainPriorityNATSource,
		hairpin(v4), hairpin(v6), onLoopback(sourceAt[v4], toPod, []expr.Any{&expr.Masq{}}))
	return t
}

// set adds a set, or a map if it has values. The ids of sets only need to be unique within
// a transaction.
func (t *table) set(name setName, key nftables.SetDatatype, value *nftables.SetDatatype) {
	s := &nftables.Set{
		Table: t.Table, ID: uint32(len(t.sets) + 1), Name: string(name), KeyType: key, Concatenation: true, KeyByteOrder: binaryutil.BigEndian,
	}
	if value != nil {
		s.IsMap, s.DataType = true, *value
	}
	t.sets[name] = s
}

func (t *table) hook(name string, kind nftables.ChainType, at *nftables.ChainHook, priority *nftables.ChainPriority, rules ...[]expr.Any) {
	t.chains = append(t.chains, chain{&nftables.Chain{Name: name, Table: t.Table, Type: kind, Hooknum: at, Priority: priority}, rules})
}

// first is the first of the registers, each of one word; what is longer fills the next, too.
const first = unix.NFT_REG32_00

// addressWords is the size of an address in registers; sourceAt and destAt are where source
// and destination are in the header, in bytes.
var (
	addressWords = [...]uint32{v4: 1, v6: 4}
	sourceAt     = [...]uint32{v4: 12, v6: 8}
	destAt       = [...]uint32{v4: 16, v6: 24}
)

// localTo sends packets for any of the node's addresses to a chain.
func localTo(chain string) []expr.Any {
	return []expr.Any{
		&expr.Fib{Register: first, FlagDADDR: true, ResultADDRTYPE: true},
		equal(binaryutil.NativeEndian.PutUint32(unix.RTN_LOCAL)),
		&expr.Verdict{Kind: expr.VerdictGoto, Chain: chain},
	}
}

// notTo6Loopback spares ::1, from where no route leaves the node: who tries it before 127.0.0.1
// is refused at once.
func notTo6Loopback() []expr.Any {
	loopback := netip.IPv6Loopback().As16()
	return append(isOf(v6), loadAddress(v6, destAt[v6], first), equal(loopback[:]), &expr.Verdict{Kind: expr.VerdictReturn})
}

// mapPort looks the packet's destination up in a map, with its address or without, and
// sends it to the pod that is found.
func mapPort(f family, in setName, byAddress bool) []expr.Any {
	rule := isOf(f)
	next := uint32(first)
	if byAddress {
		rule = append(rule, loadAddress(f, destAt[f], next))
		next += addressWords[f]
	}
	return append(rule,
		&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: next},
		&expr.Payload{DestRegister: next + 1, Base: expr.PayloadBaseTransportHeader, Offset: 2, Len: 2},
		&expr.Lookup{SourceRegister: first, SetName: string(in), IsDestRegSet: true, DestRegister: first},
		&expr.NAT{Type: expr.NATTypeDestNAT, Family: uint32(protocolOf[f]), RegAddrMin: first, RegProtoMin: first + addressWords[f]},
	)
}

// hairpin masquerades what a pod sends to itself by way of the node.
func hairpin(f family) []expr.Any {
	rule := append(isOf(f), translated()...)
	return append(append(rule, lookup(f, sourceAt[f], destAt[f])...), &expr.Masq{})
}

// onLoopback applies to IPv4 packets with a loopback address at an offset of the header.
func onLoopback(offset uint32, conditions, then []expr.Any) []expr.Any {
	rule := append(isOf(v4), loadAddress(v4, offset, first),
		&expr.Bitwise{SourceRegister: first, DestRegister: first, Len: 4, Mask: []byte{255, 0, 0, 0}, Xor: make([]byte, 4)},
		equal([]byte{127, 0, 0, 0}))
	return append(append(rule, conditions...), then...)
}

var (
	notFromLo = []expr.Any{
		&expr.Meta{Key: expr.MetaKeyIIFNAME, Register: first},
		&expr.Cmp{Op: expr.CmpOpNeq, Register: first, Data: []byte("lo\x00")},
	}
	drop = []expr.Any{&expr.Verdict{Kind: expr.VerdictDrop}}
)

// translated applies to connections whose destination was changed, by whomever.
func translated() []expr.Any {
	status := binaryutil.NativeEndian.PutUint32(dstNAT)
	return []expr.Any{
		&expr.Ct{Key: expr.CtKeySTATUS, Register: first},
		&expr.Bitwise{SourceRegister: first, DestRegister: first, Len: 4, Mask: status, Xor: make([]byte, 4)},
		equal(status),
	}
}

// dstNAT is IPS_DST_NAT of linux/netfilter/nf_conntrack_common.h.
const dstNAT = 1 << 5

// lookup applies to packets whose addresses at two offsets of the header are a hairpin.
func lookup(f family, offsets ...uint32) (rule []expr.Any) {
	for i, offset := range offsets {
		rule = append(rule, loadAddress(f, offset, first+uint32(i)*addressWords[f]))
	}
	return append(rule, &expr.Lookup{SourceRegister: first, SetName: string(hairpins[f])})
}

func isOf(f family) []expr.Any {
	return []expr.Any{&expr.Meta{Key: expr.MetaKeyNFPROTO, Register: first}, equal([]byte{protocolOf[f]})}
}

func loadAddress(f family, offset, into uint32) expr.Any {
	return &expr.Payload{DestRegister: into, Base: expr.PayloadBaseNetworkHeader, Offset: offset, Len: addressWords[f] * wordSize}
}

func equal(data []byte) expr.Any {
	return &expr.Cmp{Op: expr.CmpOpEq, Register: first, Data: data}
}
