package storage

import (
	"path/filepath"
	"testing"
)

func TestOpenRefuses(t *testing.T) {
	good := dirs(t)
	for name, change := range map[string]func(*Options){
		"relative root":              func(o *Options) { o.GraphRoot = "here" },
		"other driver":               func(o *Options) { o.Driver = "zfs" },
		"images with the containers": func(o *Options) { o.ImageStore = o.GraphRoot },
		"comma in path":              func(o *Options) { o.GraphRoot = filepath.Join(filepath.Dir(o.GraphRoot), "a,b") },
		"bad pattern":                func(o *Options) { o.Pinned = []string{"*"} },
		"bad driver value":           func(o *Options) { o.DriverOptions = []string{"overlay.no_such_option=1"} },
	} {
		t.Run(name, func(t *testing.T) {
			options := good
			change(&options)
			if s, err := Open(options); err == nil {
				s.Close()
				t.Error("no error")
			}
		})
	}
}

// Two daemons on one machine don't see each other's images, and opening leaves no
// mount behind (the check is dirs').
func TestStoresAreIndependent(t *testing.T) {
	one, image := pulled(t)
	two := open(t, dirs(t))
	if _, err := two.Images.Resolve(t.Context(), image.ID); err == nil {
		t.Error("an image of one store is in the other")
	}
	if _, err := one.Images.Resolve(t.Context(), image.ID); err != nil {
		t.Error(err)
	}
}
