package catalogue

import (
	"context"
	"errors"
	"slices"
	"testing"

	ds "github.com/ipfs/go-datastore"
	"github.com/ipfs/go-datastore/query"
	dssync "github.com/ipfs/go-datastore/sync"
	"github.com/stretchr/testify/require"

	"github.com/filecoin-project/dagstore/internal/fault"
	"github.com/filecoin-project/dagstore/internal/guard"
	"github.com/filecoin-project/dagstore/internal/keyname"
)

var prefix = ds.NewKey("dagstore")

func newStore() ds.Batching { return dssync.MutexWrap(ds.NewMapDatastore()) }

// hostileKeys are keys that go-datastore, file systems or JSON would change.
var hostileKeys = []string{
	"plain", "bafy.car", "with space", "ünïcode",
	"/", "//", "/x", "x/", "a/b", "a//b", "a/../b", "../x", "..", ".", "a/./b",
	"%", "%2F", "a%2Fb", "%a", "\\", "a\\b", "a:b", "\x00", "a\nb", "\xff\xfe", "%sha256-00",
}

// load returns the values of all records by shard key. A record's value is the
// key that it says it belongs to, and a version after a bar.
func load(t *testing.T, c *Catalogue) map[string]string {
	t.Helper()
	found := map[string]string{}
	require.NoError(t, c.Load(context.Background(), func(e Entry) error {
		recorded, _, _ := cut(string(e.Value))
		key, err := c.Resolve(e, recorded)
		require.NoError(t, err)
		require.NotContains(t, found, key, "two records of one key")
		found[key] = string(e.Value)
		return nil
	}))
	return found
}

func cut(value string) (key, version string, ok bool) {
	i := len(value) - 2 // "|1"
	if i < 0 || value[i] != '|' {
		return value, "", false
	}
	return value[:i], value[i+1:], true
}

func put(key, version string) Change { return Change{Key: key, Value: []byte(key + "|" + version)} }

func commit(t *testing.T, c *Catalogue, changes ...Change) {
	t.Helper()
	require.NoError(t, c.Commit(context.Background(), changes))
}

// names returns what lies in the datastore.
func names(t *testing.T, d ds.Datastore) (found []string) {
	t.Helper()
	res, err := d.Query(context.Background(), query.Query{KeysOnly: true})
	require.NoError(t, err)
	entries, err := res.Rest()
	require.NoError(t, err)
	for _, e := range entries {
		found = append(found, e.Key)
	}
	slices.Sort(found)
	return found
}

func TestRecordsOfHostileKeysAreKeptApartAndFoundAgain(t *testing.T) {
	d := newStore()
	c := New(d, prefix)
	var changes []Change
	for _, k := range hostileKeys {
		changes = append(changes, put(k, "1"))
	}
	commit(t, c, changes...)
	reopened := New(d, prefix)
	found := load(t, reopened)
	require.Len(t, found, len(hostileKeys))
	for i, k := range hostileKeys {
		require.Equal(t, k+"|1", found[k])
		commit(t, reopened, Change{Key: k})
		require.Len(t, names(t, d), len(hostileKeys)-i-1, "removal of %q", k)
	}
}

func TestRecordsOutsideThePrefixAreNotTouched(t *testing.T) {
	d := newStore()
	for _, k := range []string{"/dagstoreb/x", "/other", "/inverted/v2/next"} {
		require.NoError(t, d.Put(context.Background(), ds.NewKey(k), []byte("theirs")))
	}
	c := New(d, prefix)
	commit(t, c, put("a", "1"))
	require.Equal(t, map[string]string{"a": "a|1"}, load(t, c))
	require.Contains(t, names(t, d), "/dagstoreb/x")
	require.Len(t, names(t, d), 4)
}

// v07 puts a record where v0.7 did.
func v07(t *testing.T, d ds.Datastore, key string) {
	t.Helper()
	require.NoError(t, d.Put(context.Background(), prefix.ChildString(key), []byte(key+"|1")))
}

func TestRecordsWhereV07PutThemAreReadAndMoveAtTheirNextChange(t *testing.T) {
	for _, key := range []string{"a/b", "/x", "x/", "a//b", "a/../b", "%2F", "%zz", "a\\b"} {
		t.Run(key, func(t *testing.T) {
			d := newStore()
			v07(t, d, key)
			old := names(t, d)
			c := New(d, prefix)
			require.Equal(t, map[string]string{key: key + "|1"}, load(t, c))
			require.Equal(t, old, names(t, d), "reading changed the datastore")

			commit(t, c, put(key, "2"))
			now := []string{prefix.ChildString(keyname.Escape(key)).String()}
			require.Equal(t, now, names(t, d))
			require.Equal(t, map[string]string{key: key + "|2"}, load(t, New(d, prefix)))

			commit(t, c, put(key, "3"))
			require.Equal(t, now, names(t, d))
		})
	}
}

