package blockview

import (
	"github.com/filecoin-project/dagstore/internal/carfile"
)

// read sets the section to that at offset, from the mapping if there is one.
// Only if no section begins there the error is one of carfile.
func (s *search) read(offset uint64) (err error) {
	p := s.blocks.payload
	if offset < uint64(p.Header) || offset >= uint64(p.Size) {
		return &carfile.Error{
			Part: "section", Offset: int64(offset), Reason: "outside of the payload", Err: carfile.ErrMalformed,
		}
	}
	at := int64(offset)
	if s.mapping == nil {
		return s.readAt(at)
	}
	payload := s.mapping[p.Offset : p.Offset+p.Size]
	s.section, err = carfile.ParseHead(payload[at:min(at+carfile.MaxHead, p.Size)], p, at)
	return err
}

// readAt reads as far as the query wants, and once more if the CID is longer.
func (s *search) readAt(at int64) (err error) {
	p := s.blocks.payload
	for _, reach := range [...]int{s.reach, len(s.buffer)} {
		head := s.buffer[:min(int64(reach), p.Size-at)]
		if _, err := s.blocks.data.ReadAt(head, p.Offset+at); err != nil {
			return err
		}
		s.section, err = carfile.ParseHead(head, p, at)
		if err == nil {
			start := s.section.DataOffset - at
			s.have = head[start:min(start+s.section.DataSize, int64(len(head)))]
		}
		if err == nil || len(head) >= carfile.MaxHead || int64(len(head)) == p.Size-at {
			break
		}
	}
	return err
}

// fill copies the block at p to data, which has its size.
func (b *Blocks) fill(data []byte, p place) error {
	if p.inline != "" {
		copy(data, p.inline)
		return nil
	}
	n := copy(data, p.have)
	if n < len(data) {
		_, err := b.data.ReadAt(data[n:], p.offset+int64(n))
		return truncated(err)
	}
	return b.believe(data, p)
}

// believe checks bytes that come from the place of a block. Of a mapped file
// that was truncated the pages past its end fault, but the rest of its last
// page reads as zeros: only bytes that end in a zero can be such.
func (b *Blocks) believe(data []byte, p place) error {
	if !p.mapped || len(data) == 0 || data[len(data)-1] != 0 {
		return nil
	}
	return truncated(b.data.Reaches(p.offset + p.size))
}
