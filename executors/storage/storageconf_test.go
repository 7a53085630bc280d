package storage

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/moby/sys/mountinfo"
	"go.podman.io/storage/types"

	"github.com/stele-runtime/stele/test/images"
)

var quiet = slog.New(slog.NewTextHandler(io.Discard, nil))

// everyKey is a storage.conf with every key that containers-storage.conf(5) has. The
// parameters are a directory that exists and a program.
const everyKey = `
[storage]
driver = "overlay"
driver_priority = ["overlay", "vfs"]
graphroot = "$STELE_TEST_ROOT/graph"
runroot = "/run/user/$UID/containers"
imagestore = "/srv/images"
rootless_storage_path = "$HOME/.local/share/containers/storage"
transient_store = true

[storage.options]
additionalimagestores = ["%[1]s"]
additionallayerstores = ["%[1]s:ref"]
size = "10G"
ignore_chown_errors = "true"
root-auto-userns-user = "storage"
auto-userns-min-size = 1024
auto-userns-max-size = 65536
skip_mount_home = "true"
mount_program = "%[2]s"
mountopt = "nodev"
disable-volatile = true

[storage.options.pull_options]
enable_partial_images = "true"
use_hard_links = "true"
convert_images = "false"
ostree_repos = "/sysroot"
insecure_allow_unpredictable_image_contents = "false"

[storage.options.btrfs]
min_space = "1G"
size = "10G"

[storage.options.overlay]
ignore_chown_errors = "false"
inodes = "1000"
force_mask = "shared"
mount_program = "%[2]s"
mountopt = "nodev,metacopy=on"
skip_mount_home = "true"
size = "10g"
use_composefs = "false"
sync = "filesystem"

[storage.options.vfs]
ignore_chown_errors = "true"
sync = "none"

[storage.options.zfs]
fsname = "tank/containers"
mountopt = "nodev"
size = "10G"
`

