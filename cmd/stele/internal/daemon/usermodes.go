package daemon

import (
	"sync"
	"time"

	"google.golang.org/protobuf/proto"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/stele-runtime/stele/actors/fault"
	"github.com/stele-runtime/stele/actors/id"
	"github.com/stele-runtime/stele/actors/sandbox"
	"github.com/stele-runtime/stele/executors/spec/usermode"
	"github.com/stele-runtime/stele/executors/subids"
	"github.com/stele-runtime/stele/projections"
)

// UserModes gives user namespaces to pods that ask for one by CRI-O's annotation. The mappings
// become part of the pod's recorded configuration: who has which ids is known from the log, and
// they are free again once the pod is removed.
type UserModes struct {
	// Allowed are the annotations that count, by the pod's handler.
	Allowed map[string][]string
	Rules   usermode.Rules
	// IDs are those that may be given to pods.
	IDs subids.Files
	// Sandboxes are all that are not gone.
	Sandboxes func() []*projections.Sandbox

	mu sync.Mutex
	// reserved are given to pods that are not recorded yet.
	reserved map[id.Sandbox]reservation
}

type reservation struct {
	name  sandbox.Name
	users *runtimeapi.UserNamespace
	// abandoned is when the pod's caller went away, before its creation was answered; zero
	// while it waits. The pod may be recorded all the same.
	abandoned time.Time
}

// reservedFor is how long ids stay reserved for a pod whose caller went away: the event that
// records the pod is on its way to the log.
const reservedFor = 15 * time.Minute

// Sandbox is part of cri.UserModes.
func (u *UserModes) Sandbox(pod id.Sandbox, handler string, config *runtimeapi.PodSandboxConfig) (*runtimeapi.PodSandboxConfig, func(answered bool), error) {
	none := func(bool) {}
	key, value, asked := usermode.Find(config.GetAnnotations(), u.Allowed[handler])
	if !asked || hasUsers(config.GetLinux().GetSecurityContext().GetNamespaceOptions()) {
		return config, none, nil
	}
	mode, err := usermode.Parse(key, value)
	if err != nil {
		return nil, none, refused("run pod sandbox", err)
	}
	var pool usermode.Pool
	if mode.Auto {
		uids, gids, err := u.IDs.Read()
		if err != nil {
			return nil, none, fault.New(fault.Precondition, "run pod sandbox", string(pod), "annotations[%s]: no ids can be chosen: %v", key, err)
		}
		pool.UIDs, pool.GIDs = ranges(uids), ranges(gids)
	}
	users, err := u.reserve(pod, mode, config, pool)
	if err != nil {
		return nil, none, refused("run pod sandbox", err)
	}
	return withUsers(config, users), func(answered bool) { u.settle(pod, answered) }, nil
}

// hasUsers reports whether the kubelet gives the pod a user namespace itself: then its mappings
// count, since those of volumes go with them.
func hasUsers(options *runtimeapi.NamespaceOption) bool {
	users := options.GetUsernsOptions()
	return users != nil && users.Mode != runtimeapi.NamespaceMode_NODE
}

func ranges(ids []subids.Range) (all []usermode.Range) {
	for _, r := range ids {
		all = append(all, usermode.Range(r))
	}
	return all
}

