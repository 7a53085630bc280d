// Package kubelet lets a real kubelet run pods on Stele: what works here is what the users of
// a node have.
//
// It is a module of its own, because the kubelet's requirements are no business of the
// product's go.mod; after a change there, run go mod tidy here. `make test-kubelet` builds the
// kubelet, and etcd and the API server for the few checks that need one (TestCluster). Most
// run static pods, with none (TestKubelet). The folder 1.36 has the requirements of that kubelet,
// for `make test-kubelet KUBELET=1.36`. Kubelet, Stele, registry and test share a network
// and a mount namespace of their own, so that the node's ports, links and mounts stay as they
// are.
//
// What idle pods cost takes half an hour, and is asked for by hand:
//
//	go test -run '^$' -bench Idle -benchtime 1x -timeout 1h
//
// The package must not know how Stele works inside: it writes manifests, asks the kubelet's
// API as kubectl does through an API server, and looks at the node.
//
// Read node_test.go first, then pod_test.go; life_test.go is the shortest story.
package kubelet
