//go:build !race

package blockview

const raceDetector = false
