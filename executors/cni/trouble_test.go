package cni

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/containernetworking/cni/pkg/types"

	"github.com/stele-runtime/stele/actors/fault"
)

func (w *wrapper) wantCalls(want string) {
	w.t.Helper()
	if got := w.calls(); got != want {
		w.t.Errorf("the plugin was called with %q, want %q", got, want)
	}
}

func TestAddThatFailsIsUndone(t *testing.T) {
	n, w := newWrapped(t, setup{})
	p := n.pod("web")
	w.do("after", "ADD", fails)
	_, err := n.Attach(t.Context(), p)
	if told, ok := errors.AsType[*types.Error](err); !ok || told.Code != 111 || !strings.Contains(err.Error(), "on purpose") {
		t.Errorf("the error is not the plugin's: %v", err)
	}
	n.wantRecord(p, true)
	if len(n.taken()) != 1 {
		t.Error("no address was taken; then this test would find no leak")
	}
	n.detach(p)
	n.wantTaken(map[string]string{})
	n.wantRecord(p, false)
	w.wantCalls("ADD DEL")
}

func TestAddThatEndedWithTheDaemon(t *testing.T) {
	for _, when := range []string{"before", "after"} {
		t.Run(when, func(t *testing.T) {
			n, w := newWrapped(t, setup{})
			p, gone := n.pod("web"), n.pod("gone")
			// To the next daemon this looks as if the daemon had been killed at
			// that point.
			w.do(when, "ADD", "kill -9 $$")
			for _, p := range []Pod{p, gone} {
				if _, err := n.Attach(t.Context(), p); err == nil {
					t.Fatal("attached")
				}
			}
			w.do(when, "ADD", "")
			n.restart()
			n.detach(gone)
			n.wantRecord(gone, false)
			a := n.attach(p)
			n.wantTaken(map[string]string{a.IPs[0].String(): p.ID})
			w.wantCalls("ADD ADD DEL DEL ADD")
			n.detach(p)
		})
	}
}

func TestPluginThatHangsIsEndedWithItsChildren(t *testing.T) {
	for _, when := range []string{"before", "after"} {
		t.Run(when, func(t *testing.T) {
			n, w := newWrapped(t, setup{})
			p := n.pod("web")
			w.do(when, "ADD", hangs)
			if _, err := n.Attach(w.untilHanging(), p); !errors.Is(err, context.Canceled) {
				t.Errorf("%v, want one that says that it was cancelled", err)
			}
			eventually(t, "no plugin is left", func() bool { return len(pluginsOf(t, p.ID)) == 0 })
			n.detach(p)
			n.wantTaken(map[string]string{})
		})
	}
}

// A plugin that outlives its daemon must not attach a pod that was detached since.
func TestDetachEndsPluginsOfAnotherDaemon(t *testing.T) {
	n, w := newWrapped(t, setup{})
	p := n.pod("web")
	// In a session of its own the child is not reached through the plugin.
	w.do("before", "ADD", `setsid sleep 3600 & touch "$dir/hanging"; wait`)
	hanging := w.untilHanging()
	attached := make(chan error, 1)
	go func() {
		_, err := n.Attach(t.Context(), p)
		attached <- err
	}()
	<-hanging.Done()
	other := *n
	other.start()
	defer other.Close()
	other.detach(p)
	if left := pluginsOf(t, p.ID); len(left) > 0 {
		t.Errorf("processes %v are left", left)
	}
	if err := <-attached; err == nil {
		t.Error("a pod was attached whose plugin was killed")
	}
	n.wantTaken(map[string]string{})
}

func TestDetachWithoutNamespace(t *testing.T) {
	for name, leave := range map[string]func(path string) error{
		"gone": func(string) error { return nil },
		"a plain file": func(path string) error {
			return errors.Join(os.Mkdir(filepath.Dir(path), 0o700), os.WriteFile(path, nil, 0o600))
		},
	} {
		t.Run(name, func(t *testing.T) {
			n, w := newWrapped(t, setup{})
			p := n.pod("web")
			n.attach(p)
			removeNamespace(t, p) // as a reboot does
			if err := leave(p.NetNS); err != nil {
				t.Fatal(err)
			}
			n.restart()
			n.detach(p)
			n.wantTaken(map[string]string{})
			n.wantRecord(p, false)
			if calls := w.read("calls"); !strings.Contains(calls, "DEL "+p.ID+"  ") {
				t.Errorf("calls %s\nwant a DEL without a namespace", calls)
			}
		})
	}
}

