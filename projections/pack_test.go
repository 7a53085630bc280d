package projections

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/testing/protocmp"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
	"pgregory.net/rapid"

	"github.com/stele-runtime/stele/eventlog"
	"github.com/stele-runtime/stele/eventlog/memlog"
)

// packed packs the models, and saves what that made of a checkpoint.
func packed(t fatal, f *Feed) {
	f.Pack()
	for len(f.saver.drafts) > 0 {
		if err := f.saver.save(context.Background(), <-f.saver.drafts); err != nil {
			t.Fatal(err)
		}
	}
}

// A model that is packed now and then is that of a log, and no list or entity that was handed out
// changes.
func TestPack(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		log := memlog.New(memlog.Options{})
		defer log.Close()
		n := newTown(log)
		f := opened(t, log)
		for range 4 {
			n.walk(t, 40)
			for r := range log.Read(context.Background(), f.Live.Sequence()+1) {
				f.take(r)
			}
			pods, boxes := f.Live.Sandboxes(), f.Live.Containers()
			pairs := whole(t, f)
			werePods, wereBoxes, again := slices.Clone(pods), slices.Clone(boxes), f.packed == f.Live.Sequence()
			packed(t, f)
			if !slices.Equal(pods, werePods) || !slices.Equal(boxes, wereBoxes) {
				t.Fatal("a list that was handed out has changed")
			}
			options := cmp.Options{protocmp.Transform(), cmpopts.EquateEmpty()}
			if diff := cmp.Diff(pods, f.Live.Sandboxes(), options); diff != "" {
				t.Fatalf("sandboxes (-before +packed):\n%s", diff)
			}
			if diff := cmp.Diff(boxes, f.Live.Containers(), options); diff != "" {
				t.Fatalf("containers (-before +packed):\n%s", diff)
			}
			if diff := cmp.Diff(pairs, whole(t, f)); diff != "" {
				t.Fatalf("checkpoint (-before +packed):\n%s", diff)
			}
			samePast(t, fold(t, log), f.Live.Past())
			sameMembers(t, f.Live)
			for i, c := range f.Live.Containers() {
				if f.Live.Container(c.State.ID) != c || boxes[i] == c && !again {
					t.Fatalf("container %s is not that of the list, or was not copied", c.State.ID)
				}
			}
			if f.Live.Sequence() == 0 {
				continue
			}
			if _, saved := kept(t, log); len(f.draft.pairs) > 0 || cmp.Diff(pairs, saved) != "" {
				t.Fatalf("what is packed is not saved: %v remain", f.draft.pairs)
			}
		}
	})
}

// What is packed is there once, and nobody can write into another's.
func TestPackShares(t *testing.T) {
	log := newMemlog(t)
	pod, err := proto.Marshal(&runtimeapi.PodSandboxConfig{Metadata: &runtimeapi.PodSandboxMetadata{Name: "p"}})
	if err != nil {
		t.Fatal(err)
	}
	config, err := proto.Marshal(&runtimeapi.ContainerConfig{
		Image: &runtimeapi.ImageSpec{Image: "i"}, Linux: &runtimeapi.LinuxContainerConfig{Resources: &runtimeapi.LinuxContainerResources{CpuShares: 7}},
	})
	if err != nil {
		t.Fatal(err)
	}
	for i := range 3 {
		name := fmt.Sprint("name", i)
		run, create := runOf(name, epoch), createOf(name, name, epoch)
		run.Config, create.Config, create.SandboxConfig = pod, config, pod
		if err := errors.Join(newSandbox(name).do(log, run), newContainer(name).do(log, create)); err != nil {
			t.Fatal(err)
		}
	}
	f := opened(t, log)
	packed(t, f)
	first := f.Live.Containers()[0]
	for _, c := range f.Live.Containers() {
		r := c.State.Request
		if cap(r.Config) != len(r.Config) || cap(r.SandboxConfig) != len(r.SandboxConfig) {
			t.Error("who appends to a configuration changes another")
		}
		if pod := f.Live.Sandbox(c.State.Sandbox); &pod.State.Config[0] != &r.SandboxConfig[0] {
			t.Error("a container has its pod's configuration once more")
		}
		if c.Shown.Image != first.Shown.Image || c.Shown.Limits != first.Shown.Limits || c.Shown.Limits.GetCpuShares() != 7 {
			t.Error("what containers have in common is there more than once")
		}
	}
}

// A change that every follower has is dropped, and no other.
func TestChangesDrop(t *testing.T) {
	c := newChanges()
	publishSome(c, 1, 10)
	var late []int
	for change, err := range c.Follow(t.Context(), 0) {
		if err != nil {
			t.Fatal(err)
		}
		late = append(late, int(change.Record.Sequence))
		if len(late) == 1 {
			got, _ := followed(c, 0, func(got []int) bool { return len(got) == 7 })
			if len(got) != 7 || got[6] != 10 {
				t.Fatalf("a follower got %v", got)
			}
			c.drop() // the late one has none of them yet
			if got, _ := followed(c, 0, func(got []int) bool { return len(got) == 7 }); len(got) != 7 || got[0] != 1 {
				t.Fatalf("behind a drop, a follower got %v", got)
			}
			publishSome(c, 11, 11)
		}
		if change.Record.Sequence == 11 {
			c.drop() // it asks for more when it has done with what it was given
			break
		}
	}
	if want := []int{1, 2, 4, 5, 7, 8, 10, 11}; !slices.Equal(late, want) {
		t.Errorf("the late follower got %v, not %v", late, want)
	}
	c.drop()
	got, _ := followed(c, 5, func(got []int) bool { return len(got) == 1 })
	if !slices.Equal(got, []int{-11}) {
		t.Errorf("behind what was dropped, a follower got %v", got)
	}
	publishSome(c, 13, 13)
	if got, _ := followed(c, eventlog.Sequence(11), func(got []int) bool { return len(got) == 1 }); !slices.Equal(got, []int{13}) {
		t.Errorf("a follower that had everything got %v", got)
	}
}
