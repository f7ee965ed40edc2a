// Package measure drives two processes that exchange messages, by tandem or by
// something else, and says what that costs. bench/DRIVERS.md is the contract between
// who starts the processes and who plays them; this package is both sides of it, and
// has the contenders that need nothing but the standard library and package ipc.
//
// A Transport is a contender, and Main plays one side of it. A Session starts the two
// sides, each on the processor that it is to have, round by round, and gives Rows.
package measure
