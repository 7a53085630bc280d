package kubelet

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	core "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	meta "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"github.com/stele-runtime/stele/test/e2e"
)

const (
	apiURL = "https://127.0.0.1:6443"
	// token is everybody's who speaks to the API server.
	token = "of-a-test"
)

// cluster is a node whose kubelet has an API server. There is no scheduler: pods name the node.
type cluster struct {
	*node
	api kubernetes.Interface
	// slow is a file: while it is there, the runtime of the handler slow makes no container, and
	// says in another, slow.begun, that it was asked to.
	slow string
}

// newCluster starts all of it, which ends with the test.
func newCluster(t *testing.T) *cluster {
	t.Helper()
	dir := t.TempDir()
	server := startAPI(t, dir)
	api, err := kubernetes.NewForConfig(&rest.Config{
		Host: apiURL, BearerToken: token, TLSClientConfig: rest.TLSClientConfig{Insecure: true}, QPS: 100, Burst: 100,
	})
	if err != nil {
		t.Fatal(err)
	}
	c := &cluster{api: api, slow: filepath.Join(dir, "slow")}
	wait := &node{t: t}
	wait.until("the API server is ready", func() error {
		if !server.running() {
			t.Fatalf("the API server has ended: %s", server.cmd.ProcessState)
		}
		return api.Discovery().RESTClient().Get().AbsPath("/readyz").Do(t.Context()).Error()
	})
	kubeconfig := filepath.Join(dir, "kubeconfig")
	writeFile(t, kubeconfig, fmt.Sprintf(`{"apiVersion": "v1", "kind": "Config", "current-context": "c",
"contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
"clusters": [{"name": "c", "cluster": {"server": %q, "insecure-skip-tls-verify": true}}],
"users": [{"name": "u", "user": {"token": %q}}]}`, apiURL, token))
	runtime := filepath.Join(dir, "slow-runtime")
	writeFile(t, runtime, fmt.Sprintf(`#!/bin/sh
case "$*" in *" create "*)
	if [ -e %[1]s ]; then touch %[1]s.begun; while [ -e %[1]s ]; do sleep 0.1; done; fi
esac
exec %[2]s "$@"
`, c.slow, programs.Runc))
	if err := os.Chmod(runtime, 0o755); err != nil {
		t.Fatal(err)
	}
	c.node = newNode(t, e2e.Options{Handlers: map[string]string{"other": programs.Runc, "slow": runtime}}, "--kubeconfig="+kubeconfig)
	c.until("the node is Ready", func() error {
		n, err := api.CoreV1().Nodes().Get(t.Context(), nodeName, meta.GetOptions{})
		if err != nil {
			return err
		}
		for _, condition := range n.Status.Conditions {
			if condition.Type == core.NodeReady && condition.Status == core.ConditionTrue {
				return nil
			}
		}
		return fmt.Errorf("it has %v", n.Status.Conditions)
	})
	return c
}

// in returns the cluster for a subtest.
func (c *cluster) in(t testing.TB) *cluster {
	inner := *c
	inner.node = c.node.in(t)
	return &inner
}

// startAPI starts etcd and the API server, which it returns.
func startAPI(t *testing.T, dir string) *process {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	accounts := filepath.Join(dir, "accounts.pem")
	writeFile(t, accounts, string(pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: der})))
	tokens := filepath.Join(dir, "tokens.csv")
	writeFile(t, tokens, token+",test,test,system:masters\n")
	const etcd = "http://127.0.0.1:2379"
	launch(t, filepath.Join(dir, "etcd.log"), programs.etcd, "--data-dir="+filepath.Join(dir, "etcd"), "--unsafe-no-fsync", "--log-level=warn",
		"--listen-client-urls="+etcd, "--advertise-client-urls="+etcd, "--listen-peer-urls=http://127.0.0.1:2380")
	return launch(t, filepath.Join(dir, "api.log"), programs.apiserver, "--etcd-servers="+etcd, "--cert-dir="+filepath.Join(dir, "certificates"),
		"--bind-address=127.0.0.1", "--advertise-address="+nodeAddress, "--service-cluster-ip-range=10.87.0.0/24",
		"--service-account-issuer=https://kubernetes.default.svc", "--service-account-key-file="+accounts, "--service-account-signing-key-file="+accounts,
		"--token-auth-file="+tokens, "--authorization-mode=AlwaysAllow", "--allow-privileged",
		// Nothing makes accounts here, and pods need none.
		"--disable-admission-plugins=ServiceAccount")
}

// launch starts a program that ends with the test.
func launch(t *testing.T, log, program string, args ...string) *process {
	t.Helper()
	p := &process{log: log}
	if err := p.start(program, args...); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("%s:\n%s", filepath.Base(log), tail(log, 50))
		}
		if err := p.stop(); err != nil {
			t.Errorf("%s: %v", filepath.Base(program), err)
		}
	})
	return p
}

func writeFile(t *testing.T, path, content string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}

// create makes a pod by the API, which is removed when the test ends.
func (c *cluster) create(m *core.Pod) *pod {
	c.t.Helper()
	m.Spec.NodeName = nodeName
	pods := c.api.CoreV1().Pods(namespace)
	if _, err := pods.Create(c.t.Context(), m, meta.CreateOptions{}); err != nil {
		c.t.Fatalf("create pod %s: %v", m.Name, err)
	}
	p := &pod{n: c.node, name: m.Name}
	p.remove = func() error {
		err := pods.Delete(context.Background(), m.Name, meta.DeleteOptions{})
		if apierrors.IsNotFound(err) {
			return nil
		}
		return err
	}
	p.endWithTest()
	return p
}

// runReady makes a pod and waits until it is ready.
func (c *cluster) runReady(m *core.Pod) *pod {
	c.t.Helper()
	p := c.create(m)
	p.wait("is ready", ready)
	return p
}
