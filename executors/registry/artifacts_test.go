package registry

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/stele-runtime/stele/test/images"
)

func (n *node) pullArtifact(t *testing.T, ref string) Artifact {
	t.Helper()
	artifact, err := n.puller.PullArtifact(context.Background(), ArtifactRequest{Ref: ref})
	if err != nil {
		t.Fatal(err)
	}
	return artifact
}

// expectArtifacts checks the tags and digested names of the list, now and by a puller that
// reads the disk.
func (n *node) expectArtifacts(t *testing.T, want map[string][]string) {
	t.Helper()
	fresh := newArtifactStore(n.puller.artifacts.dir, n.puller.log)
	for who, s := range map[string]*artifactStore{"memory": n.puller.artifacts, "disk": fresh} {
		all, err := s.list(context.Background())
		if err != nil || len(all) != len(want) {
			t.Errorf("%s: %d artifacts, %v; want %d", who, len(all), err, len(want))
		}
		for _, a := range all {
			if got := append(a.Tags(), a.RepoDigests()...); !slices.Equal(got, want[a.Digest]) {
				t.Errorf("%s: %s has %q, want %q", who, a.Digest, got, want[a.Digest])
			}
		}
	}
}

func TestArtifactsAreListedFromMemory(t *testing.T) {
	server := images.Registry(t)
	n := newNode(t, server)
	artifact := n.pullArtifact(t, pushArtifact(t, server, "model:v1", [2]string{"a", "four"}, [2]string{"b", "fives"}))
	if artifact.Size() != 9 || "sha256:"+artifact.ID() != artifact.Digest {
		t.Errorf("artifact is %+v", artifact)
	}
	if err := os.Rename(n.puller.artifacts.dir, n.puller.artifacts.dir+"-elsewhere"); err != nil {
		t.Fatal(err)
	}
	all, err := n.puller.Artifacts()
	if err != nil || len(all) != 1 || all[0].Size() != 9 {
		t.Errorf("listed %+v, %v", all, err)
	}
	// Callers may change the list.
	all[0] = Artifact{}
	if found, err := n.puller.ResolveArtifact(artifact.ID()); err != nil || found.Digest != artifact.Digest {
		t.Errorf("found %+v, %v", found, err)
	}
}

func TestResolveArtifact(t *testing.T) {
	server := images.Registry(t)
	n := newNode(t, server)
	one := n.pullArtifact(t, pushArtifact(t, server, "one:v1", [2]string{"a", "one"}))
	n.pullArtifact(t, pushArtifact(t, server, "other:latest", [2]string{"a", "two"}))
	repository := server.Host + "/one"
	for ref, want := range map[string]error{
		one.Digest:                                   nil,
		one.ID():                                     nil,
		one.ID()[:12]:                                nil,
		repository + ":v1":                           nil,
		repository + "@" + one.Digest:                nil,
		repository + ":v1@" + one.Digest:             nil,
		repository + ":v2":                           ErrNotFound,
		repository:                                   ErrNotFound,
		server.Host + "/else@" + one.Digest:          ErrNotFound,
		"sha256:" + strings.Repeat("0", 64):          ErrNotFound,
		strings.Repeat("0", 63):                      ErrNotFound,
		"Not A Name":                                 ErrInvalidReference,
		repository + "@sha256:" + one.ID()[:12]:      ErrInvalidReference,
		"../../" + filepath.Base(one.Path) + "/../x": ErrInvalidReference,
	} {
		found, err := n.puller.ResolveArtifact(ref)
		if !errors.Is(err, want) || err == nil && found.Digest != one.Digest {
			t.Errorf("%s: found %s, %v; want %v", ref, found.Digest, err, want)
		}
	}
	if found, err := n.puller.ResolveArtifact(server.Host + "/other"); err != nil || found.Digest == one.Digest {
		t.Errorf("without a tag: %+v, %v", found, err)
	}
}

func TestShortNamesOfArtifacts(t *testing.T) {
	server := images.Registry(t)
	n := newNode(t, server)
	one := n.pullArtifact(t, pushArtifact(t, server, "one:v1", [2]string{"a", "one"}))
	n.puller.shortNames = func(name string) ([]string, error) {
		return []string{"localhost/" + name, server.Host + "/" + name}, nil
	}
	if found, err := n.puller.ResolveArtifact("one:v1"); err != nil || found.Digest != one.Digest {
		t.Errorf("found %+v, %v", found, err)
	}
}

