package architecture

// module is the import path of the repository's root.
const module = "github.com/stele-runtime/stele"

// rule says which packages of ours those under a folder may import. The rule
// with the longest folder that contains a package is the one that counts.
type rule struct {
	// folder is relative to the repository's root; the rule holds for the package
	// there and for all below it.
	folder string
	// ours are the folders it may import, each with all below; its own folder is
	// always among them.
	ours []string
	// tests are folders that only its tests may import as well.
	tests []string
	// theirs, if not nil, are the only packages from elsewhere that it may import,
	// the standard library's included. Tests are exempt.
	theirs []string
	// why follows "because" in the failure.
	why string
}

// values is all that pure code needs of the standard library. It has no os, net,
// io, log, context, sync or math/rand: what isn't here can't be done.
var values = []string{
	"bytes", "cmp", "encoding/binary", "encoding/hex", "errors", "fmt", "iter", "maps", "math",
	"slices", "sort", "strconv", "strings", "time", "unicode", "unicode/utf8",
}

var (
	nouns    = []string{"actors/id", "actors/fault", "actors/backoff", "actors/settled"}
	suites   = []string{"actors/machinetest", "eventlog"}
	drivers  = []string{"executors"}
	machines = []string{"actors/id", "actors/fault", "actors/backoff", "actors/settled", "actors/sandbox", "actors/container", "actors/image", "actors/host"}
)

const (
	pureMachine = "a machine is a pure function over values: then recovery is a replay, every failure is a line in a test, " +
		"and no test needs a kernel. What it wants done it names in Owed"
	noOtherMachine = pureMachine + ". Machines meet in actors/node, which routes commands"
	driver         = "a driver does one thing to the node and knows nothing of pods' lives: it can be tested, replaced and read alone. " +
		"The root of executors translates between effects and drivers"
)

