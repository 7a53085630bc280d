package redo

import (
	"errors"
	"iter"
	"unsafe"
)

// maxWarm is how many unused carries keep their content's memory, so that short-lived
// ones need not ask the kernel for it.
const maxWarm = 64

var errManyCarries = errors.New("too many streams have an unfinished line")

// places are the free places of the table that were in use; warm ones have memory for
// their content.
type places struct{ warm, cold []int }

// inUse returns the places in use.
func (f *File) inUse() iter.Seq[int] {
	return func(yield func(int) bool) {
		for place := range int(f.head.used.Load()) {
			if f.carryHead(place).used.Load() != 0 && !yield(place) {
				return
			}
		}
	}
}

// findPlaces finds the free places, and frees their memory.
func (f *File) findPlaces() {
	for place := range int(f.head.used.Load()) {
		if f.carryHead(place).used.Load() == 0 {
			f.free(carryContentAt(place), MaxCarry)
			f.places.cold = append(f.places.cold, place)
		}
	}
}

const carryHeadSize = int(unsafe.Sizeof(carryHead{}))

func (f *File) carryHead(place int) *carryHead {
	return (*carryHead)(unsafe.Pointer(&f.mem[tableAt+place*carryHeadSize]))
}

func carryContentAt(place int) int { return carriesAt + place*MaxCarry }

func (f *File) carryContent(place int) []byte {
	return f.mem[carryContentAt(place):][:MaxCarry]
}

// takePlace returns a free place with memory for its content.
func (f *File) takePlace() (int, error) {
	if n := len(f.places.warm); n > 0 {
		place := f.places.warm[n-1]
		f.places.warm = f.places.warm[:n-1]
		return place, nil
	}
	if len(f.places.cold) == 0 {
		if err := f.addPlace(); err != nil {
			return -1, err
		}
	}
	n := len(f.places.cold)
	place := f.places.cold[n-1]
	if err := f.allocate(carryContentAt(place), MaxCarry); err != nil {
		return -1, err
	}
	f.places.cold = f.places.cold[:n-1]
	return place, nil
}

// addPlace puts another place into use.
func (f *File) addPlace() error {
	place := int(f.head.used.Load())
	if place == carries {
		return errManyCarries
	}
	if err := f.allocate(tableAt+place*carryHeadSize, carryHeadSize); err != nil {
		return err
	}
	f.head.used.Store(uint32(place + 1))
	f.places.cold = append(f.places.cold, place)
	return nil
}

func (f *File) returnPlace(place int) {
	if len(f.places.warm) < maxWarm {
		f.places.warm = append(f.places.warm, place)
		return
	}
	f.free(carryContentAt(place), MaxCarry)
	f.places.cold = append(f.places.cold, place)
}