func writeConf(t testing.TB, name, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

// podman and CRI-O use the library's own reading of the file.
func TestStorageConfIsReadAsTheLibraryDoes(t *testing.T) {
	t.Setenv("STELE_TEST_ROOT", "/srv")
	whole := fmt.Sprintf(everyKey, t.TempDir(), "/bin/true")
	for name, content := range map[string]string{
		"every key": whole,
		"empty":     "",
		"as distributions ship it": `
# The whole table is optional.
[storage]
driver = "overlay"
runroot = "/run/containers/storage"
graphroot = "/var/lib/containers/storage"
[storage.options]
additionalimagestores = [
]
[storage.options.overlay]
mountopt = "nodev,metacopy=on"
`,
	} {
		t.Run(name, func(t *testing.T) {
			path := writeConf(t, "storage.conf", content)
			conf, err := readStorageConf(path, quiet)
			if err != nil {
				t.Fatal(err)
			}
			got, err := conf.options()
			if err != nil {
				t.Fatal(err)
			}
			t.Setenv(confVariable, path)
			want, err := types.LoadStoreOptions(types.LoadOptions{})
			if err != nil {
				t.Fatal(err)
			}
			if !reflect.DeepEqual(got, want) {
				t.Errorf("read as\n%+v\nwant\n%+v", got, want)
			}
		})
	}
}

func TestStandardLookupOfStorageConf(t *testing.T) {
	home := t.TempDir()
	t.Setenv("XDG_CONFIG_HOME", home)
	for path, content := range map[string]string{
		"storage.conf":          "[storage]\ngraphroot='/from/main'\nrunroot='/from/main'\n[storage.options.overlay]\nmountopt='nodev'\n",
		"storage.conf.d/1.conf": "[storage]\nrunroot='/from/dropin'\n",
	} {
		path = filepath.Join(home, "containers", path)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	read := func(options Options) types.StoreOptions {
		t.Helper()
		options.Logger = quiet
		settings, err := options.settings()
		if err != nil {
			t.Fatal(err)
		}
		return settings
	}
	got := read(Options{})
	if got.GraphRoot != "/from/main" || got.RunRoot != "/from/dropin" || got.GraphDriverName != overlayDriver ||
		!slices.Contains(got.GraphDriverOptions, "overlay.mountopt=nodev") {
		t.Errorf("main file and drop-in give %+v", got)
	}
	// Explicit options override the file, as with CRI-O.
	got = read(Options{
		GraphRoot: "/explicit", ImageStore: "/explicit/images", Driver: vfsDriver, DriverOptions: []string{"vfs.ignore_chown_errors=true"},
	})
	if got.GraphRoot != "/explicit" || got.RunRoot != "/from/dropin" || got.ImageStore != "/explicit/images" || got.GraphDriverName != vfsDriver ||
		!slices.Equal(got.GraphDriverOptions, []string{"vfs.ignore_chown_errors=true", "overlay.skip_mount_home=true"}) {
		t.Errorf("explicit options give %+v", got)
	}
	t.Setenv("STORAGE_DRIVER", "vfs")
	t.Setenv("STORAGE_OPTS", "a=b,c=d")
	if got = read(Options{}); got.GraphDriverName != vfsDriver || got.GraphDriverOptions[1] != "c=d" {
		t.Errorf("the environment gives %+v", got)
	}
	t.Setenv(confVariable, writeConf(t, "other.conf", "[storage]\ngraphroot='/from/env'\n"))
	if got = read(Options{}); got.GraphRoot != "/from/env" || got.RunRoot != defaultRunRoot {
		t.Errorf("a file named by the environment gives %+v", got)
	}
}

func TestMistakesInStorageConfAreErrorsThatNameFileAndKey(t *testing.T) {
	for _, test := range []struct{ content, key string }{
		{"[storage]\ndriver = 'overlayy'", "storage.driver"},
		{"[storage]\ndriver = 'zfs'", "storage.driver"},
		{"[storage]\ndriver = 7", "storage.driver"},
		{"[storage]\ngraphroot = 'relative'", "storage.graphroot"},
		{"[storage]\ngraph_root = '/x'", "storage.graph_root"},
		{"[storage]\ndriver_priority = ['overlay', 'none']", "storage.driver_priority"},
		{"[storage]\ntransient_store = 'true'", "storage.transient_store"},
		{"[storage]\ngraphroot = '/x'\nimagestore = '/x'", "storage.imagestore"},
		{"[storage.options]\nadditionalimagestores = ['/does/not/exist']", "storage.options.additionalimagestores"},
		{"[storage.options]\nadditionalimagestores = ['relative']", "storage.options.additionalimagestores"},
		{"[storage.options]\nadditionalimagestores = '/tmp'", "storage.options.additionalimagestores"},
		{"[storage.options]\nadditionalimagestores = ['/bin/sh']", "storage.options.additionalimagestores"},
		{"[storage.options]\nmountop = 'nodev'", "storage.options.mountop"},
		{"[storage.options]\nauto-userns-min-size = -1", "auto-userns-min-size"},
		{"[storage.options.overlay]\nmount_program = '/does/not/exist'", "storage.options.overlay.mount_program"},
		{"[storage.options.overlay]\nmount_program = '/etc/passwd'", "storage.options.overlay.mount_program"},
		{"[storage.options.overlay]\nsize = 'much'", "storage.options.overlay.size"},
		{"[storage.options.overlay]\ninodes = 'many'", "storage.options.overlay.inodes"},
		{"[storage.options.overlay]\nskip_mount_home = 'maybe'", "storage.options.overlay.skip_mount_home"},
		{"[storage.options.overlay]\nskip_mount_home = true", "storage.options.overlay.skip_mount_home"},
		{"[storage.options.overlay]\nforce_mask = '999'", "storage.options.overlay.force_mask"},
		{"[storage.options.overlay]\nsync = 'often'", "storage.options.overlay.sync"},
		{"[storage.options.overlay]\nmountopts = 'nodev'", "storage.options.overlay.mountopts"},
		{"[storage.options.overlayfs]\nmountopt = 'nodev'", "storage.options.overlayfs"},
		{"[storage.options.vfs]\nsync = 'x'", "storage.options.vfs.sync"},
		{"[storage.options.pull_options]\nenable_partial_images = 'yes'", "storage.options.pull_options.enable_partial_images"},
		{"[storage.options.pull_options]\nenable_partial_images = true", "enable_partial_images"},
		{"[storage.options.pull_options]\nenable_partial = 'true'", "storage.options.pull_options.enable_partial"},
		{"[stroage]\ndriver = 'overlay'", "stroage"},
		{"[storage\n", "line 2"},
	} {
		t.Run(test.content, func(t *testing.T) {
			path := writeConf(t, "storage.conf", test.content)
			options := dirs(t)
			options.StorageConf = path
			options.GraphRoot = ""
			_, err := options.settings()
			if err == nil {
				t.Fatal("no error")
			}
			if !strings.Contains(err.Error(), path) || !strings.Contains(err.Error(), test.key) {
				t.Errorf("the error does not name %s and %s: %v", path, test.key, err)
			}
		})
	}
	options := dirs(t)
	options.StorageConf = "/does/not/exist"
	if _, err := options.settings(); err == nil || !strings.Contains(err.Error(), options.StorageConf) {
		t.Errorf("a file that is not there: %v", err)
	}
}

func TestObsoleteKeysAreMentionedAndDoNoHarm(t *testing.T) {
	var log bytes.Buffer
	path := writeConf(t, "storage.conf", "[storage.options]\nremap-user='containers'\n[storage.options.thinpool]\nautoextend_percent='20'\n")
	conf, err := readStorageConf(path, slog.New(slog.NewTextHandler(&log, nil)))
	if err != nil {
		t.Fatal(err)
	}
	if options, err := conf.options(); err != nil || len(options.GraphDriverOptions) > 0 {
		t.Errorf("options are %+v, %v", options, err)
	}
	for _, key := range []string{"storage.options.remap-user", "storage.options.thinpool.autoextend_percent", path} {
		if !strings.Contains(log.String(), key) {
			t.Errorf("the log does not mention %s: %s", key, log.String())
		}
	}
}

// openConf opens a store with the directories and settings of a storage.conf; %s in the
// text is the directory for everything.
func openConf(t testing.TB, text string) (s *Store, dir string) {
	t.Helper()
	options := dirs(t)
	dir = filepath.Dir(options.GraphRoot)
	options.StorageConf = writeConf(t, "storage.conf", strings.ReplaceAll(text, "%s", dir))
	options.GraphRoot, options.RunRoot = "", ""
	return open(t, options), dir
}

func TestMountOptionsOfStorageConfTakeEffect(t *testing.T) {
	server := images.Registry(t)
	s, dir := openConf(t, "[storage]\ngraphroot='%s/graph'\nrunroot='%s/run'\n[storage.options.overlay]\nmountopt='nodev'\n")
	ref := server.Push(t, "app:v1", small(t, "content", v1.Config{}))
	rootfs := prepare(t, s, id("container"), pull(t, s, server, ref, ref))
	defer release(t, s, id("container"))
	if !strings.HasPrefix(rootfs.Mountpoint, dir+"/graph/") {
		t.Errorf("mounted on %s, not below %s", rootfs.Mountpoint, dir)
	}
	mounts, err := mountinfo.GetMounts(mountinfo.SingleEntryFilter(rootfs.Mountpoint))
	if err != nil || len(mounts) != 1 || !strings.Contains(","+mounts[0].Options+",", ",nodev,") {
		t.Errorf("mounted as %+v, %v; want nodev", mounts, err)
	}
}

// Both drivers, with and without a separate image store and transient records, do
// everything that a container needs.
func TestSettingsUnderWhichContainersLive(t *testing.T) {
	ctx := context.Background()
	for name, conf := range map[string]string{
		"vfs":                             "driver='vfs'",
		"vfs, separate image store":       "driver='vfs'\nimagestore='%s/images'",
		"driver from a list":              "driver_priority=['vfs']",
		"separate image store":            "imagestore='%s/images'",
		"transient":                       "transient_store=true",
		"no volatile mounts":              "[storage.options]\ndisable-volatile=true",
		"transient, separate image store": "transient_store=true\nimagestore='%s/images'",
	} {
		t.Run(name, func(t *testing.T) {
			server := images.Registry(t)
			s, dir := openConf(t, "[storage]\ngraphroot='%s/graph'\nrunroot='%s/run'\n"+conf)
			if s.layout.imageRoot != s.layout.graphRoot && s.layout.imageRoot != dir+"/images" {
				t.Errorf("images are in %s", s.layout.imageRoot)
			}
			ref := server.Push(t, "app:v1", small(t, "content", v1.Config{}))
			image := pull(t, s, server, ref, ref)
			container := id("container")
			for range 2 {
				rootfs := prepare(t, s, container, image)
				if content, err := os.ReadFile(filepath.Join(rootfs.Mountpoint, "file")); err != nil || string(content) != "content" {
					t.Errorf("the image's file is %q, %v", content, err)
				}
				if err := os.WriteFile(filepath.Join(rootfs.Mountpoint, "new"), make([]byte, 1<<20), 0o600); err != nil {
					t.Error(err)
				}
				if rootfs.Mountpoint != s.layout.rootfsMount(container) {
					t.Errorf("mounted on %s; release would look at %s", rootfs.Mountpoint, s.layout.rootfsMount(container))
				}
				if err := s.Images.Remove(ctx, image.ID); err == nil {
					t.Error("an image in use was removed")
				}
				s.Close() // the daemon restarts
				s = open(t, s.options)
			}
			used, containers, err := s.Usage.Filesystems(ctx)
			if err != nil || used.Bytes < 4096 || used.Bytes > 64<<10 || used.Inodes != 2 ||
				containers.Bytes < 1<<20 || used.Path != s.layout.driverDir(s.layout.imageRoot) {
				t.Errorf("Filesystems = %+v, %+v, %v", used, containers, err)
			}
			release(t, s, container)
			expectNothing(t, s, container)
			if err := s.Images.Remove(ctx, ref); err != nil {
				t.Error(err)
			}
			expectEmpty(t, s)
		})
	}
}

func TestImagesOfAnAdditionalStoreAreUsedAndNeverChanged(t *testing.T) {
	ctx := context.Background()
	server := images.Registry(t)
	theirs := dirs(t)
	pushed := small(t, "content", v1.Config{User: "7"})
	ref := server.Push(t, "app:v1", pushed)
	// In another process, as the library cannot open a store twice in one.
	runChild(t, "pull once", theirs, server.RegistriesConf, server.RegistriesConfDir, ref)
	imageID, err := pushed.ConfigName()
	if err != nil {
		t.Fatal(err)
	}
	before := tree(t, theirs.GraphRoot)

	s, _ := openConf(t, "[storage]\ngraphroot='%s/graph'\nrunroot='%s/run'\n[storage.options]\nadditionalimagestores=['"+theirs.GraphRoot+"']\n")
	found, err := s.Images.Resolve(ctx, ref)
	if err != nil || found.ID != imageID.Hex || found.User != "7" {
		t.Fatalf("Resolve = %+v, %v", found, err)
	}
	rootfs := prepare(t, s, id("container"), found)
	if content, err := os.ReadFile(filepath.Join(rootfs.Mountpoint, "file")); err != nil || string(content) != "content" {
		t.Errorf("the image's file is %q, %v", content, err)
	}
	if err := os.WriteFile(filepath.Join(rootfs.Mountpoint, "file"), []byte("changed"), 0o600); err != nil {
		t.Error(err)
	}
	release(t, s, id("container"))
	for _, name := range []string{ref, imageID.Hex} {
		if err := s.Images.Remove(ctx, name); err == nil || !strings.Contains(err.Error(), "read-only") {
			t.Errorf("Remove(%s) = %v, want that the store is read-only", name, err)
		}
	}
	if _, err := s.Images.CollectOrphans(ctx, 0); err != nil {
		t.Error(err)
	}
	if used, _, err := s.Usage.Filesystems(ctx); err != nil || used.Inodes != 0 {
		t.Errorf("what others own counts as ours: %+v, %v", used, err)
	}
	s.Close()
	s = open(t, s.options)
	// Pulled into the own store, it can be removed there.
	pull(t, s, server, ref, ref)
	if err := s.Images.Remove(ctx, imageID.Hex); err != nil {
		t.Error(err)
	}
	if found, err := s.Images.Resolve(ctx, ref); err != nil || found.ID != imageID.Hex {
		t.Errorf("after removing our copy: %q, %v", found.ID, err)
	}
	if after := tree(t, theirs.GraphRoot); !slices.Equal(before, after) {
		t.Errorf("the other store was changed: %q, was %q", after, before)
	}
}

// A store made without root has files that belong to its user's mapped ids. No container may see
// them so.
func TestImageOfAStoreWithMappedIDs(t *testing.T) {
	ctx := context.Background()
	server := images.Registry(t)
	theirs := dirs(t)
	ref := server.Push(t, "app:v1", small(t, "content", v1.Config{}))
	runChild(t, "pull once", theirs, server.RegistriesConf, server.RegistriesConfDir, ref)
	index := filepath.Join(theirs.GraphRoot, "overlay-layers", "layers.json")
	var records []map[string]any
	content, err := os.ReadFile(index)
	must(t, err, json.Unmarshal(content, &records))
	for _, record := range records {
		record["uidmap"] = []map[string]int{{"container_id": 0, "host_id": 100000, "size": 65536}}
	}
	content, err = json.Marshal(records)
	must(t, err, os.WriteFile(index, content, 0o600))

	s, _ := openConf(t, "[storage]\ngraphroot='%s/graph'\nrunroot='%s/run'\n[storage.options]\nadditionalimagestores=['"+theirs.GraphRoot+"']\n")
	found, err := s.Images.Resolve(ctx, ref)
	must(t, err)
	for range 2 {
		if _, err := s.Rootfses.Prepare(ctx, RootfsRequest{ContainerID: id("container"), ImageID: found.ID}); err == nil || !strings.Contains(err.Error(), "mapped ids") {
			t.Errorf("Prepare = %v, want that the ids are mapped", err)
		}
	}
	expectNothing(t, s, id("container"))
}

// tree lists a directory's files, with sizes and times of change, without locks.
func tree(t testing.TB, root string) []string {
	t.Helper()
	var list []string
	err := filepath.Walk(root, func(path string, info os.FileInfo, err error) error {
		if err == nil && !strings.HasSuffix(path, ".lock") && !info.IsDir() {
			list = append(list, fmt.Sprint(path, " ", info.Size(), " ", info.ModTime()))
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return list
}