func TestSettledRecordsMoveUnchangedAndFreeTheirPlace(t *testing.T) {
	d, count := newStore(), fault.Never()
	v07(t, d, "a/b")
	v07(t, d, "/x")
	c := New(fault.Datastore(d, count), prefix)
	load(t, c)
	require.NoError(t, c.Settle(context.Background()))
	require.Equal(t, 1, count.Count(fault.Flush))
	require.Equal(t, []string{"/dagstore/%%2Fx", "/dagstore/%a%2Fb"}, names(t, d))

	commit(t, c, put("x", "2")) // lies where v0.7 put "/x"
	want := map[string]string{"a/b": "a/b|1", "/x": "/x|1", "x": "x|2"}
	require.Equal(t, want, load(t, New(d, prefix)))

	count.Reset()
	require.NoError(t, c.Settle(context.Background()))
	require.Zero(t, count.Count())
}

func TestRecordsWhereV07PutThemAreRemovedWithTheirShard(t *testing.T) {
	for _, key := range []string{"a/b", "/x", "plain"} {
		d := newStore()
		v07(t, d, key)
		c := New(d, prefix)
		load(t, c)
		commit(t, c, Change{Key: key})
		require.Empty(t, names(t, d), key)
	}
}

func TestARecordMovesAgainAfterAWriteThatFailed(t *testing.T) {
	d := newStore()
	v07(t, d, "a/b")
	c := New(fault.Datastore(d, fault.OnIndex(0).Match(fault.Is(fault.Commit))), prefix)
	load(t, c)
	require.Error(t, c.Commit(context.Background(), []Change{put("a/b", "2")}))
	require.Equal(t, map[string]string{"a/b": "a/b|1"}, load(t, New(d, prefix)))
	commit(t, c, put("a/b", "2"))
	require.Equal(t, []string{"/dagstore/%a%2Fb"}, names(t, d))
}

func TestRecordsThatBelongNowhereAreRefused(t *testing.T) {
	for _, r := range []struct{ name, recorded string }{
		{"x", "y"},          // another shard's
		{"x", ""},           // nobody's
		{"a/b", "a/c"},      // under a name of v0.7's, but of another key
		{"a/b", ""},         //
		{"%zz", "other"},    // not a name that is made today
		{"a/b", "a/b/../c"}, // cleaned to another place
	} {
		_, err := New(newStore(), prefix).Resolve(Entry{Name: r.name}, r.recorded)
		require.Error(t, err, "%q under %q", r.recorded, r.name)
	}
}

func TestTheNameCountsWhereJSONCannotHoldTheKey(t *testing.T) {
	c := New(newStore(), prefix)
	key, err := c.Resolve(Entry{Name: keyname.Escape("\xff")}, "\ufffd")
	require.NoError(t, err)
	require.Equal(t, "\xff", key)
}

func TestAnUnreadableRecordDoesNotHideTheOthers(t *testing.T) {
	d := newStore()
	c := New(d, prefix)
	commit(t, c, put("a", "1"), put("b", "1"))
	require.NoError(t, d.Put(context.Background(), prefix.ChildString("broken"), []byte{0xff}))
	var seen []string
	require.NoError(t, c.Load(context.Background(), func(e Entry) error {
		seen = append(seen, e.Name)
		return nil
	}))
	require.ElementsMatch(t, []string{"a", "b", "broken"}, seen)
}

// plain is a datastore without batches, not even a method that says so.
type plain struct{ ds.Datastore }

func TestEveryCommitIsSyncedOnce(t *testing.T) {
	changes := []Change{put("a", "1"), put("b", "1"), put("a/b", "1"), {Key: "gone"}}
	for _, tc := range []struct {
		name                  string
		wrap                  func(ds.Batching) ds.Datastore
		commits, puts, erased int
	}{
		{"with batches", func(d ds.Batching) ds.Datastore { return d }, 1, 0, 0},
		{"without batches", func(d ds.Batching) ds.Datastore { return plain{d} }, 0, 3, 1},
		{"with batches that are unsupported", func(d ds.Batching) ds.Datastore { return fault.Unbatched(d) }, 0, 3, 1},
	} {
		t.Run(tc.name, func(t *testing.T) {
			d, count := newStore(), fault.Never()
			c := New(tc.wrap(fault.Datastore(d, count)), prefix)
			commit(t, c, changes...)
			require.Equal(t, 1, count.Count(fault.Flush))
			require.Equal(t, tc.commits, count.Count(fault.Commit))
			require.Equal(t, tc.puts, count.Count(fault.Put))
			require.Equal(t, tc.erased, count.Count(fault.Delete))
			require.Len(t, load(t, New(d, prefix)), 3)
		})
	}
}

func TestNothingToWriteTouchesNothing(t *testing.T) {
	count := fault.Never()
	commit(t, New(fault.Datastore(newStore(), count), prefix))
	require.Zero(t, count.Count())
}

