package redo

// Carry is a stream's unfinished line.
type Carry struct {
	file *File
	key  Key
	// place is its place in the table, -1 for none. room: its content has memory.
	place int
	room  bool
}

// Carry returns a stream's.
func (f *File) Carry(key Key) Carry {
	for place := range f.inUse() {
		if f.carryHead(place).key == key {
			return f.carryAt(place)
		}
	}
	return Carry{file: f, key: key, place: -1}
}

// Carries returns all that are in use.
func (f *File) Carries() []Carry {
	var all []Carry
	for place := range f.inUse() {
		all = append(all, f.carryAt(place))
	}
	return all
}

func (f *File) carryAt(place int) Carry {
	h := f.carryHead(place)
	return Carry{file: f, key: h.key, place: place, room: h.size > 0}
}

// Key returns the key of the stream.
func (c *Carry) Key() Key { return c.key }

// Bytes returns the unfinished line, which is valid until the next call.
func (c *Carry) Bytes() []byte {
	if c.place < 0 {
		return nil
	}
	return c.file.carryContent(c.place)[:c.file.carryHead(c.place).size]
}

// Open reports whether the stream's last record is a piece of a line.
func (c *Carry) Open() bool {
	return c.place >= 0 && c.file.carryHead(c.place).open != 0
}

// Reserve makes room for Set. It fails if there is no memory; then the carry can't hold
// a line.
func (c *Carry) Reserve() error {
	if c.place < 0 {
		place, err := c.file.takePlace()
		if err != nil {
			return err
		}
		c.place, c.room = place, true
		h := c.file.carryHead(place)
		h.key, h.size, h.open = c.key, 0, 0
	}
	if !c.room {
		if err := c.file.allocate(carryContentAt(c.place), MaxCarry); err != nil {
			return err
		}
		c.room = true
	}
	return nil
}

// Set sets both, after Reserve and while the stream's flight is not idle: if the
// process is killed half-way, the next one sets them again.
func (c *Carry) Set(line []byte, open bool) {
	if c.place < 0 || len(line) == 0 && !open {
		c.Drop()
		return
	}
	h := c.file.carryHead(c.place)
	copy(c.file.carryContent(c.place), line)
	c.file.step()
	h.size, h.open = uint64(len(line)), 0
	if open {
		h.open = 1
	}
	c.file.step()
	h.used.Store(1)
	c.file.step()
	if len(line) == 0 && c.room {
		c.file.free(carryContentAt(c.place), MaxCarry)
		c.room = false
	}
}

// Drop empties the carry.
func (c *Carry) Drop() {
	if c.place < 0 {
		return
	}
	c.file.step()
	c.file.carryHead(c.place).used.Store(0)
	c.file.step()
	c.file.returnPlace(c.place, c.room)
	c.place = -1
}
