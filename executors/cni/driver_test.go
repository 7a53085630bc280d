package cni

import (
	"encoding/json"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/vishvananda/netlink"

	"github.com/stele-runtime/stele/actors/fault"
)

func TestAttachAndDetach(t *testing.T) {
	n := newNet(t, setup{})
	p := n.pod("web")
	a := n.attach(p)
	if a.Network != n.name || len(a.IPs) != 1 || !n.v4.Contains(a.IPs[0]) {
		t.Fatalf("attached to %q with %v, want one of %s in %q", a.Network, a.IPs, n.v4, n.name)
	}
	if !json.Valid(a.Result) {
		t.Errorf("the result is no JSON: %s", a.Result)
	}
	if got := addresses(t, p); !strings.Contains(got, "eth0") || !strings.Contains(got, a.IPs[0].String()+"/24") {
		t.Errorf("the pod has %s, want %s on eth0", got, a.IPs[0])
	}
	n.wantTaken(map[string]string{a.IPs[0].String(): p.ID})
	if err := n.Check(t.Context(), p); err != nil {
		t.Error(err)
	}

	n.detach(p)
	n.wantTaken(map[string]string{})
	n.wantRecord(p, false)
	if got := addresses(t, p); got != "" {
		t.Errorf("the detached pod has %s", got)
	}
	if ports, err := os.ReadDir(filepath.Join("/sys/class/net", n.bridge, "brif")); err != nil || len(ports) > 0 {
		t.Errorf("the bridge has ports %v, %v", ports, err)
	}
	n.detach(p) // is no error
	if err := n.Check(t.Context(), p); err == nil {
		t.Error("the check of a detached pod found nothing")
	}
}

func TestAttachTwiceGivesTheSame(t *testing.T) {
	for _, version := range []string{"0.3.1", "0.4.0", "1.0.0", "1.1.0"} { // CHECK came with 0.4.0
		t.Run(version, func(t *testing.T) {
			n := newNet(t, setup{version: version})
			p := n.pod("web")
			first := n.attach(p)
			n.restart() // the daemon's memory is of no importance
			second := n.attach(p)
			if !slices.Equal(first.IPs, second.IPs) || string(first.Result) != string(second.Result) {
				t.Errorf("first %v, then %v", first, second)
			}
			n.wantTaken(map[string]string{first.IPs[0].String(): p.ID})
			n.detach(p)
		})
	}
}

func TestAttachAnewWhatIsNotAsItWasMade(t *testing.T) {
	n := newNet(t, setup{})
	p := n.pod("web")
	n.attach(p)
	out, err := exec.Command("nsenter", "--net="+p.NetNS, "ip", "link", "del", "eth0").CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if err := n.Check(t.Context(), p); err == nil {
		t.Error("the check found nothing")
	}
	a := n.attach(p)
	if got := addresses(t, p); !strings.Contains(got, a.IPs[0].String()) {
		t.Errorf("the pod has %s, want %s", got, a.IPs[0])
	}
	n.wantTaken(map[string]string{a.IPs[0].String(): p.ID})
	n.detach(p)
}

func TestDualStack(t *testing.T) {
	n := newNet(t, setup{dualStack: true})
	p := n.pod("web")
	a := n.attach(p)
	if len(a.IPs) != 2 || !n.v4.Contains(a.IPs[0]) || !n.v6.Contains(a.IPs[1]) {
		t.Fatalf("addresses %v, want one of %s and one of %s", a.IPs, n.v4, n.v6)
	}
	for _, ip := range a.IPs {
		if got := addresses(t, p); !strings.Contains(got, ip.String()) {
			t.Errorf("the pod has %s, want %s", got, ip)
		}
	}
	n.detach(p)
}

