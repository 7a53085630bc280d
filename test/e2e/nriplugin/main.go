// Command nriplugin is an NRI plug-in as a process: one that a daemon starts from its
// folder, and one that dies. Its configuration is JSON:
//
//	{"env": ["NAME=VALUE"]}          add variables to every container
//	{"die": "CreateContainer"}       end in the middle of that request
//	{"hang": "CreateContainer"}      never answer it
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"strings"

	"github.com/containerd/nri/pkg/api"
	"github.com/containerd/nri/pkg/stub"
)

type plugin struct {
	Env       []string
	Die, Hang string
}

func main() {
	p := &plugin{}
	s, err := stub.New(p)
	if err == nil {
		err = s.Run(context.Background())
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "nriplugin:", err)
		os.Exit(1)
	}
}

// Configure reads what to do.
func (p *plugin) Configure(_ context.Context, config, _, _ string) (api.EventMask, error) {
	return 0, json.Unmarshal([]byte(config), p)
}

// CreateContainer adds the variables.
func (p *plugin) CreateContainer(context.Context, *api.PodSandbox, *api.Container) (*api.ContainerAdjustment, []*api.ContainerUpdate, error) {
	p.misbehave("CreateContainer")
	a := &api.ContainerAdjustment{}
	for _, e := range p.Env {
		name, value, _ := strings.Cut(e, "=")
		a.AddEnv(name, value)
	}
	return a, nil, nil
}

// StopPodSandbox does nothing.
func (p *plugin) StopPodSandbox(context.Context, *api.PodSandbox) error {
	p.misbehave("StopPodSandbox")
	return nil
}

func (p *plugin) misbehave(hook string) {
	switch hook {
	case p.Die:
		os.Exit(3)
	case p.Hang:
		select {}
	}
}