func TestDetachWithoutConfiguration(t *testing.T) {
	n := newNet(t, setup{})
	p, late := n.pod("web"), n.pod("late")
	n.attach(p)
	if err := os.RemoveAll(n.conf); err != nil {
		t.Fatal(err)
	}
	n.wantReload("")
	if _, err := n.Attach(t.Context(), late); fault.KindOf(err) != fault.Unavailable {
		t.Errorf("attached without a network: %v", err)
	}
	n.wantRecord(late, false)
	n.detach(p)
	n.wantTaken(map[string]string{})
}

// Plugins can have files of their own; a record must have them too.
func TestDetachWithPluginsFromFilesOfTheirOwn(t *testing.T) {
	n, w := newWrapped(t, setup{})
	if err := os.Mkdir(filepath.Join(n.conf, n.name), 0o700); err != nil {
		t.Fatal(err)
	}
	list := n.list(setup{first: wrapperPlugin})
	n.configure(filepath.Join(n.name, "bridge.conf"), list["plugins"].([]map[string]any)[0])
	delete(list, "plugins")
	n.configure("10-test.conflist", list)
	n.wantReload(n.name)
	p := n.pod("web")
	a := n.attach(p)
	n.wantTaken(map[string]string{a.IPs[0].String(): p.ID})
	if err := os.RemoveAll(n.conf); err != nil {
		t.Fatal(err)
	}
	n.restart()
	n.detach(p)
	n.wantTaken(map[string]string{})
	w.wantCalls("ADD DEL")
}

func TestDelThatFailsIsOwed(t *testing.T) {
	n, w := newWrapped(t, setup{})
	p := n.pod("web")
	n.attach(p)
	for script, says := range map[string]string{fails: "on purpose", hangs: context.Canceled.Error()} {
		w.do("before", "DEL", script)
		ctx := t.Context()
		if script == hangs {
			ctx = w.untilHanging()
		}
		if err := n.Detach(ctx, p); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%v, want one that says %q", err, says)
		}
		n.wantRecord(p, true)
	}
	w.do("before", "DEL", "")
	n.restart()
	n.detach(p)
	n.wantRecord(p, false)
	n.wantTaken(map[string]string{})
}

func TestDetachWithDamagedRecord(t *testing.T) {
	for name, content := range map[string]string{"empty": "", "of another pod": `{"Pod":{"ID":"another"}}`, "no JSON": "\x00\x00"} {
		t.Run(name, func(t *testing.T) {
			n := newNet(t, setup{})
			p := n.pod("web")
			n.attach(p)
			if err := os.WriteFile(n.recordPath(p.ID), []byte(content), 0o600); err != nil {
				t.Fatal(err)
			}
			n.restart()
			n.detach(p)
			n.wantTaken(map[string]string{})
			n.wantRecord(p, false)
		})
	}
}

func TestPluginsThatTalkNonsense(t *testing.T) {
	n, w := newWrapped(t, setup{})
	p := n.pod("web")
	for script, says := range map[string]string{
		`output=nonsense`:                          "unmarshal",
		`output=; echo out of order >&2; status=3`: "out of order",
		`head -c 2000000 /dev/zero; exit 0`:        "more than",
	} {
		w.do("after", "ADD", script)
		if _, err := n.Attach(t.Context(), p); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: %v, want one that says %q", script, err, says)
		}
		n.detach(p)
	}
	n.wantTaken(map[string]string{})
}