// A tag means its last pull.
func TestTagOfArtifactMoves(t *testing.T) {
	server := images.Registry(t)
	n := newNode(t, server)
	ref := pushArtifact(t, server, "model:v1", [2]string{"a", "old"})
	old := n.pullArtifact(t, ref)
	pushArtifact(t, server, "model:v1", [2]string{"a", "new"})
	new := n.pullArtifact(t, ref)
	repository := server.Host + "/model@"
	n.expectArtifacts(t, map[string][]string{old.Digest: {repository + old.Digest}, new.Digest: {ref, repository + new.Digest}})

	// Back again, without another download.
	pushArtifact(t, server, "model:v1", [2]string{"a", "old"})
	n.pullArtifact(t, ref)
	n.expectArtifacts(t, map[string][]string{old.Digest: {ref, repository + old.Digest}, new.Digest: {repository + new.Digest}})

	server.Push(t, "model:v1", small(t, images.Here(), "an image"))
	n.pull(t, ref)
	n.expectArtifacts(t, map[string][]string{old.Digest: {repository + old.Digest}, new.Digest: {repository + new.Digest}})
}

func TestRemoveArtifactByName(t *testing.T) {
	server := images.Registry(t)
	n := newNode(t, server)
	file := [2]string{"a", "content"}
	first, second, elsewhere := pushArtifact(t, server, "model:v1", file), pushArtifact(t, server, "model:v2", file), pushArtifact(t, server, "copy:v1", file)
	var artifact Artifact
	for _, ref := range []string{first, second, elsewhere} {
		artifact = n.pullArtifact(t, ref)
	}
	model, copied := server.Host+"/model@"+artifact.Digest, server.Host+"/copy@"+artifact.Digest
	n.expectArtifacts(t, map[string][]string{artifact.Digest: {elsewhere, first, second, copied, model}})

	refused := errors.New("in use")
	busy := func(Artifact) error { return refused }
	// Only a name goes, which is always allowed.
	if err := n.puller.RemoveArtifact(context.Background(), first, busy); err != nil {
		t.Error(err)
	}
	n.expectArtifacts(t, map[string][]string{artifact.Digest: {elsewhere, second, copied, model}})
	n.removeArtifact(t, model)
	n.expectArtifacts(t, map[string][]string{artifact.Digest: {elsewhere, copied}})
	for _, ref := range []string{elsewhere, artifact.ID(), artifact.Digest} {
		if err := n.puller.RemoveArtifact(context.Background(), ref, busy); !errors.Is(err, refused) {
			t.Errorf("removal by %s although it is in use: %v", ref, err)
		}
	}
	n.expectArtifacts(t, map[string][]string{artifact.Digest: {elsewhere, copied}})
	n.removeArtifact(t, elsewhere)
	n.expectArtifacts(t, nil)
	n.expectNoArtifacts(t)
}

// A damaged record hides no other artifact, and the next pull repairs it.
func TestDamagedArtifactIsMadeAnew(t *testing.T) {
	server := images.Registry(t)
	n := newNode(t, server)
	ref := pushArtifact(t, server, "model:v1", [2]string{"a", "content"})
	artifact, other := n.pullArtifact(t, ref), n.pullArtifact(t, pushArtifact(t, server, "other:v1", [2]string{"a", "other"}))
	dir := filepath.Dir(artifact.Path)
	write(t, filepath.Join(dir, artifactRecord), "{")
	write(t, filepath.Join(dir, artifactRecord+".123"), "left by a crash")
	write(t, filepath.Join(n.puller.artifacts.dir, makingPrefix+"x"), "left by a crash")

	var err error
	if n.puller, err = New(n.puller.options); err != nil {
		t.Fatal(err)
	}
	n.expectArtifacts(t, map[string][]string{other.Digest: append(other.Tags(), other.RepoDigests()...)})
	if left, _ := filepath.Glob(filepath.Join(n.puller.artifacts.dir, "*", artifactRecord+".*")); len(left) > 0 {
		t.Errorf("left are %q", left)
	}
	artifact = n.pullArtifact(t, ref)
	if content, err := os.ReadFile(filepath.Join(artifact.Path, "a")); err != nil || string(content) != "content" {
		t.Errorf("file is %q, %v", content, err)
	}
	if left, _ := filepath.Glob(filepath.Join(n.puller.artifacts.dir, "*")); len(left) != 2 {
		t.Errorf("there are %q", left)
	}
}

func TestArtifactsAtOnce(t *testing.T) {
	server := images.Registry(t)
	n := newNode(t, server)
	file := [2]string{"a", "content"}
	var names []string
	for i := range 8 {
		names = append(names, pushArtifact(t, server, fmt.Sprintf("model:v%d", i), file))
	}
	var all sync.WaitGroup
	for _, name := range names {
		all.Go(func() {
			if _, err := n.puller.PullArtifact(context.Background(), ArtifactRequest{Ref: name}); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	artifact, err := n.puller.ResolveArtifact(names[0])
	if err != nil || !slices.Equal(artifact.Tags(), names) {
		t.Errorf("artifact is %+v, %v; want the tags %q", artifact, err, names)
	}
}
