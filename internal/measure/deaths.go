//go:build linux

package measure

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"time"
)

// untold is how long a survivor may take to say that its peer has gone.
const untold = 5 * time.Second

// lineWithin is Line; a process that says nothing in time is killed.
func (p *Process) lineWithin(d time.Duration) (string, error) {
	silent := time.AfterFunc(d, func() { _ = p.cmd.Process.Kill() })
	line, err := p.Line()
	if !silent.Stop() && err != nil {
		err = fmt.Errorf("nothing was said within %v", d)
	}
	return line, err
}

// stamp reads a line of Survive.
func (p *Process) stamp(word string) (int64, error) {
	line, err := p.lineWithin(untold)
	if err != nil {
		return 0, err
	}
	words := strings.Fields(line)
	if len(words) < 2 || words[0] != word {
		if why := unsupportedIn(line); why != "" {
			return 0, UnsupportedError(why)
		}
		return 0, fmt.Errorf("want %q of a driver, got %q", word, line)
	}
	return strconv.ParseInt(words[1], 10, 64)
}

// Deaths kills one side of a contender again and again, and starts it anew at once.
func (s *Session) Deaths(ctx context.Context, contender, victim string, kills int) *DeathRow {
	row := &DeathRow{Name: contender + " / death of the " + victim, Contender: contender, Victim: victim}
	if err := s.deaths(ctx, row, kills); err != nil {
		row.Why = err.Error()
		fmt.Fprintf(s.Log, "%s: %v\n", row.Name, err)
	}
	return row
}

func (s *Session) deaths(ctx context.Context, row *DeathRow, kills int) (err error) {
	setup := s.SetupOf(Cell{Contender: row.Contender, Work: Survive, Form: Copy, Wait: Default, Size: 64})
	setup.Time = time.Duration(kills) * time.Second
	if setup.Dir, err = s.NewDir(); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(setup.Dir)) }()
	pair, err := StartPair(ctx, s.Driver(row.Contender), setup, Free)
	if err != nil {
		return err
	}
	defer func() { pair.End() }()
	if _, err := pair.Client.stamp("answer"); err != nil {
		return err
	}
	for range kills {
		survivor, victim := pair.Client, &pair.Server
		if setup.Role = "server"; row.Victim == "client" {
			survivor, victim, setup.Role = pair.Server, &pair.Client, "client"
		}
		killed := Now()
		(*victim).Kill()
		if *victim, err = startProcess(ctx, s.Driver(row.Contender), &setup, -1); err != nil {
			return err
		}
		told, err := survivor.stamp("error")
		if err != nil {
			return fmt.Errorf("the survivor was not told: %w", err)
		}
		answered, err := pair.Client.stamp("answer")
		if err != nil {
			return fmt.Errorf("the replacement was not answered: %w", err)
		}
		row.Told = append(row.Told, told-killed)
		row.Answered = append(row.Answered, answered-killed)
	}
	return nil
}

// Losses kills the receiver of a contender again and again while messages flow.
func (s *Session) Losses(ctx context.Context, contender, form string, kills int) *LossRow {
	row := &LossRow{Name: contender + " / " + form + " / SIGKILL of the receiver at full load", Contender: contender, Form: form}
	if err := s.losses(ctx, row, kills); err != nil {
		row.Why = err.Error()
		fmt.Fprintf(s.Log, "%s: %v\n", row.Name, err)
	}
	return row
}

func (s *Session) losses(ctx context.Context, row *LossRow, kills int) (err error) {
	setup := s.SetupOf(Cell{Contender: row.Contender, Work: Lose, Form: row.Form, Wait: Default, Size: 64})
	setup.Time = time.Duration(kills) * time.Second
	if setup.Dir, err = s.NewDir(); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(setup.Dir)) }()
	pair, err := StartPair(ctx, s.Driver(row.Contender), setup, Free)
	if err != nil {
		return err
	}
	defer func() { pair.End() }()
	setup.Role = "client"
	for {
		line, err := pair.Client.lineWithin(untold)
		if why := unsupportedIn(line); err == nil && why != "" {
			return UnsupportedError(why)
		}
		if err != nil || line != "receiving" {
			return fmt.Errorf("the receiver says %q: %w", line, err)
		}
		time.Sleep(time.Duration(20+row.Kills) * time.Millisecond) // at full load
		if row.Kills == kills {
			break
		}
		pair.Client.Kill()
		row.Kills++
		if pair.Client, err = startProcess(ctx, s.Driver(row.Contender), &setup, -1); err != nil {
			return err
		}
	}
	if _, err := io.WriteString(pair.Server.stdin, "end\n"); err != nil {
		return err
	}
	sent, err := pair.Server.Expect("sent ")
	if err != nil {
		return err
	}
	if row.Sent, err = strconv.ParseUint(sent, 10, 64); err != nil {
		return err
	}
	if _, err := pair.Client.Report(); err != nil {
		return err
	}
	next, lost, again, err := ReadCounts(setup.Dir)
	row.Lost, row.Again = lost+row.Sent-min(next, row.Sent), again
	return err
}
