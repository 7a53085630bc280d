# `make help` lists the targets. The two that matter: `make run` shows Stele at
# work, `make test` proves that it works. Both need root and install what is
# missing.

VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)

# Pure Go OpenPGP instead of gpgme, and no btrfs: otherwise the image libraries
# need cgo.
TAGS    := containers_image_openpgp exclude_graphdriver_btrfs
LDFLAGS := -s -w -X main.version=$(VERSION)

# Tools run from their own modules, to keep them out of the product's go.mod.
BUF           := github.com/bufbuild/buf/cmd/buf@v1.71.0
GOLANGCI_LINT := github.com/golangci/golangci-lint/v2/cmd/golangci-lint@v2.15.0

# Packages under test at a time, and parallel tests in each. The e2e tests start
# real pods and take longest by far.
TEST_P        ?= 2
TEST_PARALLEL ?= 4
TEST_TIMEOUT  ?= 30m
VM_TIMEOUT    ?= 45m
BENCH_TIME    ?= 5s
# Which comparisons with containerd, as sub-benchmarks are named, and how long each takes at least.
# There is crowd500, too, which takes as long as these.
PEERS         ?= (lives|exec|pull|crowd)$$
PEER_TIME     ?= 10s
STEPS         ?= .

export CGO_ENABLED := 0
# The version is set above: a checkout that git distrusts must build, too.
export GOFLAGS     := -trimpath -buildvcs=false
SHELL := /bin/bash

GOTEST = CGO_ENABLED=1 go test -count=1 -race -tags '$(TAGS)' -p $(TEST_P) -parallel $(TEST_PARALLEL) -timeout $(TEST_TIMEOUT)

.PHONY: help build elsewhere deps run test test-quick test-page test-vm test-kubelet lint generate bench bench-peers bench-steps clean

help: ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

build: ## bin/stele and bin/stele-monitor, static
	go build -tags '$(TAGS)' -ldflags '$(LDFLAGS)' -o bin/stele ./cmd/stele
	go build -ldflags '$(LDFLAGS)' -o bin/stele-monitor ./cmd/stele-monitor

elsewhere: ## the tools that read what nodes export, for macOS and Windows
	GOOS=darwin GOARCH=arm64 go build -tags '$(TAGS)' -ldflags '$(LDFLAGS)' -o bin/stele-darwin-arm64 ./cmd/stele
	GOOS=windows GOARCH=amd64 go build -tags '$(TAGS)' -ldflags '$(LDFLAGS)' -o bin/stele-windows-amd64.exe ./cmd/stele

deps: ## install what running and testing need (as root; apt and Go modules)
	@test/deps/install.sh

run: deps build ## demo: a pod that outlives its daemon
	@go build -tags '$(TAGS)' -o bin/stele-demo ./test/demo
	@go build -o bin/stele-demo-web ./test/demo/web
	@exec bin/stele-demo

# Not from the cache, which does not know when the programs under test change. The guest
# gets the machine for itself: emulation takes all of it.
test: test-quick test-page test-kubelet test-vm ## everything: unit, rules, conformance, end to end, pages in a browser, a kubelet, other kinds of nodes (as root)

test-quick: build elsewhere ## all but the browser, the kubelet and the emulated guest
	@test/deps/install.sh test
	@# The longest first: it waits much, and the others fill the gaps.
	$(GOTEST) ./test/e2e ./test/sim ./executors/monitor ./eventlog/boltlog \
		$$(go list -tags '$(TAGS)' ./... | grep -v '/\(test/e2e\|test/sim\|test/vm\|executors/monitor\|eventlog/boltlog\)$$')

test-page: ## the page of "stele inspect -o html", in headless Chromium
	@test/deps/install.sh test
	cd test/page && go test -count=1 -timeout $(TEST_TIMEOUT)

# Verbose: what is skipped says so, and on a slow machine it takes long.
test-vm: build ## cgroup v2, systemd, crun, AppArmor and SELinux, in an emulated guest
	@test/deps/install.sh test
	go test -v -count=1 -tags '$(TAGS)' -timeout $(VM_TIMEOUT) ./test/vm

# A module of its own, where the first build of Kubernetes' programs takes minutes; an older kubelet
# has one more. Its tests mostly wait, so that many run at a time.
KUBELET    ?= 1.37
KUBELETDIR := test/kubelet$(patsubst %,/%,$(filter-out 1.37,$(KUBELET)))
KUBERNETES := go build -tags selinux,notest,grpcnotrace \
	-ldflags "-s -w -X k8s.io/component-base/version.gitVersion=$$(go list -m -f '{{.Version}}' k8s.io/kubernetes)" -o $(CURDIR)/.cache/kubelet

test-kubelet: ## a real kubelet (KUBELET=1.36: that one), without and with an API server (as root)
	@test/deps/install.sh test
	cd $(KUBELETDIR) && $(KUBERNETES)/kubelet-$(KUBELET) k8s.io/kubernetes/cmd/kubelet
	cd test/kubelet && $(KUBERNETES)/kubeadm k8s.io/kubernetes/cmd/kubeadm
	cd test/kubelet && $(KUBERNETES)/kube-apiserver k8s.io/kubernetes/cmd/kube-apiserver
	cd test/kubelet && $(KUBERNETES)/etcd go.etcd.io/etcd/server/v3
	cd test/kubelet && STELE_KUBELET=kubelet-$(KUBELET) go test -count=1 -tags '$(TAGS)' -parallel 8 -timeout $(TEST_TIMEOUT) .

lint: ## golangci-lint, few linters
	go run $(GOLANGCI_LINT) run

generate: ## proto/'s Go code
	go run $(BUF) lint
	go run $(BUF) generate

bench: bench-peers bench-steps build ## these two, then the event log, the monitor, memory, starts and pulls, beside conmon and skopeo (as root)
	@test/deps/install.sh bench
	go test -tags '$(TAGS)' -run '^$$' -bench . -skip 'Peers|Steps' -benchtime $(BENCH_TIME) -timeout $(TEST_TIMEOUT) ./eventlog/... ./keeper ./test/bench
	cd test/page && go test -run '^$$' -bench . -benchtime 600x -timeout $(TEST_TIMEOUT) ./...

bench-peers: ## Stele beside containerd, in turn; PEERS=lives/tmpfs-seccomp/pods=1 for a part (as root)
	@test/deps/install.sh bench
	go test -tags '$(TAGS)' -run '^$$' -bench 'Peers/$(PEERS)' -benchtime $(PEER_TIME) -timeout $(TEST_TIMEOUT) ./test/bench

bench-steps: ## where each millisecond and each execution of a program of a pod's life goes; STEPS=tmpfs-plain for one setting (as root)
	@test/deps/install.sh bench
	go test -tags '$(TAGS)' -run '^$$' -bench 'Steps/$(STEPS)' -benchtime 10x -timeout $(TEST_TIMEOUT) ./test/bench

clean: ## what the other targets built
	rm -rf bin .cache
