package main

import (
	"math/rand/v2"
	"slices"
	"time"
)

// A point is the moment of a death, as a place in the work rather than in time,
// so that a seed names the same one again: Micros after the answer to message
// number After, counted from 1, has come.
type point struct {
	After  int `json:"after"`
	Micros int `json:"micros"`
}

func (p point) delay() time.Duration { return time.Duration(p.Micros) * time.Microsecond }

// maxMicros bounds the delay of a point: about what some ten files take, so that
// every instant of the work on one is as likely as any other.
const maxMicros = 1000

// messagesPerKill is how many messages there are at least for each death. The
// files are sent in several rounds if they are fewer.
const messagesPerKill = 4

// messageCount returns how many messages a run with so many files and kills
// sends: each file equally often.
func messageCount(files, kills int) int {
	want := messagesPerKill * (kills + 1)
	rounds := max(1, (want+files-1)/files)
	return rounds * files
}

// choosePoints chooses where the client dies, kills times, and then, last, where
// the server does. The places differ and ascend, and leave at least one message
// to be sent after the last.
//
// Preconditions: total is at least kills+2.
func choosePoints(seed uint64, kills, total int) []point {
	random := rand.New(rand.NewPCG(seed, 0))
	points := make([]point, kills+1)
	for i, place := range random.Perm(total - 1)[:kills+1] {
		points[i].After = place + 1
	}
	slices.SortFunc(points, func(a, b point) int { return a.After - b.After })
	for i := range points {
		points[i].Micros = random.IntN(maxMicros)
	}
	return points
}

// sendLimit returns how many messages may be sent while only dead of the points
// are behind: so many that the next point is reached, and the one after it, or
// the end of the work, is not.
//
// That makes every kill possible, however quick the client is: nobody runs out
// of work before its death, and the answer that brings the next death is given
// by the next client.
func sendLimit(points []point, dead, total int) int {
	switch {
	case dead >= len(points):
		return total
	case dead == len(points)-1:
		return total - 1
	}
	return points[dead+1].After - 1
}
