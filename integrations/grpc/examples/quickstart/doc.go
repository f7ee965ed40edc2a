// Package quickstart has gRPC's own first examples, the greeter and the route guide,
// between two processes over a pair. What gRPC generates for them is taken as it is.
package quickstart
