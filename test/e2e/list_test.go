package e2e

import (
	"slices"
	"testing"

	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

func TestListFilters(t *testing.T) {
	t.Parallel()
	h := New(t, programs, Options{})

	red, blue := h.PodConfig("red"), h.PodConfig("blue")
	red.Labels["tier"], blue.Labels["tier"] = "front", "back"
	ready, stopped := h.RunPod(red), h.RunPod(blue)
	running := ready.Run(h.ContainerConfig("running"))
	exited := ready.Run(h.ContainerConfig("exited", "true"))
	created := stopped.Create(h.ContainerConfig("created"))
	h.WaitExit(exited)

	containers := map[string]struct {
		filter *runtimeapi.ContainerFilter
		want   []string
	}{
		"all":             {nil, []string{running, exited, created}},
		"empty":           {&runtimeapi.ContainerFilter{}, []string{running, exited, created}},
		"id":              {&runtimeapi.ContainerFilter{Id: exited}, []string{exited}},
		"truncated id":    {&runtimeapi.ContainerFilter{Id: created[:12]}, []string{created}},
		"unknown id":      {&runtimeapi.ContainerFilter{Id: "0123456789ab"}, nil},
		"pod":             {&runtimeapi.ContainerFilter{PodSandboxId: ready.ID}, []string{running, exited}},
		"truncated pod":   {&runtimeapi.ContainerFilter{PodSandboxId: stopped.ID[:12]}, []string{created}},
		"state running":   {containerIn(runtimeapi.ContainerState_CONTAINER_RUNNING), []string{running}},
		"state exited":    {containerIn(runtimeapi.ContainerState_CONTAINER_EXITED), []string{exited}},
		"state created":   {containerIn(runtimeapi.ContainerState_CONTAINER_CREATED), []string{created}},
		"label":           {&runtimeapi.ContainerFilter{LabelSelector: map[string]string{"suite": "e2e"}}, []string{running, exited, created}},
		"labels":          {&runtimeapi.ContainerFilter{LabelSelector: map[string]string{"suite": "e2e", "container": "exited"}}, []string{exited}},
		"label not there": {&runtimeapi.ContainerFilter{LabelSelector: map[string]string{"nope": ""}}, nil},
		"pod and id":      {&runtimeapi.ContainerFilter{PodSandboxId: stopped.ID, Id: running}, nil},
	}
	for name, c := range containers {
		t.Run("containers/"+name, func(t *testing.T) {
			sameSet(t, h.In(t).containersBy(c.filter), c.want)
		})
	}

	stopped.Stop()
	pods := map[string]struct {
		filter *runtimeapi.PodSandboxFilter
		want   []string
	}{
		"all":          {nil, []string{ready.ID, stopped.ID}},
		"id":           {&runtimeapi.PodSandboxFilter{Id: ready.ID}, []string{ready.ID}},
		"truncated id": {&runtimeapi.PodSandboxFilter{Id: stopped.ID[:12]}, []string{stopped.ID}},
		"unknown id":   {&runtimeapi.PodSandboxFilter{Id: "0123456789ab"}, nil},
		"state ready":  {podIn(runtimeapi.PodSandboxState_SANDBOX_READY), []string{ready.ID}},
		"not ready":    {podIn(runtimeapi.PodSandboxState_SANDBOX_NOTREADY), []string{stopped.ID}},
		"label":        {&runtimeapi.PodSandboxFilter{LabelSelector: map[string]string{"tier": "back"}}, []string{stopped.ID}},
		"labels":       {&runtimeapi.PodSandboxFilter{LabelSelector: map[string]string{"tier": "back", "pod": "red"}}, nil},
	}
	for name, c := range pods {
		t.Run("pods/"+name, func(t *testing.T) {
			sameSet(t, h.In(t).podsBy(c.filter), c.want)
		})
	}

	// Every call takes an unambiguous id prefix.
	if status := h.ContainerStatus(running[:12]); status.Id != running {
		t.Errorf("the status of a shortened id is of %s", status.Id)
	}
}

// containersBy lists the ids of the containers that match a filter. StreamContainers must
// say the same.
func (c *Client) containersBy(filter *runtimeapi.ContainerFilter) []string {
	c.t.Helper()
	answer, err := c.Runtime.ListContainers(c.Context(), &runtimeapi.ListContainersRequest{Filter: filter})
	if err != nil {
		c.t.Fatal(err)
	}
	var ids []string
	for _, listed := range answer.Containers {
		ids = append(ids, listed.Id)
	}
	stream, err := c.Runtime.StreamContainers(c.Context(), &runtimeapi.StreamContainersRequest{Filter: filter})
	if got := streamed(c.t, stream, err, func(p *runtimeapi.StreamContainersResponse) (ids []string) {
		for _, x := range p.Containers {
			ids = append(ids, x.Id)
		}
		return ids
	}); !slices.Equal(ids, got) {
		c.t.Errorf("listed %v, streamed %v", ids, got)
	}
	return ids
}

// podsBy lists the ids of the pods that match a filter. StreamPodSandboxes must say the
// same.
func (c *Client) podsBy(filter *runtimeapi.PodSandboxFilter) []string {
	c.t.Helper()
	answer, err := c.Runtime.ListPodSandbox(c.Context(), &runtimeapi.ListPodSandboxRequest{Filter: filter})
	if err != nil {
		c.t.Fatal(err)
	}
	var ids []string
	for _, listed := range answer.Items {
		ids = append(ids, listed.Id)
	}
	stream, err := c.Runtime.StreamPodSandboxes(c.Context(), &runtimeapi.StreamPodSandboxesRequest{Filter: filter})
	if got := streamed(c.t, stream, err, func(p *runtimeapi.StreamPodSandboxesResponse) (ids []string) {
		for _, x := range p.PodSandboxes {
			ids = append(ids, x.Id)
		}
		return ids
	}); !slices.Equal(ids, got) {
		c.t.Errorf("listed %v, streamed %v", ids, got)
	}
	return ids
}

func containerIn(state runtimeapi.ContainerState) *runtimeapi.ContainerFilter {
	return &runtimeapi.ContainerFilter{State: &runtimeapi.ContainerStateValue{State: state}}
}

func podIn(state runtimeapi.PodSandboxState) *runtimeapi.PodSandboxFilter {
	return &runtimeapi.PodSandboxFilter{State: &runtimeapi.PodSandboxStateValue{State: state}}
}

func sameSet(t *testing.T, got, want []string) {
	t.Helper()
	got, want = slices.Sorted(slices.Values(got)), slices.Sorted(slices.Values(want))
	if !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}
