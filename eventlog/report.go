package eventlog

// MaxDamage bounds Report.Damage: more of them would say no more about
// the file.
const MaxDamage = 1000

// Report is what Verify found.
type Report struct {
	Records     uint64   // readable records
	Removed     Rules    // records that were removed, as the log has them on record
	Streams     uint64   // streams that have a record
	Checkpoints uint64   // readable checkpoints
	First       Sequence // first record that was seen, 0 if none
	Last        Sequence // last record that was seen, 0 if none
	Bytes       int64    // size of the file; 0 for a log in memory

	Damaged uint64         // how many damages were found
	Damage  []*DamageError // the first MaxDamage of them
}

// OK says whether nothing is damaged.
func (r *Report) OK() bool { return r.Damaged == 0 }

// Add counts a damage and keeps it if there is room.
func (r *Report) Add(d *DamageError) {
	r.Damaged++
	if len(r.Damage) < MaxDamage {
		r.Damage = append(r.Damage, d)
	}
}