// Only addresses by which others reach the pod are the pod's. To have none is no failure.
func TestAddressesOfOthers(t *testing.T) {
	n, w := newWrapped(t, setup{})
	p, other := n.pod("web"), n.pod("other")
	link := filepath.Join(t.TempDir(), "link")
	if err := os.Symlink(p.NetNS, link); err != nil {
		t.Fatal(err)
	}
	interfaces, err := json.Marshal([]map[string]string{
		{"name": "br0"}, {"name": "eth0", "sandbox": p.NetNS}, {"name": "lo", "sandbox": p.NetNS}, {"name": "eth0"},
		{"name": "eth0", "sandbox": other.NetNS}, {"name": "eth0", "sandbox": link}, {"name": "eth0", "sandbox": "vm-1"},
	})
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct{ ips, want string }{
		"of a bridge of the node": {`{"address":"10.9.9.1/24","interface":0},{"address":"10.9.9.2/24","interface":1}`, "[10.9.9.2]"},
		"of the node's eth0":      {`{"address":"10.9.9.1/24","interface":3},{"address":"10.9.9.2/24","interface":1}`, "[10.9.9.2]"},
		"of another namespace":    {`{"address":"10.9.9.1/24","interface":4},{"address":"10.9.9.2/24","interface":1}`, "[10.9.9.2]"},
		"of another path":         {`{"address":"10.9.9.2/24","interface":5}`, "[10.9.9.2]"},
		"of a virtual machine":    {`{"address":"10.9.9.2/24","interface":6}`, "[10.9.9.2]"},
		"of the loopback device":  {`{"address":"127.0.0.1/8","interface":2},{"address":"::1/128"},{"address":"fd00::2/64","interface":1}`, "[fd00::2]"},
		"of no host":              {`{"address":"0.0.0.0/0","interface":1},{"address":"ff02::1/128","interface":1}`, "[]"},
		"of no interface":         {`{"address":"10.9.9.2/24"},{"address":"10.9.9.3/24","interface":7}`, "[10.9.9.2 10.9.9.3]"},
		"none":                    {``, "[]"},
	} {
		t.Run(name, func(t *testing.T) {
			w.do("after", "ADD", `output='{"cniVersion":"1.0.0","interfaces":`+string(interfaces)+`,"ips":[`+c.ips+`]}'`)
			if a := n.attach(p); fmt.Sprint(a.IPs) != c.want {
				t.Errorf("the pod's addresses are %v, want %s", a.IPs, c.want)
			}
			n.detach(p)
		})
	}
}

// A real plugin that gives no addresses: bridge without IPAM, for a network of layer 2
// alone.
func TestNetworkWithoutAddresses(t *testing.T) {
	n := newNet(t, setup{})
	n.configure("10-test.conflist", map[string]any{"cniVersion": "1.0.0", "name": n.name, "plugins": []map[string]any{
		{"type": "bridge", "bridge": n.bridge},
	}})
	n.wantReload(n.name)
	p := n.pod("bare")
	for range 2 { // the second time it is checked
		if a := n.attach(p); len(a.IPs) > 0 || !strings.Contains(string(a.Result), "eth0") {
			t.Errorf("addresses %v of %s, want none, and eth0", a.IPs, a.Result)
		}
	}
	n.detach(p)
}

// Results of CNI 0.2 tie no address to an interface.
func TestAddressesOfOldVersions(t *testing.T) {
	n := newNet(t, setup{version: "0.2.0"})
	p := n.pod("old")
	if a := n.attach(p); len(a.IPs) != 1 || !n.v4.Contains(a.IPs[0]) {
		t.Errorf("addresses %v, want one of %s", a.IPs, n.v4)
	}
	n.detach(p)
}