var rules = []rule{
	{"proto", nil, nil, nil, "messages are the ground that everything else stands on"},

	{"actors/id", nil, nil, with(values, "crypto/sha256", "encoding/hex"), "ids are plain values that everybody may speak of"},
	{"actors/fault", nil, nil, values, "the error type crosses every boundary, so it may lean on nothing"},
	{"actors/backoff", nil, nil, values, "when something is tried again is a value in the states of several machines"},
	{"actors/settled", nil, nil, values, "which events cancel out is a matter of counting, the same for all machines"},
	{"actors/redact", nil, machines, nil, "one place knows where secrets hide; all that show something lean on it, so that it leans on nothing"},
	{"actors/sandbox", nouns, suites, values, noOtherMachine},
	{"actors/container", nouns, suites, values, noOtherMachine},
	{"actors/image", nouns, suites, values, noOtherMachine},
	{"actors/host", nouns, suites, values, noOtherMachine},
	{"actors/machinetest", nouns, nil, nil, "every machine passes this suite, so it knows none of them"},
	{"actors/codec", with(machines, "actors/redact", "proto"), suites, nil, "it translates events to bytes and back, and decides nothing"},
	{"actors/entity", with(machines, "actors/codec", "eventlog"), suites, nil,
		"the shell persists what a machine decides; who does the work and who reads the answers is not its business"},
	{"actors/node", with(machines, "actors/codec", "actors/entity", "eventlog"), suites, nil,
		"the root routes, spawns and supervises; drivers come to it as functions, and nobody reads through it"},

	{"eventlog", nil, nil, nil, "the log knows records, not pods: it can be tested to death without either"},

	{"executors", with(machines, "actors/redact", "proto"), nil, nil,
		"effects are carried out without knowing who asked: neither the log, nor the actors' shell, nor the CRI's services"},
	{"executors/oci", with(nouns, "executors/monitor", "executors/cgroups", "executors/spec/userns", "executors/streams"), drivers, nil,
		"a runtime's parent is the monitor, always, and what a runtime leaves in the cgroups is cleared with it; of other drivers it knows nothing"},
	{"executors/spec", nouns, drivers, with(values, "path", "net/netip", "encoding/json",
		"github.com/docker/go-units", "github.com/moby/profiles/seccomp", "github.com/moby/sys/capability", "github.com/opencontainers/image-spec/specs-go/v1",
		"github.com/opencontainers/runtime-spec/specs-go", "github.com/opencontainers/runtime-spec/specs-go/features",
		"google.golang.org/protobuf/proto", "k8s.io/cri-api/pkg/apis/runtime/v1"),
		"a plan is a pure function over values: what it must know of the node is asked for, what must be made it lists. " +
			"So every plan is a line in a test, and a fuzzer can play a hostile node and image without root"},
	{"executors/spec/confine", with(nouns, "executors/spec/refusal", "executors/syscalls"), drivers, with(values, "path",
		"github.com/moby/profiles/seccomp", "github.com/moby/sys/capability", "github.com/opencontainers/runtime-spec/specs-go",
		"github.com/opencontainers/runtime-spec/specs-go/features", "k8s.io/cri-api/pkg/apis/runtime/v1"),
		"what confines a process is part of a plan, and knows nothing of mounts, users or limits"},
	{"executors/cdi", with(nouns, "executors/spec/refusal"), drivers, nil,
		"a vendor's specification says what a device takes; who asked for it does not matter"},
	{"executors/apparmor", nil, nil, nil, "it loads a profile, whoever it confines"},
	{"executors/facts", with(nouns, "executors/spec", "executors/apparmor", "executors/cgroups"), drivers, nil,
		"it answers a plan's questions, and what a node can do is in part told by its cgroups; it changes nothing"},
	{"executors/syscalls", nil, nil, []string{"cmp", "embed", "fmt", "runtime", "slices", "strconv", "strings", "sync"},
		"a call's name is a matter of tables; what a call may do is decided elsewhere"},
	{"executors/subids", nil, nil, nil, "it reads lists of ids, whoever they are for"},
	{"executors/streams", nil, nil, []string{"io"}, "what passes between a client and a process is named once, for those who serve the one and drive the other"},
	{"executors/handover", with(nouns, "executors/streams"), drivers, nil, "it passes things between callers and effects, and knows neither"},
	{"executors/images", with(nouns, "executors/storage", "executors/registry"), drivers, nil,
		"to a caller, images and artifacts are one; the two drivers that hold them stay apart"},
	{"executors/stats", with(nouns, "executors/cgroups"), drivers, nil,
		"it reads the kernel's figures of what it is told to exist, and changes nothing"},
	{"executors/volumes", with(nouns, "executors/spec", "executors/apparmor"), drivers, nil, "it carries out a plan's steps, whatever they are for"},
	{"executors/lean", nil, nil, nil, "it gives back memory, and does not know when that is worth it"},
	{"executors/monitor", with(nouns, "proto/monitor"), drivers, nil, driver},
	{"executors/monitor/server", []string{"executors/lean", "executors/monitor", "proto/monitor"}, drivers, nil,
		"the monitor is a small process that survives the daemon; what it links, every node keeps in memory"},

	// Of entity they use the types in which a restored state and an event come.
	{"projections", with(machines, "actors/codec", "actors/entity", "actors/redact", "eventlog", "proto"), suites, nil,
		"a read model is a fold over events: it must be possible to drop it and to build it anew from the log alone"},
	{"projections/names", with(machines, "actors/codec", "eventlog", "proto"), suites, nil,
		"an index from names to streams is a fold over events, and knows neither who searches nor how people write names"},
	{"keeper", with(machines, "actors/codec", "eventlog"), with(suites, "projections", "actors/entity"), nil,
		"what leaves the log is decided from its records and from what lives; no driver and no actor is asked"},
	{"timeline", with(machines, "actors/codec", "actors/redact"), nil, with(values,
		"google.golang.org/protobuf/proto", "k8s.io/cri-api/pkg/apis/runtime/v1"),
		"what is said of an incident is a pure function of records: the same on the node, from a dead daemon's directory and on another machine"},
	{"timeline/page", with(machines, "actors/redact", "timeline"), nil, nil,
		"a page is a pure function of a timeline: the same from a live node, a dead daemon's directory and an exported file"},
	// Its tests show what stands in a log.
	{"cri", with(machines, "actors/redact", "executors/streams", "projections", "proto"), with(suites, "actors/codec"), nil,
		"an RPC becomes a command or a question to a projection; it must not be able to act on the node by itself"},
	{"cri/streaming", []string{"executors/streams"}, nil, nil,
		"clients' streams are connected to functions, whatever these do: the server is tested without a container"},

	{"cmd/stele-monitor", []string{"executors/lean", "executors/monitor", "proto/monitor"}, nil, nil,
		"the monitor is a small process that survives the daemon; what it links, every node keeps in memory"},
	{"cmd/stele", []string{"actors", "cri", "eventlog", "executors", "keeper", "projections", "proto", "timeline"}, nil, nil,
		"the command is the parts list of the product, and the tests are no part of it"},
	{"cmd/stele/internal/places", nil, nil, []string{}, "names that daemon and tools agree on cost nobody an import"},
	{"cmd/stele/internal/record", []string{"eventlog", "proto/admin", "timeline"}, nil, nil, "forms of a record are converted, and nothing is done with them"},
	{"cmd/stele/internal/bundle", []string{"proto/admin"}, nil, nil, "a file is written and read, wherever its records come from and whatever they mean"},
	{"cmd/stele/internal/step", []string{"actors/id", "actors/redact", "timeline"}, with(machines, "actors/codec"), nil, "what the terminal shows is a pure function of records and keys"},
	{"cmd/stele/internal/facts", []string{"actors/redact", "cmd/stele/internal/places", "timeline"}, with(machines, "actors/codec"), nil, "what is known of a node is read, and nothing changed"},
	{"cmd/stele/internal/config", []string{"cmd/stele/internal/places", "executors/cdi", "executors/hooks", "executors/nri", "executors/registry", "executors/spec", "executors/spec/usermode", "executors/stats", "executors/storage", "keeper"}, nil, nil,
		"a configuration is read and checked before there is anything that it could be applied to; of the drivers it needs their limits and defaults"},
	{"cmd/stele/internal/daemon", []string{"cmd/stele/internal/config", "actors", "cri", "eventlog", "executors", "keeper", "projections"}, nil, nil,
		"the daemon's running is tested with fakes; which parts it runs, cmd/stele says"},
	{"cmd/stele/internal/history", []string{"cmd/stele/internal/config", "cmd/stele/internal/places", "actors", "eventlog", "executors/spec", "projections", "proto/state"}, nil, nil,
		"what takes the place of a damaged log is made before there is anything else, and is tested without a node"},
	{"cmd/stele/internal/verify", []string{"actors/codec", "eventlog", "proto/admin"}, nil, nil,
		"a log is verified in the same way in a daemon and in a tool"},
	{"cmd/stele/internal/admin", []string{"cmd/stele/internal/history", "cmd/stele/internal/record", "cmd/stele/internal/verify", "actors", "eventlog", "executors", "projections", "proto/admin", "timeline"}, nil, nil,
		"the tools' questions are answered like the CRI's: from views, the log and the actors; their errors get codes where the CRI's do"},
	{"cmd/stele/internal/client", []string{"cmd/stele/internal/bundle", "cmd/stele/internal/places", "cmd/stele/internal/record", "cmd/stele/internal/verify", "actors/codec", "actors/id", "actors/redact", "eventlog", "projections", "proto/admin", "timeline"},
		with(machines, "actors/entity", "cmd/stele/internal/admin", "cmd/stele/internal/history", "cri", "executors/handover", "executors/registry"), nil,
		"a tool reaches a daemon by its socket, or reads the log of one that is gone; it does not act on the node"},
	{"cmd/stele/internal/show", []string{"actors/codec", "actors/container", "actors/id", "actors/redact", "actors/sandbox", "cmd/stele/internal/record", "proto/admin", "timeline"}, machines, nil,
		"what is printed is a pure function of messages, so that golden files hold all of it"},
	{"test", []string{"actors", "cri", "eventlog", "executors", "keeper", "projections", "proto", "timeline", "cmd"}, nil, nil, "tests may know everything"},
}

