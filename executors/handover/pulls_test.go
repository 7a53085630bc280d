package handover

import (
	"reflect"
	"testing"
)

func TestPulls(t *testing.T) {
	p := NewPulls()
	p.Begin("web:2", "b")
	p.Begin("web:1", "a")
	p.Note("a", LayerTransfer{Digest: "l", Offset: 3, Size: 10})
	p.Note("a", LayerTransfer{Digest: "l", Offset: 7, Size: 10})
	p.Note("a", LayerTransfer{Digest: "l", Offset: 2, Size: 10}) // a second try begins anew
	p.Note("a", LayerTransfer{Digest: "m", Offset: 5, Size: -1})
	p.Note("nobody's", LayerTransfer{Digest: "l", Offset: 100})
	want := []Transfer{
		{Ref: "web:1", Pull: "a", Layers: []LayerTransfer{{"l", 2, 10}, {"m", 5, -1}}},
		{Ref: "web:2", Pull: "b"},
	}
	if got := p.Transfers(); !reflect.DeepEqual(got, want) {
		t.Errorf("transfers %+v, want %+v", got, want)
	}
	if got := p.Transferred("a"); got != 7 {
		t.Errorf("%d bytes of the pull, want 7", got)
	}
	if got := p.Fetched(); got != 12 {
		t.Errorf("%d bytes in all, want 12", got)
	}
	p.End("a")
	p.End("a")
	p.Note("a", LayerTransfer{Digest: "l", Offset: 9})
	if got := p.Transfers(); len(got) != 1 || got[0].Pull != "b" || p.Transferred("a") != 0 || p.Fetched() != 12 {
		t.Errorf("after its end: %+v", got)
	}
}