func TestPodsAtOnce(t *testing.T) {
	n := newNet(t, setup{})
	var pods []Pod
	for i := range 16 {
		pods = append(pods, n.pod(fmt.Sprint("web-", i)))
	}
	var all sync.WaitGroup
	var mu sync.Mutex
	owners := map[netip.Addr]string{}
	for _, p := range pods {
		all.Go(func() {
			a, err := n.Attach(t.Context(), p)
			if err != nil {
				t.Error(err)
				return
			}
			mu.Lock()
			defer mu.Unlock()
			owners[a.IPs[0]] = p.ID
		})
	}
	all.Wait()
	if len(owners) != len(pods) {
		t.Errorf("%d pods have %d addresses", len(pods), len(owners))
	}
	for _, p := range pods {
		all.Go(func() {
			if err := n.Detach(t.Context(), p); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	n.wantTaken(map[string]string{})
}

func TestPortMapping(t *testing.T) {
	n := newNet(t, setup{more: []map[string]any{{"type": "portmap", "snat": true, "capabilities": map[string]bool{"portMappings": true}}}})
	p := n.pod("web")
	port := freePort(t)
	p.PortMappings = []PortMapping{
		{HostPort: port, ContainerPort: 8080, Protocol: "tcp"},
		{HostPort: port, ContainerPort: 8053, Protocol: "udp"},
	}
	n.attach(p)
	server := listenIn(t, p, ":8080")
	go func() {
		for {
			conn, err := server.Accept()
			if err != nil {
				return // closed
			}
			_, _ = conn.Write([]byte("pod"))
			_ = conn.Close()
		}
	}()
	node := netip.AddrPortFrom(n.v4.Addr().Next(), uint16(port)).String()
	conn, err := net.DialTimeout("tcp", node, patience)
	if err != nil {
		t.Fatalf("the mapped port: %v", err)
	}
	answer := make([]byte, 3)
	if _, err := conn.Read(answer); err != nil || string(answer) != "pod" {
		t.Errorf("the mapped port said %q, %v", answer, err)
	}
	_ = conn.Close()
	if !strings.Contains(firewall(t), p.ID) {
		t.Error("the firewall does not name the pod; then this test would find no leak")
	}
	n.detach(p)
	if rules := firewall(t); strings.Contains(rules, p.ID) {
		t.Errorf("the firewall still names the pod:\n%s", rules)
	}
}

func TestBandwidth(t *testing.T) {
	n := newNet(t, setup{more: []map[string]any{{"type": "bandwidth", "capabilities": map[string]bool{"bandwidth": true}}}})
	p := n.pod("web")
	for rate, burst := range map[int64]int64{1000: 60_000, 1e6: 60e6, 1e9: 1<<31 - 1} { // in bits
		p.IngressRate, p.EgressRate = rate, rate
		n.attach(p)
		ports, err := os.ReadDir(filepath.Join("/sys/class/net", n.bridge, "brif"))
		if err != nil || len(ports) != 1 {
			t.Fatalf("the bridge has ports %v, %v", ports, err)
		}
		bucket := tokenBucket(t, ports[0].Name())
		size := int64(netlink.Xmitsize(bucket.Rate, bucket.Buffer))
		if int64(bucket.Rate) != rate/8 || size < burst/8*99/100 || size > burst/8*101/100 {
			t.Errorf("the limit is %d bytes a second, %d at once; want %d, %d", bucket.Rate, size, rate/8, burst/8)
		}
		n.detach(p)
	}
}

func tokenBucket(t *testing.T, device string) *netlink.Tbf {
	t.Helper()
	link, err := netlink.LinkByName(device)
	if err != nil {
		t.Fatal(err)
	}
	disciplines, err := netlink.QdiscList(link)
	if err != nil {
		t.Fatal(err)
	}
	for _, discipline := range disciplines {
		if bucket, ok := discipline.(*netlink.Tbf); ok {
			return bucket
		}
	}
	t.Fatalf("%s has no token bucket: %v", device, disciplines)
	return nil
}

func TestCapabilitiesAndArguments(t *testing.T) {
	n, w := newWrapped(t, setup{})
	list := n.list(setup{first: wrapperPlugin})
	list["plugins"].([]map[string]any)[0]["capabilities"] = map[string]bool{"portMappings": true, "bandwidth": true, "dns": true, "cgroupPath": true, annotationsCapability: true}
	list["name"], list["disableCheck"] = n.name, true
	n.configure("10-test.conflist", list)
	n.wantReload(n.name)
	p := n.pod("web")
	p.PortMappings = []PortMapping{{HostPort: 1, ContainerPort: 2, Protocol: "sctp", HostIP: "10.0.0.1"}}
	p.IngressRate, p.EgressRate, p.CgroupParent = 1000, 2000, "/kubepods/pod1"
	p.DNS = DNS{Servers: []string{"10.0.0.2"}, Searches: []string{"svc.local"}, Options: []string{"ndots:5"}}
	p.Annotations = map[string]string{"k8s.v1.cni.cncf.io/networks": `[{"name":"second"}]`}
	n.attach(p)
	n.restart()
	n.detach(Pod{ID: p.ID})
	var told struct{ RuntimeConfig json.RawMessage }
	if err := json.Unmarshal([]byte(w.read("stdin-ADD")), &told); err != nil {
		t.Fatal(err)
	}
	const want = `{"bandwidth":{"egressBurst":120000,"egressRate":2000,"ingressBurst":60000,"ingressRate":1000},` +
		`"cgroupPath":"/kubepods/pod1",` +
		`"dns":{"options":["ndots:5"],"searches":["svc.local"],"servers":["10.0.0.2"]},` +
		`"io.kubernetes.cri.pod-annotations":{"k8s.v1.cni.cncf.io/networks":"[{\"name\":\"second\"}]"},` +
		`"portMappings":[{"containerPort":2,"hostIP":"10.0.0.1","hostPort":1,"protocol":"sctp"}]}`
	if string(told.RuntimeConfig) != want {
		t.Errorf("runtimeConfig is %s\nwant %s", told.RuntimeConfig, want)
	}
	// DEL is given the same, after a restart as well: it undoes what they led to.
	var undone struct{ RuntimeConfig json.RawMessage }
	if err := json.Unmarshal([]byte(w.read("stdin-DEL")), &undone); err != nil || string(undone.RuntimeConfig) != want {
		t.Errorf("runtimeConfig of DEL is %s, %v\nwant %s", undone.RuntimeConfig, err, want)
	}
	args := "IgnoreUnknown=1;K8S_POD_NAMESPACE=default;K8S_POD_NAME=web;K8S_POD_INFRA_CONTAINER_ID=" + p.ID + ";K8S_POD_UID=uid-web"
	if calls := w.read("calls"); !strings.Contains(calls, "ADD "+p.ID+" "+p.NetNS+" "+args+"\n") {
		t.Errorf("calls are %s\nwant an ADD with %s", calls, args)
	}
}

// A plugin that asks for annotations gets a map, also of a pod without any; one that does
// not ask gets none.
func TestAnnotationsAreForPluginsThatAsk(t *testing.T) {
	for asks, want := range map[bool]string{true: `{"io.kubernetes.cri.pod-annotations":{}}`, false: ""} {
		t.Run(fmt.Sprint(asks), func(t *testing.T) {
			n, w := newWrapped(t, setup{})
			list := n.list(setup{first: wrapperPlugin})
			list["plugins"].([]map[string]any)[0]["capabilities"] = map[string]bool{annotationsCapability: asks}
			n.configure("10-test.conflist", list)
			n.wantReload(n.name)
			p := n.pod("web")
			if !asks {
				p.Annotations = map[string]string{"secret": "x"}
			}
			n.attach(p)
			n.detach(p)
			var told struct{ RuntimeConfig json.RawMessage }
			if err := json.Unmarshal([]byte(w.read("stdin-ADD")), &told); err != nil || string(told.RuntimeConfig) != want {
				t.Errorf("runtimeConfig is %s, %v, want %s", told.RuntimeConfig, err, want)
			}
		})
	}
}

func TestPodsThatAreRefused(t *testing.T) {
	n, w := newWrapped(t, setup{})
	id := randomHex(32)
	mapped := func(m PortMapping) Pod { return Pod{ID: id, PortMappings: []PortMapping{m}} }
	for _, c := range []struct {
		pod   Pod
		names string
	}{
		{Pod{ID: id, Name: "a;K8S_POD_NAME=b"}, "metadata.name"},
		{Pod{ID: id, Namespace: "a=b"}, "metadata.namespace"},
		{Pod{ID: id, UID: "a\nb"}, "metadata.uid"},
		{Pod{ID: id, UID: "a\x00b"}, "metadata.uid"},
		{mapped(PortMapping{HostPort: 0, ContainerPort: 80, Protocol: "tcp"}), "host_port"},
		{mapped(PortMapping{HostPort: 65536, ContainerPort: 80, Protocol: "tcp"}), "host_port"},
		{mapped(PortMapping{HostPort: 80, ContainerPort: -1, Protocol: "tcp"}), "container_port"},
		{mapped(PortMapping{HostPort: 80, ContainerPort: 70000, Protocol: "tcp"}), "container_port"},
		{mapped(PortMapping{HostPort: 80, ContainerPort: 80, Protocol: "icmp"}), "protocol"},
		{mapped(PortMapping{HostPort: 80, ContainerPort: 80, Protocol: "tcp", HostIP: "10.0.0.1; reboot"}), "host_ip"},
		{mapped(PortMapping{HostPort: 80, ContainerPort: 80, Protocol: "tcp", HostIP: "fe80::1%eth0"}), "host_ip"},
		{Pod{ID: ""}, "pod id"},
		{Pod{ID: "../../etc/passwd"}, "pod id"},
		{Pod{ID: strings.Repeat("a", 129)}, "pod id"},
	} {
		_, err := n.Attach(t.Context(), c.pod)
		if err == nil || fault.KindOf(err) != fault.Invalid || !strings.Contains(err.Error(), c.names) {
			t.Errorf("%+v: %v, want one of kind Invalid that names %q", c.pod, err, c.names)
		}
		// A pod that was refused is undone all the same, and a plugin would refuse it for ever.
		if err := n.Detach(t.Context(), c.pod); err != nil && podID.MatchString(c.pod.ID) {
			t.Errorf("detach %+v: %v", c.pod, err)
		}
	}
	if err := n.Detach(t.Context(), Pod{ID: "../x"}); fault.KindOf(err) != fault.Invalid {
		t.Errorf("Detach: %v", err)
	}
	if calls := w.calls(); calls != "" {
		t.Errorf("plugins were called: %s", calls)
	}
}

func firewall(t *testing.T) string {
	t.Helper()
	out, err := exec.Command("iptables-save").Output()
	if err != nil {
		t.Fatal(err)
	}
	return string(out)
}

func freePort(t *testing.T) int32 {
	t.Helper()
	listener, err := net.Listen("tcp", ":0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	return int32(listener.Addr().(*net.TCPAddr).Port)
}
