package chaos

import (
	"fmt"
	"strings"
	"time"
)

// CampaignOptions configures Campaign.
type CampaignOptions struct {
	// Seed draws every episode; what the scheduler makes of it differs.
	Seed uint64

	// Duration and Kills are when the campaign begins no more episodes: when
	// either is reached. One of them must be set.
	Duration time.Duration
	Kills    int

	// Pairs is how many servers with their clients live at once; 2 if 0.
	Pairs int

	// Dir is where the campaign is saved, so that JudgeDir can judge it again.
	// It is made if it is missing, and must be empty.
	Dir string

	// Keep is how many episodes that passed stay in Dir; 100 if 0, none if
	// negative. What did not pass always stays.
	Keep int

	// Progress, if set, is called after each episode, from one goroutine at a
	// time.
	Progress func(CampaignProgress)
}

// CampaignProgress is what a campaign has done so far.
type CampaignProgress struct {
	Elapsed  time.Duration
	Episodes int
	Voids    int
	Failed   int
	Kills    int
	Messages int
}

// The counts of a campaign's report. The second group must stay 0.
const (
	countKills    = "kills" // of processes, in episodes that count
	countFreezes  = "freezes"
	countRestarts = "restarts" // of processes, and of endpoints in a process that stays
	countStarved  = "starvations"
	countIntruder = "intruders" // second servers and clients, refused
	countMessages = "messages"  // received
	countAgain    = "redelivered"
	countUnknown  = "unknown outcomes"
	countInFlight = "in flight" // operations, when a process was killed
	countEpisodes = "episodes"
	countVoid     = "void episodes"
	countVoidKill = "kills in void episodes"
	countReplayed = "deaths where they were before" // in a replay

	countLost       = "lost"
	countDuplicated = "duplicated without mark"
	countReordered  = "reordered"
	countTorn       = "torn"
	countGhosts     = "ghosts"
	countStuck      = "stuck"
	countLeaked     = "leaked"
)

const contractStuck = "M7 NoStuckWaiter"

// campaignCounts are the columns of the campaign's table, in order.
var campaignCounts = []string{
	countKills, countFreezes, countRestarts, countMessages, countAgain, countUnknown, countInFlight,
	countLost, countDuplicated, countReordered, countTorn, countGhosts, countStuck, countLeaked,
}

// CampaignTable is the report's counts in one line.
func CampaignTable(r *Report) string {
	text := fmt.Sprintf("campaign: %v; seed %d, %d episodes (%d void)", r.Verdict, r.Seed, r.Counts[countEpisodes], r.Counts[countVoid])
	for _, name := range campaignCounts {
		text += fmt.Sprintf(", %s %d", name, r.Counts[name])
	}
	return text
}

// An occurrence is one line of what the campaign itself did to the processes of
// an episode, or saw of them.
type occurrence struct {
	Time        int64  `json:"time"` // CLOCK_MONOTONIC, before it was done
	What        string `json:"what"`
	Incarnation int    `json:"incarnation,omitempty"` // of the first stay of the process
	Text        string `json:"text,omitempty"`
}

// What an occurrence can be.
const (
	didStart   = "start"
	didKill    = "kill"
	didFreeze  = "freeze"
	didThaw    = "thaw"
	didStarve  = "starve"
	didClose   = "close"
	didIntrude = "intrude"
	didCalm    = "calm"  // the liveness phase begins
	didReap    = "reap"  // the process has ended
	sawBroken  = "broke" // Text begins with the contract's name

	byItself = "by itself" // the text of a kill at a coordinate
)

// An episode is one run of a pair: some faults, then the liveness phase, with
// everything needed to judge it.
type episode struct {
	Seed   uint64       `json:"seed"`
	Number int          `json:"number"`
	Swarm  swarm        `json:"swarm"`
	Log    []occurrence `json:"log"`
	Calm   bool         `json:"calm"` // the liveness phase was passed
}

// episodeFile is the name of the file that holds an episode as JSON, beside its
// tapes.
const (
	episodeFile = "episode.json"
	tapePrefix  = "tape"
	reportFile  = "report.json"
)

// episodeSeed is the seed of one episode of a campaign.
func episodeSeed(seed uint64, number int) uint64 {
	x := seed ^ uint64(number+1)*0xbf58476d1ce4e5b9
	x ^= x >> 31
	x *= 0x94d049bb133111eb
	return x ^ x>>29
}

// ReproduceCampaign is the command that draws the same campaign again.
func ReproduceCampaign(seed uint64) string {
	return fmt.Sprintf("go test ./chaos -run 'TestCampaign$' -seed %d", seed)
}

// reproduceEpisode is the command that runs one episode again, with its deaths at
// the same places.
func reproduceEpisode(e *episode, deaths []spot) string {
	return "go test ./chaos -run TestCampaignReplay -replay '" + replayLine(e, deaths) + "'"
}

func replayLine(e *episode, deaths []spot) string {
	var places []string
	for _, c := range deaths {
		if c.Step != 0 { // it had passed none
			places = append(places, c.String())
		}
	}
	return fmt.Sprintf("%d/%d/%s", e.Seed, e.Number, strings.Join(places, ","))
}

// finishCampaign settles a campaign's verdict: it is Void if less than half of
// its kills count, or if there was none.
func finishCampaign(r *Report) {
	r.coverage()
	r.Kills = r.Counts[countKills]
	atLeast := 1
	switch {
	case r.Counts[countVoidKill] > r.Kills:
		r.Note("more kills in void episodes than in others")
		atLeast = r.Cases + 1
	case r.Kills == 0 && r.Cases > 0:
		r.Note("no process was killed")
		atLeast = r.Cases + 1
	}
	r.Finish(atLeast)
}

// role numbers the two sides, the server first.
func role(server bool) int {
	if server {
		return 0
	}
	return 1
}

func roleName(server bool) string { return [2]string{"server", "client"}[role(server)] }