// driverRule is for executors/NAME that have no rule of their own above.
var driverRule = rule{ours: with(nouns, "actors/redact", "proto"), tests: drivers, why: driver}

// confinement says that an import from elsewhere belongs to few folders of ours.
type confinement struct {
	// imports are path prefixes.
	imports []string
	// to are folders or files of ours; tests, what was generated and the folder test
	// are exempt.
	to  []string
	why string
}

var confinements = []confinement{
	{[]string{"github.com/asynkron/protoactor-go"}, []string{"actors/entity/actor.go", "actors/node/actors.go", "actors/node/node.go"},
		"the actor library has traps (lost messages, names that are free too early); three files know them, and all that is decided runs without it, in the simulator too"},
	{[]string{"google.golang.org/grpc/codes", "google.golang.org/grpc/status"}, []string{"cri/errors.go"},
		"errors become gRPC codes in one place, so that one table says what the kubelet and the tools see"},
	{[]string{"go.etcd.io/bbolt"}, []string{"eventlog"},
		"there is one store of truth; a second database would be a second truth"},
	{[]string{"go.podman.io/common"}, []string{"executors/hooks"},
		"it has the format of OCI hooks as podman and CRI-O read it, and much that is no business of this node"},
	{[]string{"go.podman.io/image", "go.podman.io/storage"}, []string{"executors/registry", "executors/storage", "cmd/stele"},
		"images and layers are the business of two drivers; cmd/stele needs the library's re-exec hook"},
	{[]string{"github.com/containernetworking"}, []string{"executors/cni"}, "the network is the business of one driver"},
	{[]string{"github.com/google/nftables", "github.com/mdlayher/netlink"}, []string{"executors/hostport"},
		"the kernel's packet filter is changed in one place, in one table of ours"},
	{[]string{"github.com/containerd/nri"}, []string{"executors/nri"}, "plug-ins are strangers, and one driver deals with them"},
	{[]string{"testing"}, []string{"actors/machinetest", "eventlog/logtest"},
		"the product doesn't link the testing package; conformance suites do"},
}

// monitorLinks are modules that the monitor's binary must not contain.
var monitorLinks = []string{
	"google.golang.org/grpc", "k8s.io/", "go.podman.io/", "github.com/asynkron/", "go.etcd.io/", "github.com/containernetworking/",
	"net/http", "crypto/tls",
}

const whyMonitorLinks = "one monitor stays in memory on every node, whatever happens to the daemon: it is small because it can do little"

// topLevel are the folders of the repository's root.
var topLevel = []string{"actors", "cmd", "cri", "docs", "eventlog", "executors", "keeper", "projections", "proto", "test", "timeline"}

func with(folders []string, more ...string) []string {
	return append(append([]string(nil), folders...), more...)
}
