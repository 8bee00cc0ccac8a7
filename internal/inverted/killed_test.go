package inverted

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// victimFolder names the folder in which this test binary works until it is killed.
const victimFolder = "DAGSTORE_TEST_VICTIM"

func TestMain(m *testing.M) {
	if dir := os.Getenv(victimFolder); dir != "" {
		if err := workUntilKilled(dir); err != nil {
			fmt.Println("error:", err)
		}
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// workUntilKilled adds and removes shards, and says what is durable.
func workUntilKilled(dir string) error {
	ctx := context.Background()
	x, err := Open(ctx, dir, Options{sizes: tiny})
	if err != nil {
		return err
	}
	shards, err := x.Shards()
	if err != nil {
		return err
	}
	for i := len(shards); ; i++ {
		if err := x.Add(ctx, shardName(i), span(i, i+1+i%40)); err != nil {
			return err
		}
		fmt.Println("added", i)
		if i%3 == 0 {
			key := fmt.Sprint("passing ", i)
			if err := x.Add(ctx, key, span(i, i+20)); err != nil {
				return err
			}
			if err := x.Remove(ctx, key); err != nil {
				return err
			}
			fmt.Println("removed", i)
		}
	}
}

// It is not parallel: a process that is being started shares locks for a moment, and
// others would find their folders in use.
func TestAProcessThatIsKilledLosesNothingThatWasAcknowledged(t *testing.T) {
	dir := t.TempDir()
	added := -1
	for round := range 8 {
		removed := kill(t, dir, 5+9*round, &added)
		x := mustOpen(t, dir, Options{sizes: tiny})
		shards, err := x.Shards()
		require.NoError(t, err)
		alive := map[string]bool{}
		for _, key := range shards {
			alive[key] = true
		}
		for i := range added + 1 {
			require.True(t, alive[shardName(i)], "shard %d is lost", i)
			got, err := x.Lookup(multihashOf(i))
			require.NoError(t, err)
			require.Contains(t, got, shardName(i))
		}
		for _, i := range removed {
			require.False(t, alive[fmt.Sprint("passing ", i)], "shard %d is back", i)
		}
		for key := range alive { // it was added, and not yet removed
			if strings.HasPrefix(key, "passing") {
				require.NoError(t, x.Remove(t.Context(), key))
				delete(alive, key)
			}
		}
		added = max(added, len(alive)-1)
		mustWait(t, x)
		requireNoLeaks(t, x, dir)
		require.NoError(t, x.Verify(t.Context()))
		require.NoError(t, x.Close())
	}
}

// kill lets another process work until it has said so many things, and kills it. It
// returns the shards that were removed, and notes the last that was added.
func kill(t *testing.T, dir string, lines int, added *int) (removed []int) {
	t.Helper()
	child := exec.Command(os.Args[0])
	child.Env = append(os.Environ(), victimFolder+"="+dir)
	said, err := child.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, child.Start())
	scanner := bufio.NewScanner(said)
	for n := 0; scanner.Scan(); n++ {
		var i int
		switch line := scanner.Text(); {
		case strings.HasPrefix(line, "added "):
			_, err = fmt.Sscanf(line, "added %d", added)
		case strings.HasPrefix(line, "removed "):
			_, err = fmt.Sscanf(line, "removed %d", &i)
			removed = append(removed, i)
		default:
			t.Error(line)
		}
		require.NoError(t, err)
		if n == lines {
			require.NoError(t, child.Process.Kill())
		}
	}
	require.Error(t, child.Wait(), "it was killed")
	return removed
}
