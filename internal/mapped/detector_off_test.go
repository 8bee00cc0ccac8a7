//go:build !race

package mapped

const raceDetector = false
