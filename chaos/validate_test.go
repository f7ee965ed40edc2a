package chaos

import (
	"encoding/json"
	"reflect"
	"slices"
	"testing"
)

// toClientStream is a sound stream from a server to two clients: the first one
// received 1 to 4, released 1 and 2, and died when it was about to be handed 4;
// the second got the rest. Then the server closed.
func toClientStream() *Stream {
	id := func(n uint32) ID { return ID{Generation: 7, Lane: uint16(n % 2), Number: n} }
	s := &Stream{Generation: 7, Direction: "toClient", RingSize: 4096, Complete: true, Exact: true}
	for n := uint32(1); n <= 6; n++ {
		s.Sent = append(s.Sent, Sent{ID: id(n), Size: 100, Life: 1, Committed: Yes})
	}
	s.Sent = append(s.Sent, Sent{ID: id(7), Size: 100, Life: 1, Committed: No})
	s.Received = []Received{
		{ID: id(1), Life: 1, Released: Yes}, {ID: id(2), Life: 1, Released: Yes},
		{ID: id(3), Life: 1, Released: No}, {ID: id(4), Life: 1, Released: No, Unseen: true},
		{ID: id(3), Life: 2, Released: Yes, Redelivered: true}, {ID: id(4), Life: 2, Released: Yes, Redelivered: true},
		{ID: id(5), Life: 2, Released: Yes}, {ID: id(6), Life: 2, Released: No},
	}
	s.Accounts = []Account{
		{Life: 1, Sent: 5, After: 4, Unreleased: []Unreleased{{ID: id(3), Delivered: true}, {ID: id(4), Delivered: true}, {ID: id(5)}}},
		{Life: 2, Sent: 7, After: 8, Unreleased: []Unreleased{{ID: id(6), Delivered: true}}},
	}
	s.Ends = []End{{Reader: 2, After: 8, Verdict: "closed"}}
	s.Departed = []Departure{{Life: 1, Closed: Yes}}
	s.Refusals = []Refusal{{Size: 100, Unreleased: 4000}}
	s.Successions = []Succession{{Life: 1, Generation: 7}, {Life: 2, Generation: 7}}
	return s
}

// toServerStream is a sound stream from three clients: the first committed two
// messages and died in a third, the second committed none, the third closed.
func toServerStream() *Stream {
	id := func(n uint32) ID { return ID{Generation: 7, Number: n} }
	return &Stream{
		Generation: 7, Direction: "toServer", RingSize: 4096, Complete: true, Exact: true,
		Sent: []Sent{
			{ID: id(1), Size: 50, Life: 1, Committed: Yes}, {ID: id(2), Size: 50, Life: 1, Committed: Yes},
			{ID: id(3), Size: 50, Life: 1, Committed: No}, {ID: id(4), Size: 50, Life: 3, Committed: Yes},
		},
		Received: []Received{
			{ID: id(1), Life: 1, Released: Yes}, {ID: id(2), Life: 1, Released: Yes}, {ID: id(4), Life: 1, Released: No},
		},
		Ends:     []End{{Reader: 1, After: 2, Verdict: "died"}, {Reader: 1, After: 3, Verdict: "closed"}},
		Departed: []Departure{{Life: 1, Closed: No}, {Life: 2, Closed: No}, {Life: 3, Closed: Yes}},
	}
}

func complaintsOf(s *Stream) (contracts []string) {
	for _, v := range Validators {
		if len(v.Check(s)) > 0 {
			contracts = append(contracts, v.Contract)
		}
	}
	return contracts
}

func TestSoundStreamsPass(t *testing.T) {
	for _, s := range []*Stream{toClientStream(), toServerStream(), {}} {
		report := NewReport("test", 0)
		if !Judge(s, report, "") || len(report.Failures) > 0 {
			t.Errorf("%v", report)
		}
		encoded, err := json.Marshal(s)
		if err != nil {
			t.Fatal(err)
		}
		var again Stream
		if err := json.Unmarshal(encoded, &again); err != nil || !reflect.DeepEqual(&again, s) {
			t.Errorf("through JSON: %v, %+v", err, again)
		}
	}
}

// A planted stream breaks one promise, and names it.
type planted struct {
	what   string
	of     func() *Stream
	plant  func(*Stream)
	broken string
}

