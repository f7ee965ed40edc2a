// Package chaos breaks the runtime of package ipc and judges what is left.
//
// Each layer breaks it in its own way, runs alone, and returns a [Report] of
// what it covered: how many cases and deaths, which steps died with which
// outcome, and each failure with one line that reproduces it.
//
//	enumerator    in one process: after every store of short operation sequences, and of their recovery
//	forked        real processes, killed, frozen and thawed at their N-th step
//	instructions  the shipped code, single-stepped by ptrace and killed after each instruction
//	syscalls      killed at the entry and the exit of each system call of a life
//	errnos        each system call of a life made to fail, with each errno that it can give
//	properties    random actions of real processes against package model, with failures that shrink
//	campaign      random faults against pairs under load; histories judged by porcupine and by validators
//	traces        what real pairs did, deaths included, replayed by the model and by the specification
//
// Those that [Layers] names need no test around them: the command is tandem chaos.
//
// # Why all crashes can be enumerated
//
// A process that is killed leaves shared memory as a prefix of its own stores
// left it, and its kernel objects closed. Each store to shared memory and each
// system call of the life cycle has a named step (package internal/step), so the
// states that a death can leave behind are the steps that it can die at. Nothing
// is sampled where it can be counted.
//
// # How a run is judged
//
// What the processes observed of one direction is a [Stream]. There is one
// validator for each name of the contract, and a test shows each of them a
// history that it must refuse. A run in which too little happened is Void, and
// Void is never Pass.
//
// # Processes
//
// The processes of a run are this binary again: [Main] plays the part that its
// environment names. No process outlives the one that started it.
package chaos
