package e2e

import (
	"crypto/sha256"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// ImageStatus returns the status of an image; nil if there is none.
func (c *Client) ImageStatus(ref string) *runtimeapi.Image {
	c.t.Helper()
	answer, err := c.Images.ImageStatus(c.Context(), &runtimeapi.ImageStatusRequest{Image: &runtimeapi.ImageSpec{Image: ref}})
	if err != nil {
		c.t.Fatalf("status of image %s: %v", ref, err)
	}
	return answer.Image
}

// RemoveImage removes an image.
func (c *Client) RemoveImage(ref string) {
	c.t.Helper()
	if _, err := c.Images.RemoveImage(c.Context(), &runtimeapi.RemoveImageRequest{Image: &runtimeapi.ImageSpec{Image: ref}}); err != nil {
		c.t.Fatalf("remove image %s: %v", ref, err)
	}
}

// said returns the lines of a container's output.
func (p *Pod) said(config *runtimeapi.ContainerConfig) []string {
	p.h.t.Helper()
	var lines []string
	for _, line := range p.Log(config) {
		lines = append(lines, line.Text)
	}
	return lines
}

// digestOf is the digest of an image or an index.
func digestOf(t testing.TB, of interface{ Digest() (v1.Hash, error) }) string {
	t.Helper()
	digest, err := of.Digest()
	if err != nil {
		t.Fatal(err)
	}
	return digest.String()
}

func sha256Of(content []byte) []byte {
	sum := sha256.Sum256(content)
	return sum[:]
}

// removeContainers removes all containers of a pod.
func (c *Client) removeContainers(pod *Pod) {
	c.t.Helper()
	all, err := c.Runtime.ListContainers(c.Context(), &runtimeapi.ListContainersRequest{Filter: &runtimeapi.ContainerFilter{PodSandboxId: pod.ID}})
	if err != nil {
		c.t.Fatal(err)
	}
	for _, listed := range all.Containers {
		c.RemoveContainer(listed.Id)
	}
}
