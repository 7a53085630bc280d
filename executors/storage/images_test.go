package storage

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/mutate"

	"github.com/stele-runtime/stele/test/images"
)

func TestImagesDescribesWhatWasPulled(t *testing.T) {
	server := images.Registry(t)
	pushed := small(t, "content", v1.Config{User: "app:extra", Cmd: []string{"/run"}})
	ref := server.Push(t, "team/app:v1", pushed)
	options := dirs(t)
	options.Pinned = []string{"*team/app*"}
	s := open(t, options)

	pull(t, s, server, ref, ref)
	listed, err := s.Images.List(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	if len(listed) != 1 {
		t.Fatalf("%d images listed, want 1", len(listed))
	}
	image := listed[0]
	config, _ := pushed.ConfigName()
	manifest, _ := pushed.Digest()
	if image.ID != config.Hex {
		t.Errorf("id is %s, want the configuration's digest %s", image.ID, config.Hex)
	}
	if want := []string{ref}; !slices.Equal(image.Names, want) {
		t.Errorf("names are %q, want %q", image.Names, want)
	}
	if want := []string{server.Host + "/team/app@" + manifest.String()}; !slices.Equal(image.Digests, want) {
		t.Errorf("digests are %q, want %q", image.Digests, want)
	}
	if image.User != "app:extra" || image.Config == nil || !slices.Equal(image.Config.Config.Cmd, []string{"/run"}) {
		t.Errorf("user is %q and configuration %+v", image.User, image.Config)
	}
	if image.Size < 512 || image.Size > 64<<10 {
		t.Errorf("size is %d, which can't be", image.Size)
	}
	if !image.Pinned {
		t.Error("the image is not pinned")
	}
	if image.Created.Year() != 2024 {
		t.Errorf("created is %s, want the configuration's", image.Created)
	}
}

func TestImagesSeesWhatAnotherProcessChanges(t *testing.T) {
	server := images.Registry(t)
	ref := server.Push(t, "app:v1", small(t, "content", v1.Config{}))
	options := dirs(t)
	s := open(t, options)
	image := pull(t, s, server, ref, ref)

	index, err := s.Images.catalog.current(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	if again, err := s.Images.catalog.current(context.Background()); err != nil || again != index {
		t.Errorf("the index was read again without a change (error %v)", err)
	}
	runChild(t, "rename", options, image.ID, "other.example/name:new")
	found, err := s.Images.Resolve(context.Background(), "other.example/name:new")
	if err != nil {
		t.Fatal(err)
	}
	if found.ID != image.ID {
		t.Errorf("found %s, want %s", found.ID, image.ID)
	}
}

func TestResolve(t *testing.T) {
	server := images.Registry(t)
	first := small(t, "first", v1.Config{})
	ref := server.Push(t, "app:v1", first)
	options := dirs(t)
	options.ShortNames = func(name string) ([]string, error) {
		if strings.HasPrefix(name, server.Host) || strings.Contains(name, "UPPER") {
			return []string{name}, nil
		}
		return []string{"localhost/" + name, server.Host + "/" + name}, nil
	}
	s := open(t, options)
	image := pull(t, s, server, ref, ref)
	pull(t, s, server, ref, server.Host+"/other:latest")
	// A name that looks like another image's id prefix.
	second := pull(t, s, server, server.Push(t, "second:v1", small(t, "second", v1.Config{})), server.Host+"/"+image.ID[:12]+":latest")
	manifest, _ := first.Digest()

	for _, test := range []struct {
		name, ref, want string
		err             error
	}{
		{name: "id", ref: image.ID, want: image.ID},
		{name: "id with algorithm", ref: "sha256:" + image.ID, want: image.ID},
		{name: "beginning of id", ref: second.ID[:10], want: second.ID},
		{name: "a name goes before the beginning of an id", ref: image.ID[:12], want: second.ID},
		{name: "full name", ref: ref, want: image.ID},
		{name: "without tag", ref: server.Host + "/other", want: image.ID},
		{name: "short name", ref: "app:v1", want: image.ID},
		{name: "short name without tag", ref: "other", want: image.ID},
		{name: "digest", ref: server.Host + "/app@" + manifest.String(), want: image.ID},
		{name: "tag and digest", ref: server.Host + "/app:whatever@" + manifest.String(), want: image.ID},
		{name: "short name with digest", ref: "app@" + manifest.String(), want: image.ID},
		{name: "other tag", ref: server.Host + "/app:v2", err: ErrImageNotFound},
		{name: "digest in another repository", ref: server.Host + "/elsewhere@" + manifest.String(), err: ErrImageNotFound},
		{name: "unknown id", ref: strings.Repeat("0", 64), err: ErrImageNotFound},
		{name: "too short a beginning", ref: image.ID[:2], err: ErrImageNotFound},
		{name: "empty", ref: "", err: ErrInvalidReference},
		{name: "not a name", ref: "app/UPPER", err: ErrInvalidReference},
		{name: "path", ref: "../../etc/passwd", err: ErrInvalidReference},
	} {
		t.Run(test.name, func(t *testing.T) {
			found, err := s.Images.Resolve(context.Background(), test.ref)
			if !errors.Is(err, test.err) || found.ID != test.want {
				t.Errorf("Resolve(%q) = %q, %v; want %q, %v", test.ref, found.ID, err, test.want, test.err)
			}
		})
	}
}

func TestAmbiguousBeginningOfIDIsNotFound(t *testing.T) {
	index := imageIndex{images: []Image{{ID: "abc1"}, {ID: "abc2"}, {ID: "abd"}}}
	if _, err := index.byPartOfID("abc"); !errors.Is(err, ErrImageNotFound) {
		t.Errorf("error is %v", err)
	}
	if found, err := index.byPartOfID("abd"); err != nil || found.image.ID != "abd" {
		t.Errorf("found %q, %v", found.image.ID, err)
	}
}

func TestTagThatMovesLeavesTheOldImageUntagged(t *testing.T) {
	server := images.Registry(t)
	s := open(t, dirs(t))
	older := small(t, "older", v1.Config{})
	before := pull(t, s, server, server.Push(t, "app:latest", older), server.Host+"/app:latest")
	after := pull(t, s, server, server.Push(t, "app:latest", small(t, "newer", v1.Config{})), server.Host+"/app:latest")

	found, err := s.Images.Resolve(context.Background(), server.Host+"/app:latest")
	if err != nil || found.ID != after.ID {
		t.Errorf("the tag stands for %q, %v; want %q", found.ID, err, after.ID)
	}
	manifest, _ := older.Digest()
	old, err := s.Images.Resolve(context.Background(), server.Host+"/app@"+manifest.String())
	if err != nil || old.ID != before.ID {
		t.Errorf("the old image's digest stands for %q, %v; want %q", old.ID, err, before.ID)
	}
	if len(old.Names) != 0 {
		t.Errorf("the old image has the names %q", old.Names)
	}
}

func TestPinnedPatterns(t *testing.T) {
	for _, test := range []struct {
		pattern, name string
		want          bool
	}{
		{"r.example/a:1", "r.example/a:1", true},
		{"r.example/a:1", "r.example/a:10", false},
		{"r.example/a*", "r.example/abc:1", true},
		{"r.example/a*", "x/r.example/a", false},
		{"*pause*", "r.example/pause:3", true},
		{"*pause*", "r.example/busybox:1", false},
	} {
		patterns, err := parsePinned([]string{test.pattern})
		if err != nil {
			t.Fatal(err)
		}
		if got := patterns.match(test.name); got != test.want {
			t.Errorf("%q matches %q: %t, want %t", test.pattern, test.name, got, test.want)
		}
	}
	for _, pattern := range []string{"", "*", "**", "a*b", "*a"} {
		if _, err := parsePinned([]string{pattern}); err == nil {
			t.Errorf("the pattern %q is accepted", pattern)
		}
	}
}

func TestDigestsOfIndexAndOfItsPlatformAreBothNames(t *testing.T) {
	server := images.Registry(t)
	annotated := mutate.Annotations(small(t, "content", v1.Config{Labels: map[string]string{"label": "l"}}), map[string]string{"note": "n"}).(v1.Image)
	index := images.Index(t, images.OCI, annotated)
	ref := server.PushIndex(t, "team/app:v1", index)
	s := open(t, dirs(t))
	pull(t, s, server, ref, ref)
	image := pull(t, s, server, ref, server.Host+"/other/name:v2")

	indexDigest, _ := index.Digest()
	manifest, _ := annotated.Digest()
	var want []string
	for _, repository := range []string{"/team/app", "/other/name"} {
		for _, digest := range []v1.Hash{indexDigest, manifest} {
			want = append(want, server.Host+repository+"@"+digest.String())
		}
	}
	slices.Sort(want)
	if !slices.Equal(image.Digests, want) {
		t.Errorf("digests are %q, want %q", image.Digests, want)
	}
	for _, name := range want {
		if found, err := s.Images.Resolve(t.Context(), name); err != nil || found.ID != image.ID {
			t.Errorf("Resolve(%s) = %q, %v", name, found.ID, err)
		}
	}
	if image.Annotations["note"] != "n" || image.Config.Config.Labels["label"] != "l" {
		t.Errorf("annotations are %q and labels %q", image.Annotations, image.Config.Config.Labels)
	}
}

func TestRunsAs(t *testing.T) {
	for user, want := range map[string]struct {
		uid  int64 // -1 if it is a name
		name string
	}{
		"":                       {-1, ""},
		"0":                      {0, ""},
		"1000":                   {1000, ""},
		"1000:2000":              {1000, ""},
		"1000:group":             {1000, ""},
		":group":                 {-1, ""},
		"app":                    {-1, "app"},
		"app:1000":               {-1, "app"},
		"2147483647":             {2147483647, ""},
		"2147483648":             {-1, "2147483648"},
		"4294967296":             {-1, "4294967296"}, // 0 in 32 bits
		"18446744073709551616:1": {-1, "18446744073709551616"},
		"-1":                     {-1, "-1"},
		"+5":                     {-1, "+5"},
		"0x10":                   {-1, "0x10"},
		"1_000":                  {-1, "1_000"},
		" 5":                     {-1, " 5"},
		"１０":                     {-1, "１０"},
	} {
		image := Image{User: user}
		uid, name := image.RunsAs()
		got := int64(-1)
		if uid != nil {
			got = *uid
		}
		if got != want.uid || name != want.name {
			t.Errorf("user %q runs as %d, %q; want %d, %q", user, got, name, want.uid, want.name)
		}
	}
}

// TestVolumesThatAreNone: a VOLUME that is empty, or the root, is passed over.
func TestVolumesThatAreNone(t *testing.T) {
	server := images.Registry(t)
	s := open(t, dirs(t))
	none := struct{}{}
	image := pull(t, s, server, server.Push(t, "app:v1", small(t, "a", v1.Config{
		Volumes: map[string]struct{}{"": none, "/": none, "//": none, ".": none, "/..": none, "/data": none, "relative": none},
	})), "app:v1")
	got := slices.Sorted(maps.Keys(image.Config.Config.Volumes))
	if want := []string{"/data", "relative"}; !slices.Equal(got, want) {
		t.Errorf("the image's volumes are %q, want %q", got, want)
	}
}
