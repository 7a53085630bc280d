package show

import (
	"fmt"
	"io"
	"text/tabwriter"
	"time"

	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	adminv1 "github.com/stele-runtime/stele/proto/admin/v1"
)

// Images writes a table of images, one line per name.
func Images(to io.Writer, images []*runtimeapi.Image) error {
	table := tabwriter.NewWriter(to, 0, 8, 2, ' ', 0)
	fmt.Fprintln(table, "NAME\tID\tBYTES\tPINNED")
	for _, i := range images {
		names := i.GetRepoTags()
		if len(names) == 0 {
			names = i.GetRepoDigests()
		}
		if len(names) == 0 {
			names = []string{"<none>"}
		}
		for _, name := range names {
			fmt.Fprintf(table, "%s\t%.19s\t%d\t%t\n", name, i.GetId(), i.GetSize(), i.GetPinned())
		}
	}
	return table.Flush()
}

// Loaded writes the images of a load, one line each.
func Loaded(to io.Writer, images []*adminv1.LoadedImage) error {
	for _, i := range images {
		if _, err := fmt.Fprintln(to, i.GetName(), i.GetImageId()); err != nil {
			return err
		}
	}
	return nil
}

// Pull writes the progress of a pull.
func Pull(to io.Writer, p *adminv1.Pull, zone *time.Location) error {
	_, err := fmt.Fprintf(to, "%s: pulling since %s\n", p.GetRef(), p.GetRequestedAt().AsTime().In(zone).Format(time.RFC3339))
	if err == nil && p.GetDigest() != "" {
		_, err = fmt.Fprintf(to, "  %s@%s: %d of %d layers fetched, %s in all\n", p.GetName(), p.GetDigest(), p.GetLayersFetched(), p.GetLayers(), bytesOrUnknown(p.GetBytes()))
	}
	for _, t := range p.GetTransfers() {
		if err == nil {
			_, err = fmt.Fprintf(to, "  %s: %d of %s\n", t.GetDigest(), t.GetOffset(), bytesOrUnknown(t.GetSize()))
		}
	}
	return err
}

// bytesOrUnknown is a size in bytes; a negative one is unknown.
func bytesOrUnknown(n int64) string {
	if n < 0 {
		return "an unknown number of bytes"
	}
	return fmt.Sprintf("%d bytes", n)
}
