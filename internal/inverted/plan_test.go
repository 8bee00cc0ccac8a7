package inverted

import (
	"math/bits"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
)

// A simulation merges without data.
type simulation struct {
	tables  []*table
	number  uint64
	written int64 // records, by merging
}

func (s *simulation) add(records int64) {
	s.number++
	s.tables = append(s.tables, &table{number: s.number, records: records})
}

func (s *simulation) settle(t *testing.T) {
	for range 1000 {
		next := plan(s.tables, true, 1000)
		if next.kind == rest {
			return
		}
		var sum int64
		for _, merged := range next.tables {
			sum += merged.records - merged.dead
		}
		s.tables = slices.DeleteFunc(s.tables, func(t *table) bool { return slices.Contains(next.tables, t) })
		s.written += sum
		if sum > 0 {
			s.add(sum)
		}
	}
	t.Fatal("merging never ends")
}

func TestMergingKeepsLayersFewAndWritesARecordALogarithmOfTimes(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	for name, size := range map[string]func() int64{
		"equal":  func() int64 { return 1000 },
		"random": func() int64 { return 1 + random.Int64N(100_000) },
		"skewed": func() int64 { return 1 << random.IntN(20) },
	} {
		t.Run(name, func(t *testing.T) {
			var s simulation
			var total int64
			smallest := int64(1 << 62)
			for range 2000 {
				n := size()
				total += n
				smallest = min(smallest, n)
				s.add(n)
				s.settle(t)
				require.LessOrEqual(t, len(s.tables), bits.Len64(uint64(total/smallest))/2+2) // each has 4 times what the smaller have
			}
			require.LessOrEqual(t, s.written, total*int64(bits.Len64(uint64(total/smallest))))
			t.Logf("%d layers, a record was written %.1f times", len(s.tables), float64(s.written)/float64(total))
		})
	}
}

func TestLayersOfMostlyDeadRecordsAreRewritten(t *testing.T) {
	s := simulation{tables: []*table{
		{number: 1, records: 1000, dead: 124},
		{number: 2, records: 100, dead: 13},
		{number: 3, records: 10, dead: 10},
	}}
	s.number = 3
	s.settle(t)
	var records []int64
	for _, t := range s.tables {
		records = append(records, t.records)
	}
	require.ElementsMatch(t, []int64{1000, 87}, records)
}

func TestSmallAdditionsBecomeAFileWhenThereAreMany(t *testing.T) {
	memory := []*table{{records: 750}, {records: 200}}
	require.Equal(t, rest, plan(memory, true, 1000).kind)
	memory = append(memory, &table{records: 50})
	require.Equal(t, task{gatherMemory, memory}, plan(memory, true, 1000))
	require.Equal(t, rest, plan(memory, false, 1000).kind, "there is no file to become")
	for range 2 * maxMerged {
		memory = append(memory, &table{records: 1})
	}
	require.Equal(t, mergeMemory, plan(memory, true, 1000).kind)
	require.Len(t, plan(memory, true, 1000).tables, maxMerged)
}