// reserve chooses ids that no other pod has, whoever gave them to it. A repeated request gets
// those of the pod that it is about to join, so that it needs none itself.
func (u *UserModes) reserve(pod id.Sandbox, mode usermode.Mode, config *runtimeapi.PodSandboxConfig, pool usermode.Pool) (*runtimeapi.UserNamespace, error) {
	meta := config.GetMetadata()
	name := sandbox.Name{Name: meta.GetName(), Namespace: meta.GetNamespace(), UID: meta.GetUid(), Attempt: meta.GetAttempt()}
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.reserved == nil {
		u.reserved = map[id.Sandbox]reservation{}
	}
	if users := u.usersOf(name); users != nil {
		u.reserved[pod] = reservation{name: name, users: users}
		return users, nil
	}
	use := func(users *runtimeapi.UserNamespace) {
		pool.UsedUIDs = append(pool.UsedUIDs, usermode.RangesOf(users.GetUids())...)
		pool.UsedGIDs = append(pool.UsedGIDs, usermode.RangesOf(users.GetGids())...)
	}
	for _, s := range u.Sandboxes() {
		use(s.Shown.Namespaces.GetUsernsOptions())
		if r := u.reserved[s.State.ID]; !r.abandoned.IsZero() {
			delete(u.reserved, s.State.ID) // it is recorded
		}
	}
	for of, r := range u.reserved {
		if !r.abandoned.IsZero() && time.Since(r.abandoned) > reservedFor {
			delete(u.reserved, of)
			continue
		}
		use(r.users)
	}
	users, err := mode.Fill(config.GetLinux().GetSecurityContext(), u.Rules, pool)
	if err != nil {
		return nil, err
	}
	u.reserved[pod] = reservation{name: name, users: users}
	return users, nil
}

// usersOf returns what the pod of that name has; nil if there is none.
func (u *UserModes) usersOf(name sandbox.Name) *runtimeapi.UserNamespace {
	for _, s := range u.Sandboxes() {
		if options := s.Shown.Namespaces; s.State.Name == name && hasUsers(options) {
			return options.UsernsOptions
		}
	}
	for _, r := range u.reserved {
		if r.name == name {
			return r.users
		}
	}
	return nil
}

// settle ends a reservation: a pod whose creation was answered is recorded, or will never be.
func (u *UserModes) settle(pod id.Sandbox, answered bool) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if answered {
		delete(u.reserved, pod)
		return
	}
	r := u.reserved[pod]
	r.abandoned = time.Now()
	u.reserved[pod] = r
}

func withUsers(config *runtimeapi.PodSandboxConfig, users *runtimeapi.UserNamespace) *runtimeapi.PodSandboxConfig {
	config, security := withSecurity(config)
	if security.NamespaceOptions == nil {
		security.NamespaceOptions = &runtimeapi.NamespaceOption{}
	}
	security.NamespaceOptions.UsernsOptions = users
	return config
}

// withSecurity returns a copy of a pod's configuration, and the security context in it.
func withSecurity(config *runtimeapi.PodSandboxConfig) (*runtimeapi.PodSandboxConfig, *runtimeapi.LinuxSandboxSecurityContext) {
	config = proto.CloneOf(config)
	if config.Linux == nil {
		config.Linux = &runtimeapi.LinuxPodSandboxConfig{}
	}
	if config.Linux.SecurityContext == nil {
		config.Linux.SecurityContext = &runtimeapi.LinuxSandboxSecurityContext{}
	}
	return config, config.Linux.SecurityContext
}

// Container is part of cri.UserModes. The kubelet does not know of the namespace: it sends the
// mode NODE, and the node's numbers of the user and the groups. A container whose options are
// the kubelet's own mappings is left as it is.
func (u *UserModes) Container(config *runtimeapi.ContainerConfig, pod *runtimeapi.PodSandboxConfig) *runtimeapi.ContainerConfig {
	options := pod.GetLinux().GetSecurityContext().GetNamespaceOptions()
	security := config.GetLinux().GetSecurityContext()
	_, _, asked := usermode.Find(pod.GetAnnotations(), usermode.Keys())
	if !asked || !hasUsers(options) || security == nil || hasUsers(security.GetNamespaceOptions()) {
		return config
	}
	users := options.UsernsOptions
	config = proto.CloneOf(config)
	security = config.Linux.SecurityContext
	if security.NamespaceOptions != nil {
		security.NamespaceOptions.UsernsOptions = users
	}
	if security.RunAsUser != nil {
		security.RunAsUser.Value = usermode.Inside(users.Uids, security.RunAsUser.Value)
	}
	if security.RunAsGroup != nil {
		security.RunAsGroup.Value = usermode.Inside(users.Gids, security.RunAsGroup.Value)
	}
	for i, g := range security.SupplementalGroups {
		security.SupplementalGroups[i] = usermode.Inside(users.Gids, g)
	}
	return config
}
