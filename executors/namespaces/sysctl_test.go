package namespaces

import (
	"strings"
	"testing"

	"github.com/stele-runtime/stele/actors/fault"
)

func TestSysctlsThatAreRefused(t *testing.T) {
	for name, c := range map[string]struct {
		key, value           string
		hostNetwork, hostIPC bool
		reason               string
	}{
		"CVE-2022-0811, a plus sign":  {key: "kernel.shm_rmid_forced", value: "1+kernel.core_pattern=|/x", reason: "character"},
		"CVE-2022-0811, a line end":   {key: "net.ipv4.ip_forward", value: "1\nkernel.core_pattern=|/x", reason: "character"},
		"CVE-2022-0811, in the key":   {key: "net.ipv4.ip_forward+kernel.core_pattern", value: "1", reason: "name"},
		"an equals sign in the key":   {key: "net.ipv4.ip_forward=1", value: "1", reason: "name"},
		"CVE-2022-0532, network":      {key: "net.ipv4.ip_forward", value: "1", hostNetwork: true, reason: "network namespace"},
		"CVE-2022-0532, with slashes": {key: "net/ipv4/ip_forward", value: "1", hostNetwork: true, reason: "network namespace"},
		"CVE-2022-0532, IPC":          {key: "kernel.sem", value: "1 2 3 4", hostIPC: true, reason: "IPC namespace"},
		"CVE-2022-0532, queues":       {key: "fs.mqueue.msg_max", value: "1", hostIPC: true, reason: "IPC namespace"},
		"the node's":                  {key: "kernel.core_pattern", value: "|/bin/sh", reason: "no namespace"},
		"the node's, by its prefix":   {key: "kernel.shmem", value: "1", reason: "no namespace"},
		"the host name":               {key: "kernel.hostname", value: "x", reason: "no namespace"},
		"the domain name":             {key: "kernel.domainname", value: "x", reason: "no namespace"},
		"virtual memory":              {key: "vm.overcommit_memory", value: "1", reason: "no namespace"},
		"the parent directory":        {key: "net/../kernel/core_pattern", value: "x", reason: "name"},
		"the parent, mixed":           {key: "net.ipv4/../../kernel/core_pattern", value: "x", reason: "name"},
		"an absolute path":            {key: "/net/ipv4/ip_forward", value: "1", reason: "name"},
		"an empty element":            {key: "net..ip_forward", value: "1", reason: "name"},
		"a directory":                 {key: "fs.mqueue", value: "1", reason: "no namespace"},
		"a class":                     {key: "net", value: "1", reason: "name"},
		"no name":                     {key: "", value: "1", reason: "name"},
		"a pattern":                   {key: "net.*", value: "1", reason: "name"},
		"a zero byte":                 {key: "net.ipv4.ip_forward\x00", value: "1", reason: "name"},
		"a zero byte in the value":    {key: "net.ipv4.ip_forward", value: "1\x00", reason: "character"},
		"a line separator":            {key: "net.ipv4.ip_forward", value: "1\u2028", reason: "character"},
		"a huge value":                {key: "net.ipv4.ip_forward", value: strings.Repeat("1", sysctlMost+1), reason: "long"},
		"a huge key":                  {key: "net." + strings.Repeat("a", sysctlMost), value: "1", reason: "name"},
	} {
		t.Run(name, func(t *testing.T) {
			err := ValidateSysctls(map[string]string{c.key: c.value}, c.hostNetwork, c.hostIPC)
			if err == nil || fault.KindOf(err) != fault.Invalid {
				t.Fatalf("%q=%q: %v", c.key, c.value, err)
			}
			for _, part := range []string{"linux.sysctls[", "value ", c.reason} {
				if !strings.Contains(err.Error(), part) {
					t.Errorf("%q is without %q", err, part)
				}
			}
		})
	}
}

func TestSysctlsThatAreFine(t *testing.T) {
	err := ValidateSysctls(map[string]string{
		"net.ipv4.ip_forward":            "1",
		"net.ipv4.ip_local_port_range":   "1024 65535",
		"net/ipv4/conf/eth0.1/rp_filter": "1",
		"net.ipv4.conf.eth0/1.rp_filter": "1",
		"kernel/sem":                     "1 2\t3 4",
		"kernel.msgmax":                  "65536",
		"kernel.shm_rmid_forced":         "0",
		"fs.mqueue.queues_max":           "64",
	}, false, false)
	if err != nil {
		t.Error(err)
	}
	if err := ValidateSysctls(map[string]string{"kernel.shmmax": "1"}, true, false); err != nil {
		t.Errorf("a pod on the node's network has IPC of its own: %v", err)
	}
	if err := ValidateSysctls(nil, true, true); err != nil {
		t.Error(err)
	}
}

// The two spellings of a key mean one file.
func TestSpellingsOfInterfaceNames(t *testing.T) {
	for _, key := range []string{"net/ipv4/conf/eth0.1/rp_filter", "net.ipv4.conf.eth0/1.rp_filter"} {
		if got := strings.Join(elements(key), "|"); got != "net|ipv4|conf|eth0.1|rp_filter" {
			t.Errorf("%s is %s", key, got)
		}
	}
}