func TestStatus(t *testing.T) {
	n, w := newWrapped(t, setup{version: "1.1.0"})
	if err := n.Status(t.Context()); err != nil {
		t.Error(err)
	}
	w.wantCalls("STATUS")
	w.do("before", "STATUS", strings.Replace(fails, "111", "50", 1))
	if told, ok := errors.AsType[*types.Error](n.Status(t.Context())); !ok || told.Code != 50 {
		t.Errorf("the status is not the plugin's: %v", told)
	}
	w.do("before", "STATUS", hangs)
	if err := n.Status(w.untilHanging()); !errors.Is(err, context.Canceled) {
		t.Errorf("the status of a plugin that hangs: %v", err)
	}
	if err := os.Remove(filepath.Join(n.bin, wrapperPlugin)); err != nil {
		t.Fatal(err)
	}
	if err := n.Status(t.Context()); err == nil || !strings.Contains(err.Error(), wrapperPlugin) {
		t.Errorf("the status without the plugin: %v", err)
	}
	if err := os.Remove(filepath.Join(n.conf, "10-test.conflist")); err != nil {
		t.Fatal(err)
	}
	n.wantReload("")
	if err := n.Status(t.Context()); !errors.Is(err, errNoNetwork) {
		t.Errorf("the status without a network: %v", err)
	}
}

func TestStatusOfOldVersions(t *testing.T) {
	n, w := newWrapped(t, setup{version: "1.0.0"})
	if err := n.Status(t.Context()); err != nil {
		t.Error(err)
	}
	w.wantCalls("") // the verb came with 1.1.0
}

func TestGarbageCollection(t *testing.T) {
	n, w := newWrapped(t, setup{version: "1.1.0"})
	kept, forgotten, begun, unwritten := n.pod("kept"), n.pod("forgotten"), n.pod("begun"), n.pod("unwritten")
	a := n.attach(kept)
	n.attach(forgotten)
	w.do("after", "ADD", fails)
	if _, err := n.Attach(t.Context(), begun); err == nil {
		t.Fatal("attached")
	}
	removeNamespace(t, begun)
	if err := os.WriteFile(n.recordPath(unwritten.ID)+unfinished, []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if len(n.taken()) != 3 {
		t.Errorf("addresses %v, want three", n.taken())
	}
	n.restart()
	for range 2 {
		if err := n.GC(t.Context(), []Attached{{ID: kept.ID}}); err != nil {
			t.Fatal(err)
		}
		n.wantTaken(map[string]string{a.IPs[0].String(): kept.ID})
	}
	left, err := n.recorded()
	if err != nil || len(left) != 1 || left[0] != kept.ID {
		t.Errorf("records of %v are left, %v", left, err)
	}
	if err := n.Check(t.Context(), kept); err != nil {
		t.Error(err)
	}
	var told struct {
		Valid []types.GCAttachment `json:"cni.dev/valid-attachments"`
	}
	if err := json.Unmarshal([]byte(w.read("stdin-GC")), &told); err != nil {
		t.Fatal(err)
	}
	if len(told.Valid) != 1 || told.Valid[0] != (types.GCAttachment{ContainerID: kept.ID, IfName: "eth0"}) {
		t.Errorf("the plugin was told of %v, want the pod that is kept", told.Valid)
	}
	if err := n.GC(t.Context(), nil); err != nil {
		t.Error(err)
	}
	n.wantTaken(map[string]string{})
	if !strings.Contains(w.read("stdin-GC"), `"cni.dev/valid-attachments":[]`) {
		t.Errorf("the plugin was told %s, want an empty list", w.read("stdin-GC"))
	}
}

// What one plugin cannot free must not keep the others from it.
func TestGarbageCollectionGoesOn(t *testing.T) {
	n, w := newWrapped(t, setup{version: "1.1.0"})
	pods := []Pod{n.pod("one"), n.pod("two")}
	for _, p := range pods {
		n.attach(p)
	}
	w.do("before", "DEL", `if [ "$CNI_CONTAINERID" = `+pods[0].ID+` ]; then `+fails+`; fi`)
	if err := n.GC(t.Context(), nil); err == nil || !strings.Contains(err.Error(), "on purpose") {
		t.Errorf("%v, want the plugin's error", err)
	}
	n.wantRecord(pods[0], true)
	n.wantRecord(pods[1], false)
	if !strings.Contains(w.calls(), "GC") {
		t.Error("GC was not called")
	}
	w.do("before", "DEL", "")
	if err := n.GC(t.Context(), nil); err != nil {
		t.Error(err)
	}
	n.wantTaken(map[string]string{})
}
