//go:build !race

package fullindex_test

const raceDetector = false
