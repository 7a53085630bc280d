package hostport

import (
	"fmt"
	"net/netip"
	"slices"

	"github.com/stele-runtime/stele/actors/fault"
)

// place is where an element is: its set, and its key there.
type place struct {
	set setName
	key string
}

// element is an element of one of the table's sets.
type element struct {
	place
	// value is empty in a set that is no map.
	value string
	// owner is the id of the element's pod.
	owner string
}

// change is what makes the table hold exactly what a pod asks for.
type change struct {
	remove, add []element
	// unmapped are ports for addresses of a family that the pod has no address of.
	unmapped []Port
}

// plan returns the change for a pod, given all that the table holds. It fails if a port
// belongs to another pod, or is asked for twice.
//
// As in CRI-O, one port may be mapped on all addresses to one pod and on a certain address
// to another, and the latter counts there: the kubelet admits no two such pods.
func plan(p Pod, have []element) (change, error) {
	var c change
	wanted := map[place]element{}
	for _, port := range p.Ports {
		mapped := false
		for _, f := range families {
			ip := p.address(f)
			if !ip.IsValid() || !port.of(f) {
				continue
			}
			mapped = true
			e := portElement(p.ID, port, f, ip)
			if twin, twice := wanted[e.place]; twice && twin.value != e.value {
				return change{}, fault.New(fault.Invalid, "map host port", port.String(), "the pod asks for it twice, with different container ports")
			}
			wanted[e.place] = e
			hairpin := element{place{hairpins[f], addressKey(ip, ip)}, "", p.ID}
			wanted[hairpin.place] = hairpin
		}
		if !mapped {
			c.unmapped = append(c.unmapped, port)
		}
	}
	for _, e := range have {
		want, is := wanted[e.place]
		switch {
		case is && want == e:
			delete(wanted, e.place)
		case e.owner == p.ID:
			c.remove = append(c.remove, e)
		case is && e.value == "":
			// An address has one owner, the last: the other pod is about to be undone.
			c.remove = append(c.remove, e)
		case is:
			return change{}, fault.New(fault.Unavailable, "map host port", describe(e.place), "it is mapped to pod %s", e.owner)
		}
	}
	for _, e := range wanted {
		c.add = append(c.add, e)
	}
	return c, nil
}

// ownedBy returns the elements whose owner satisfies is.
func ownedBy(have []element, is func(owner string) bool) []element {
	return slices.DeleteFunc(slices.Clone(have), func(e element) bool { return !is(e.owner) })
}

func portElement(owner string, p Port, f family, ip netip.Addr) element {
	key := fmt.Sprintf("%s%s", word(byte(p.Protocol)), word(byte(p.Host>>8), byte(p.Host)))
	value := string(ip.AsSlice()) + word(byte(p.Container>>8), byte(p.Container))
	if p.everywhere() {
		return element{place{ports[f], key}, value, owner}
	}
	return element{place{addressPorts[f], string(p.HostIP.Unmap().AsSlice()) + key}, value, owner}
}

func addressKey(ips ...netip.Addr) (key string) {
	for _, ip := range ips {
		key += string(ip.AsSlice())
	}
	return key
}

// describe names a place in a map of ports as Port.String does.
func describe(at place) string {
	key := at.key
	var p Port
	if n := len(key) - 2*wordSize; n > 0 {
		p.HostIP, _ = netip.AddrFromSlice([]byte(key[:n]))
		key = key[n:]
	}
	p.Protocol = Protocol(key[0])
	p.Host = uint16(key[wordSize])<<8 | uint16(key[wordSize+1])
	return p.String()
}

// wordSize is the size of a register of nftables in bytes; each part of a key fills whole
// ones.
const wordSize = 4

// word returns bytes as they lie in a register.
func word(b ...byte) string {
	var w [wordSize]byte
	copy(w[:], b)
	return string(w[:])
}
