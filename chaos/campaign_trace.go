package chaos

// trace is what the processes of a saved episode have recorded.
func (d *docket) trace(home string) (trace, error) {
	all, err := keptFlight(home)
	if err != nil {
		return trace{}, err
	}
	t, err := land(all)
	t.LifeOnly = !d.Swarm.Traced
	t.since() // one episode follows the other on a path
	return t, err
}

// replay has the specification's machines follow a saved episode: the life cycle of
// each, and both directions of those that were drawn for it. One that broke may
// have ended anywhere.
func (d *docket) replay(home string, report *Report, replays *replayer, r *ruling) error {
	if !d.Calm {
		return nil
	}
	t, err := d.trace(home)
	if err != nil {
		return err
	}
	rejected := replays.replay(&t, report)
	if len(t.Events) == 0 {
		rejected = append(rejected, Failure{Contract: "harness", What: "nothing was recorded"})
	}
	for _, f := range rejected {
		report.Fail(f.Contract, reproduceEpisode(d.episode, d.deaths), "%s", f.What)
		r.verdict = Fail
	}
	return nil
}
