package indexbuild

// mappedSlab is the size from which slabs are taken from the system and not from
// the collector: it has them back at once, and gives them in huge pages where it
// can. Touching new memory in pages of 4 KiB takes as long as sorting it.
const mappedSlab = 1 << 20

// newSlab returns memory of so many bytes, whatever is in it.
func (b *Budget) newSlab(size int) []byte {
	if size >= mappedSlab {
		if s := mapMemory(size); s != nil {
			return s
		}
	}
	if s, ok := b.slabs.Get().(*[]byte); ok && len(*s) == size {
		return *s
	}
	return make([]byte, size)
}

// freeSlab ends the use of what newSlab returned.
func (b *Budget) freeSlab(s []byte) {
	switch {
	case len(s) >= mappedSlab && unmapMemory(s):
	case len(s) <= firstSlab:
		b.slabs.Put(&s)
	}
}
