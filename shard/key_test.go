package shard

import (
	"encoding/json"
	"testing"

	"github.com/ipfs/go-cid"
	"github.com/stretchr/testify/require"
)

func TestKeyKeepsTheBytesItWasMadeFrom(t *testing.T) {
	require.Equal(t, "a/b\x00\xff", KeyFromString("a/b\x00\xff").String())
	require.Equal(t, "StV1DL6CwTryKyV", KeyFromBytes([]byte("hello world")).String())

	c := cid.MustParse("bafkreigh2akiscaildcqabsyg3dfr6chu3fgpregiymsck7e7aqa4s52zy")
	require.Equal(t, c.String(), KeyFromCID(c).String())
	require.NotEqual(t, KeyFromString("x"), KeyFromString("x/"))
}

func TestKeySurvivesJSON(t *testing.T) {
	type holder struct{ Key Key }
	b, err := json.Marshal(holder{KeyFromString(`quote " slash / ü`)})
	require.NoError(t, err)
	require.JSONEq(t, `{"Key":"quote \" slash / ü"}`, string(b))

	var got holder
	require.NoError(t, json.Unmarshal(b, &got))
	require.Equal(t, KeyFromString(`quote " slash / ü`), got.Key)
	require.ErrorContains(t, json.Unmarshal([]byte(`{"Key":7}`), &got), "shard key")
}
