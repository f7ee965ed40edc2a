// Package tla holds the specification and, as tests, the run of the model
// checker over every configuration of its manifest.
package tla
