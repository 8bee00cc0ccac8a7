// Package compat tests the library against CAR and index files that other
// projects ship with their own tests: chain snapshots, gateway fixtures, social
// repositories, files that are broken on purpose. They are not copied: the tests
// take them from the modules they lie in, which the Go command downloads once
// and keeps, and compare every file with a checksum. It is a module of its own,
// which requires none of those projects.
//
// Where the modules cannot be had, the tests are skipped, and fail if the
// environment says CI=true.
package compat
