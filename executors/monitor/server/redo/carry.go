package redo

// Carry is a stream's unfinished line.
type Carry struct {
	file *File
	key  Key
	// place is its place in the table, -1 for none.
	place int
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
	return Carry{file: f, key: f.carryHead(place).key, place: place}
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

// Reserve makes room for Set. It fails if there is no memory; then the carry can't hold
// a line.
func (c *Carry) Reserve() error {
	if c.place >= 0 {
		return nil
	}
	place, err := c.file.takePlace()
	if err != nil {
		return err
	}
	c.place = place
	h := c.file.carryHead(place)
	h.key, h.size = c.key, 0
	return nil
}

// Set sets the line, after Reserve and while the stream's flight is not idle: if the
// process is killed half-way, the next one sets it again.
func (c *Carry) Set(line []byte) {
	if c.place < 0 || len(line) == 0 {
		c.Drop()
		return
	}
	h := c.file.carryHead(c.place)
	copy(c.file.carryContent(c.place), line)
	c.file.step()
	h.size = uint64(len(line))
	c.file.step()
	h.used.Store(1)
	c.file.step()
}

// Drop empties the carry.
func (c *Carry) Drop() {
	if c.place < 0 {
		return
	}
	c.file.step()
	c.file.carryHead(c.place).used.Store(0)
	c.file.step()
	c.file.returnPlace(c.place)
	c.place = -1
}