var plantedStreams = []planted{
	{"the last message is lost", toClientStream, func(s *Stream) {
		s.Received = s.Received[:7]
		s.Accounts, s.Ends, s.Departed = s.Accounts[:1], nil, nil
	}, "M1 NoLoss"},
	{"a message does not come again", toClientStream, func(s *Stream) {
		s.Received = slices.Delete(s.Received, 4, 5)
		s.Accounts, s.Ends, s.Departed = s.Accounts[:1], nil, nil
	}, "M1 NoLoss"},
	{"an unseen message does not come again", toClientStream, func(s *Stream) {
		s.Received = slices.Delete(s.Received, 5, 6)
		s.Accounts, s.Ends, s.Departed = s.Accounts[:1], nil, nil
	}, "M1 NoLoss"},
	{"two messages of a lane change places", toServerStream, func(s *Stream) {
		s.Received[0].ID, s.Received[1].ID = s.Received[1].ID, s.Received[0].ID
	}, "M2 FIFO"},
	{"two messages change places when they come again", toClientStream, func(s *Stream) {
		s.Received[4].ID, s.Received[5].ID = s.Received[5].ID, s.Received[4].ID
	}, "M2 FIFO"},
	{"an earlier one comes for the first time to the next client", toClientStream, func(s *Stream) {
		s.Received[0], s.Received[6] = Received{ID: s.Received[6].ID, Life: 1, Released: Yes}, Received{ID: s.Received[0].ID, Life: 2, Released: Yes}
		s.Accounts = s.Accounts[1:]
	}, "M2 FIFO"},
	{"no mark", toClientStream, func(s *Stream) { s.Received[4].Redelivered, s.Received[5].Redelivered = false, false }, "M3 AtLeastOnce"},
	{"the mark of an unseen one is lost", toClientStream, func(s *Stream) { s.Received[5].Redelivered = false }, "M3 AtLeastOnce"},
	{"a mark on a new one", toClientStream, func(s *Stream) { s.Received[6].Redelivered = true }, "M3 AtLeastOnce"},
	{"a mark for the first receiver", toServerStream, func(s *Stream) { s.Exact = false; s.Received[0].Redelivered = true }, "M3 AtLeastOnce"},
	{"a released one comes again", toClientStream, func(s *Stream) {
		s.Received[2].Released = Yes
		s.Accounts = s.Accounts[1:]
	}, "M3 AtLeastOnce"},
	{"twice to one receiver", toServerStream, func(s *Stream) {
		s.Received[1].ID, s.Sent[1].Committed = s.Received[0].ID, No
	}, "M3 AtLeastOnce"},
	{"marked behind unmarked", toClientStream, func(s *Stream) {
		s.Received[5], s.Received[6] = s.Received[6], s.Received[5]
	}, "M3 AtLeastOnce"},
	{"a torn message", toServerStream, func(s *Stream) { s.Received[2].Damage = "byte 20 is 0x0 instead of 0x1" }, "M4 NoTear"},
	{"an uncommitted message", toServerStream, func(s *Stream) {
		s.Received = slices.Insert(s.Received, 2, Received{ID: s.Sent[2].ID, Life: 1, Released: Yes})
		s.Ends[0].After, s.Ends[1].After = 3, 4
	}, "M4 NoTear"},
	{"a message out of nothing", toServerStream, func(s *Stream) { s.Received[2].ID.Lane = 9; s.Sent[3].Committed = No }, "M4 NoTear"},
	{"the end before the last message", toServerStream, func(s *Stream) { s.Ends[0].After = 1 }, "M5 Drain"},
	{"the end behind the next client's message", toServerStream, func(s *Stream) { s.Ends = s.Ends[1:] }, "M5 Drain"},
	{"no end at all", toClientStream, func(s *Stream) { s.Ends = nil }, "M5 Drain"},
	{"an end that never was", toServerStream, func(s *Stream) { s.Departed = s.Departed[:2] }, "M5 Drain"},
	{"the end before what comes again", toClientStream, func(s *Stream) { s.Ends[0].After = 4 }, "M5 Drain"},
	{"a released one in the account", toClientStream, func(s *Stream) {
		s.Accounts[0].Unreleased = slices.Insert(s.Accounts[0].Unreleased, 0, Unreleased{ID: s.Sent[1].ID, Delivered: true})
	}, "M6 Account"},
	{"one is missing from the account", toClientStream, func(s *Stream) { s.Accounts[0].Unreleased = s.Accounts[0].Unreleased[1:] }, "M6 Account"},
	{"the account forgets a delivery", toClientStream, func(s *Stream) { s.Accounts[0].Unreleased[0].Delivered = false }, "M6 Account"},
	{"the account invents a delivery", toClientStream, func(s *Stream) { s.Accounts[0].Unreleased[2].Delivered = true }, "M6 Account"},
	{"the account has an uncommitted one", toClientStream, func(s *Stream) {
		s.Accounts[1].Unreleased = append(s.Accounts[1].Unreleased, Unreleased{ID: s.Sent[6].ID})
	}, "M6 Account"},
	{"the account out of order", toClientStream, func(s *Stream) { slices.Reverse(s.Accounts[0].Unreleased) }, "M6 Account"},
	{"the account has one twice", toClientStream, func(s *Stream) {
		s.Accounts[1].Unreleased = append(s.Accounts[1].Unreleased, s.Accounts[1].Unreleased[0])
	}, "M6 Account"},
	{"the account is damaged", toClientStream, func(s *Stream) { s.Accounts[1].Unreleased[0].Damage = "torn" }, "M6 Account"},
	{"refused with room", toClientStream, func(s *Stream) { s.Refusals[0].Unreleased = 3984 }, "M8 Bounded"},
	{"more than the ring holds", toClientStream, func(s *Stream) { s.RingSize, s.Refusals = 300, nil }, "M8 Bounded"},
	{"a message of another generation", toServerStream, func(s *Stream) {
		s.Received[2].ID.Generation = 6
		s.Sent[3].Committed = No
	}, "L4 NoGhost"},
	{"a death called a close", toServerStream, func(s *Stream) { s.Ends[0].Verdict = "closed" }, "L5 TrueVerdict"},
	{"a close called a death", toClientStream, func(s *Stream) { s.Ends[0].Verdict = "died" }, "L5 TrueVerdict"},
	{"the next client cannot go on", toClientStream, func(s *Stream) { s.Successions[1].Trouble = "dial: refused" }, "L7 ClientRestart"},
	{"the next client finds another generation", toClientStream, func(s *Stream) { s.Successions[1].Generation = 8 }, "L7 ClientRestart"},
	{"the next client is the same", toClientStream, func(s *Stream) { s.Successions[0].Life = 2 }, "L7 ClientRestart"},
}

func TestEachValidatorFindsItsFault(t *testing.T) {
	shown := map[string]bool{}
	for _, p := range plantedStreams {
		s := p.of()
		p.plant(s)
		if got := complaintsOf(s); !slices.Contains(got, p.broken) {
			t.Errorf("%s: %v complain, want %s", p.what, got, p.broken)
		}
		shown[p.broken] = true
	}
	for _, v := range Validators {
		if !shown[v.Contract] {
			t.Errorf("no planted stream for %s", v.Contract)
		}
	}
}
