package audit

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/google/nftables"

	"github.com/stele-runtime/stele/executors/hostport"
)

// veths finds the host's ends of pods' links: the ports of the bridges.
func veths(scope Scope, snapshot Snapshot) error {
	for _, bridge := range scope.Bridges {
		ports, err := os.ReadDir(filepath.Join("/sys/class/net", bridge, "brif"))
		if err != nil && !gone(err) {
			return err
		}
		for _, port := range ports {
			snapshot.add(Veth, port.Name(), "on "+bridge)
		}
	}
	return nil
}

// addresses finds the addresses that host-local allocated: a file for each, with the
// container's id and interface, in a directory for each network.
func addresses(scope Scope, snapshot Snapshot) error {
	for _, dir := range scope.IPAM {
		found, err := filepath.Glob(filepath.Join(dir, "*", "*"))
		if err != nil {
			return err
		}
		for _, path := range found {
			name := filepath.Base(path)
			if name == "lock" || strings.HasPrefix(name, "last_reserved_ip.") {
				continue
			}
			owner, err := readIfThere(path)
			if err != nil {
				return err
			}
			snapshot.add(Address, path, strings.Join(strings.Fields(string(owner)), " "))
		}
	}
	return nil
}

// cniChain matches the chains that the bridge and portmap plugins make for one container;
// those of the whole node have words for names.
var cniChain = regexp.MustCompile(`\bCNI-(?:DN-|SN-)?[0-9a-f]{16,}\b`)

// hostPorts finds the mappings in the daemon's own table.
func hostPorts(scope Scope, snapshot Snapshot) error {
	if scope.Root == "" {
		return nil
	}
	conn, err := nftables.New()
	if err != nil {
		return fmt.Errorf("nftables: %w", err)
	}
	table := &nftables.Table{Name: hostport.TableName(scope.Root), Family: nftables.TableFamilyINet}
	if _, err := conn.ListTableOfFamily(table.Name, table.Family); err != nil {
		return nil // there is none
	}
	sets, err := conn.GetSets(table)
	if err != nil {
		return fmt.Errorf("nftables: list the sets of %s: %w", table.Name, err)
	}
	for _, set := range sets {
		elements, err := conn.GetSetElements(set)
		if err != nil {
			return fmt.Errorf("nftables: list %s of %s: %w", set.Name, table.Name, err)
		}
		for _, e := range elements {
			snapshot.add(HostPort, fmt.Sprintf("%s, % x of pod %s", set.Name, e.Key, e.Comment), table.Name)
		}
	}
	return nil
}

// clearHostPorts removes the daemon's own table.
func clearHostPorts(scope Scope) error {
	if scope.Root == "" {
		return nil
	}
	conn, err := nftables.New()
	if err != nil {
		return fmt.Errorf("nftables: %w", err)
	}
	table := &nftables.Table{Name: hostport.TableName(scope.Root), Family: nftables.TableFamilyINet}
	conn.AddTable(table) // then there is one to delete
	conn.DelTable(table)
	if err := conn.Flush(); err != nil {
		return fmt.Errorf("nftables: delete %s: %w", table.Name, err)
	}
	return nil
}

// firewall finds the plugins' rules that name one of the networks or ids, and
// the chains that these jump to.
func firewall(scope Scope, snapshot Snapshot) error {
	if len(scope.Networks) == 0 {
		return nil
	}
	for _, save := range []string{"iptables-save", "ip6tables-save"} {
		path, err := exec.LookPath(save)
		if err != nil {
			continue
		}
		out, err := exec.Command(path).CombinedOutput()
		if err != nil {
			return fmt.Errorf("%s: %w: %s", save, err, out)
		}
		scope.firewallRules(string(out), save, snapshot)
	}
	return nil
}

func (s Scope) firewallRules(rules, from string, snapshot Snapshot) {
	chains, referred := map[string]bool{}, map[string]bool{}
	for line := range strings.Lines(rules) {
		line = strings.TrimSpace(line)
		if name, ok := strings.CutPrefix(line, ":"); ok {
			name, _, _ = strings.Cut(name, " ")
			if cniChain.MatchString(name) {
				chains[name] = true
			}
			continue
		}
		if !strings.HasPrefix(line, "-A ") {
			continue
		}
		if _, target, ok := strings.Cut(line, " -j "); ok {
			target, _, _ = strings.Cut(target, " ")
			referred[target] = true
		}
		if s.namedIn(line) {
			snapshot.add(Firewall, line, from)
		}
	}
	for chain := range chains {
		// Nobody knows whose it was, and it is useless.
		if !referred[chain] {
			snapshot.add(Firewall, "chain "+chain, from+", nothing jumps to it")
		}
	}
}

// namedIn reports whether a rule's comment names one of the networks, as the
// plugins write it: name: "NETWORK" id: "ID", with the quotes escaped.
func (s Scope) namedIn(rule string) bool {
	plain := strings.ReplaceAll(rule, `\"`, `"`)
	for _, network := range s.Networks {
		if strings.Contains(plain, `name: "`+network+`"`) {
			return true
		}
	}
	for _, id := range s.IDs {
		if strings.Contains(plain, id) {
			return true
		}
	}
	return false
}