func TestEveryWriteThatFailsIsReported(t *testing.T) {
	for _, wrap := range []func(ds.Batching) ds.Batching{
		func(d ds.Batching) ds.Batching { return d },
		fault.Unbatched,
	} {
		for n := 0; ; n++ {
			d, inj := newStore(), fault.OnIndex(n)
			v07(t, d, "a/b")
			c := New(wrap(fault.Datastore(d, inj)), prefix)
			c.moved["a/b"] = Entry{Name: "a/b"}
			err := c.Commit(context.Background(), []Change{put("a/b", "2"), put("c", "1"), {Key: "d"}})
			if inj.Fired() == 0 {
				require.NoError(t, err)
				require.Positive(t, n)
				break
			}
			require.ErrorIs(t, err, fault.ErrInjected, "operation %d", n)
		}
	}
}

func TestACatalogueThatCannotBeReadIsAnError(t *testing.T) {
	ctx := context.Background()
	visit := func(Entry) error { return nil }
	inj := fault.Always()
	require.ErrorIs(t, New(fault.Datastore(newStore(), inj), prefix).Load(ctx, visit), fault.ErrInjected)
	require.Equal(t, 1, inj.Fired())
	require.ErrorIs(t, New(torn{newStore()}, prefix).Load(ctx, visit), fault.ErrInjected)
}

func TestVisitAndContextEndALoad(t *testing.T) {
	c := New(newStore(), prefix)
	commit(t, c, put("a", "1"), put("b", "1"))
	stop, calls := errors.New("stop"), 0
	require.ErrorIs(t, c.Load(context.Background(), func(Entry) error { calls++; return stop }), stop)
	require.Equal(t, 1, calls)
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	require.ErrorIs(t, c.Load(ctx, func(Entry) error { return nil }), context.Canceled)
}

// torn is a datastore whose queries fail half-way.
type torn struct{ ds.Batching }

func (torn) Query(_ context.Context, q query.Query) (query.Results, error) {
	sent := 0
	return query.ResultsFromIterator(q, query.Iterator{
		Next: func() (query.Result, bool) {
			sent++
			if sent > 1 {
				return query.Result{Error: fault.ErrInjected}, true
			}
			return query.Result{Entry: query.Entry{Key: "/dagstore/a"}}, true
		},
		Close: func() error { return nil },
	}), nil
}

// panicking is a datastore with a defect.
type panicking struct{ ds.Batching }

func (panicking) Query(context.Context, query.Query) (query.Results, error) { panic("query") }
func (panicking) Batch(context.Context) (ds.Batch, error)                   { panic("batch") }

func TestADatastoreThatPanicsGivesAnError(t *testing.T) {
	c := New(panicking{}, prefix)
	var p *guard.PanicError
	require.ErrorAs(t, c.Load(context.Background(), func(Entry) error { return nil }), &p)
	require.Equal(t, "query", p.Value)
	require.ErrorAs(t, c.Commit(context.Background(), []Change{put("a", "1")}), &p)
	require.Equal(t, "batch", p.Value)
}

func TestWithoutADatastoreNothingIsKept(t *testing.T) {
	for _, c := range []*Catalogue{New(nil, prefix), {}} {
		commit(t, c, put("a", "1"))
		require.Empty(t, load(t, c))
	}
}

func FuzzResolve(f *testing.F) {
	for _, k := range hostileKeys {
		f.Add(k, k)
		f.Add(keyname.Escape(k), k)
	}
	f.Add("a/b", "a//b")
	f.Fuzz(func(t *testing.T, name, recorded string) {
		at := prefix.ChildString(name)
		if !prefix.IsAncestorOf(at) {
			return // not in the catalogue
		}
		d := newStore()
		name = at.String()[len(prefix.String())+1:]
		require.NoError(t, d.Put(context.Background(), at, []byte("1")))
		c := New(d, prefix)
		key, err := c.Resolve(Entry{name, []byte("1")}, recorded)
		if err != nil {
			return
		}
		commit(t, c, put(key, "2"))
		require.Equal(t, []string{prefix.ChildString(keyname.Escape(key)).String()}, names(t, d), "a record was left behind")
		require.Equal(t, map[string]string{key: key + "|2"}, load(t, New(d, prefix)))
		commit(t, c, Change{Key: key})
		require.Empty(t, names(t, d))
	})
}

func FuzzRoundTrip(f *testing.F) {
	for i, k := range hostileKeys {
		f.Add(k, hostileKeys[(i+1)%len(hostileKeys)])
	}
	f.Fuzz(func(t *testing.T, a, b string) {
		d := newStore()
		commit(t, New(d, prefix), put(a, "1"), put(b, "2"))
		found := load(t, New(d, prefix))
		require.Equal(t, b+"|2", found[b])
		if a != b {
			require.Equal(t, a+"|1", found[a])
		}
	})
}
