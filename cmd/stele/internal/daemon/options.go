package daemon

import (
	"cmp"
	"fmt"

	"github.com/stele-runtime/stele/cmd/stele/internal/config"
	"github.com/stele-runtime/stele/executors/facts"
	"github.com/stele-runtime/stele/executors/spec"
	"github.com/stele-runtime/stele/executors/spec/confine"
)

// options are what the administrator decides for containers of a handler.
func (d *Drivers) options(r config.Runtime, h config.Handler) (spec.Options, error) {
	options := spec.Options{
		Options: confine.Options{
			Capabilities: r.DefaultCapabilities, InheritableCapabilities: r.AddInheritableCapabilities,
			AppArmorProfile: appArmorProfile(d.Host, r), LabelHostNetwork: !r.HostnetworkDisableSELinux,
			NativeSeccomp: r.SeccompNativeOnly,
		},
		Env: r.DefaultEnv, PidsLimit: r.PidsLimit,
		Annotations: h.AllowedAnnotations, DefaultAnnotations: h.DefaultAnnotations,
		NoHostDevices: h.PrivilegedWithoutHostDevices, AllowAllDevices: h.PrivilegedWithoutHostDevicesAllDevicesAllowed,
		AllowedDevices:    r.AllowedDevices,
		DevicesFollowUser: r.DeviceOwnershipFromSecurityContext,
		ImageVolumes:      spec.ImageVolumes(r.ImageVolumes), AbsentMountSources: r.AbsentMountSourcesToReject, ReadOnly: r.ReadOnly,
	}
	var err error
	if options.MinMemory, err = h.MinMemory(); err != nil {
		return options, err
	}
	if options.ShmSize, err = r.SizeOfShm(); err != nil {
		return options, err
	}
	if options.Timezone, err = r.TimezoneFile(); err != nil {
		return options, err
	}
	if options.DefaultMounts, err = r.DefaultMounts(); err != nil {
		return options, err
	}
	if options.HostRoot, err = r.HostRoot(); err != nil {
		return options, err
	}
	for _, text := range r.DefaultUlimits {
		limit, err := spec.ParseUlimit(text)
		if err != nil {
			return options, err
		}
		options.Rlimits = append(options.Rlimits, limit)
	}
	for _, text := range r.AdditionalDevices {
		device, err := spec.ParseDevice(text)
		if err != nil {
			return options, err
		}
		options.Devices = append(options.Devices, device)
	}
	if options.Seccomp, err = seccompFile(cmp.Or(h.SeccompProfile, r.SeccompProfile)); err != nil {
		return options, err
	}
	options.PrivilegedSeccomp, err = seccompFile(r.PrivilegedSeccompProfile)
	return options, err
}

// seccompFile reads a profile and checks that it is one; nil without a path.
func seccompFile(path string) ([]byte, error) {
	if path == "" {
		return nil, nil
	}
	profile := facts.ReadSeccomp(path)
	if profile.Err != nil {
		return nil, fmt.Errorf("seccomp profile: %w", profile.Err)
	}
	if err := confine.CheckSeccomp(profile.Data); err != nil {
		return nil, fmt.Errorf("seccomp profile %s: %w", path, err)
	}
	return profile.Data, nil
}
