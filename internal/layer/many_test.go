package layer

import (
	"errors"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/filecoin-project/dagstore/internal/mapped"
)

// lookUpMany is AppendMatches for any number of fingerprints, with the care that it
// demands. It returns the shards of each.
func lookUpMany(l *Layer, fs []Fingerprint) ([][]uint32, error) {
	shards := make([][]uint32, len(fs))
	var matches []Match
	for start := 0; start < len(fs); start += MaxTogether {
		err := mapped.Faultless(func() (err error) {
			matches, err = l.AppendMatches(matches[:0], fs[start:min(start+MaxTogether, len(fs))])
			return err
		}, l.Mapping())
		if err != nil {
			return nil, err
		}
		for _, m := range matches {
			shards[start+int(m.At)] = append(shards[start+int(m.At)], m.Shard)
		}
	}
	return shards, nil
}

// requireTogetherAsSingly requires that fingerprints have the same answers singly and
// together, in any company.
func requireTogetherAsSingly(t *testing.T, l *Layer, fs []Fingerprint) {
	t.Helper()
	together, err := lookUpMany(l, fs)
	require.NoError(t, err)
	for i, f := range fs {
		singly, err := lookUp(l, f)
		if err != nil || !slices.Equal(singly, together[i]) {
			t.Fatal(i, f, singly, together[i], err)
		}
	}
}

func TestManyTogetherAreAnsweredAsSingly(t *testing.T) {
	t.Parallel()
	for name, records := range contents() {
		for kind, f := range formats() {
			t.Run(name+", "+kind, func(t *testing.T) {
				var fs []Fingerprint
				for i := 0; i < len(records); i += max(len(records)/20, 1) {
					f := records[i].Fingerprint
					fs = append(fs, f, f, Fingerprint{f.Hi, f.Lo + 1}, Fingerprint{f.Hi + 1, f.Lo}, Fingerprint{f.Lo, f.Hi})
				}
				for _, l := range forms(t, f.write(t, records)) {
					requireTogetherAsSingly(t, l, fs)
					slices.SortFunc(fs, Fingerprint.Compare)
					requireTogetherAsSingly(t, l, fs)
				}
			})
		}
	}
}

func TestMatchesAreAppendedToWhatIsThere(t *testing.T) {
	l, err := FromBytes(ordinary.write(t, crowded(2, 3)))
	require.NoError(t, err)
	before := []Match{{9, 9}}
	matches, err := l.AppendMatches(before, []Fingerprint{{5, 5}, {0, 7}})
	require.NoError(t, err)
	require.Equal(t, []Match{{9, 9}, {1, 0}, {1, 1}, {1, 2}}, matches)
	matches, err = l.AppendMatches(before, nil)
	require.NoError(t, err)
	require.Equal(t, before, matches)
}

func TestManyTogetherFindDamageAndGiveNoWrongAnswer(t *testing.T) {
	records := randomRecords(1, 1000, 9)
	var fs []Fingerprint
	for _, r := range records {
		fs = append(fs, r.Fingerprint)
	}
	whole := format{limit: 500}.write(t, records)
	seen := 0
	for at := 100; at < len(whole); at += 997 {
		b := slices.Clone(whole)
		b[at] ^= 4
		l, err := FromBytes(b)
		if err != nil {
			require.ErrorIs(t, err, ErrDamaged)
			continue
		}
		for part := range slices.Chunk(fs, MaxTogether) {
			matches, err := l.AppendMatches(nil, part)
			if errors.Is(err, ErrDamaged) {
				require.Empty(t, matches)
				seen++
				continue
			}
			require.NoError(t, err)
			require.Len(t, matches, len(part))
		}
	}
	require.NotZero(t, seen)
}

func TestLookingUpManyAllocatesOnlyItsResult(t *testing.T) {
	records := randomRecords(1, 20_000, 9)
	l := open(t, format{limit: 3000, unfiltered: unfiltered}.write(t, records), true)
	var fs [MaxTogether]Fingerprint
	for i := range fs {
		fs[i] = records[rand.IntN(len(records))].Fingerprint
	}
	dst := make([]Match, 0, MaxTogether)
	require.Zero(t, testing.AllocsPerRun(100, func() {
		if matches, err := l.AppendMatches(dst, fs[:]); err != nil || len(matches) != MaxTogether {
			panic("wrong answer")
		}
	}))
}
