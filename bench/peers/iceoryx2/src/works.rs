//! The four works of bench/DRIVERS.md over one endpoint.
//!
//! Beside the numbered messages there are a few that steer the run: their first word has its top bit set, which no
//! number has.

use crate::driver::{Args, Outcome, Usage, Watch, new_histogram};
use hdrhistogram::Histogram;
use std::time::{Duration, Instant};

const STEP: u64 = 0x9E37_79B9_7F4A_7C15;
const STEERS: u64 = 0x8000_0000_0000_0000;
const KIND: u64 = 0xF000_0000_0000_0000;
/// The client is there.
pub const HELLO: u64 = 0xC000_0000_0000_0000;
/// What follows is measured.
const MEASURE: u64 = 0xA000_0000_0000_0000;
/// What follows is not.
const STOP: u64 = 0xB000_0000_0000_0000;
/// The last message; the lower bits say how many were sent.
pub const END: u64 = 0xE000_0000_0000_0000;

/// Both use one thread: so many are sent, so many received.
const BURST: usize = 32;

pub trait Endpoint {
    /// Sends a message that `fill` writes; false: no room now.
    fn try_send(&mut self, first: u64, fill: impl FnOnce(&mut [u64])) -> bool;
    /// Gives the next message to `take`; false: none now.
    fn try_receive(&mut self, take: impl FnOnce(&[u64])) -> bool;
    /// Waits until it is worth while to try again.
    fn wait(&mut self);
    /// Whether waiting sleeps in the kernel.
    fn sleeps(&self) -> bool;
    /// Waits, at the client, until the server has received the last message.
    fn finish(&mut self) {}
}

pub struct Works<'a, E: Endpoint> {
    args: &'a Args,
    endpoint: E,
    sender: Sender,
    receiver: Receiver,
    outcome: Outcome,
}

struct Sender {
    check: bool,
    sent: u64,
    measuring: bool,
    ended: bool,
    start: Usage,
    end: Usage,
}

struct Receiver {
    check: bool,
    touch: bool,
    /// The number that comes next.
    next: u64,
    wrong: u64,
    lost: u64,
    /// What steered the run last.
    control: u64,
    measured_from: u64,
    started: Instant,
}

impl Sender {
    fn fill(check: bool, message: &mut [u64], first: u64) {
        let last = message.len() - 1;
        if check {
            for (k, word) in message.iter_mut().enumerate() {
                *word = first.wrapping_add((k as u64).wrapping_mul(STEP));
            }
        }
        message[last] = first.wrapping_add((last as u64).wrapping_mul(STEP));
        message[0] = first;
    }
}

impl Receiver {
    /// Judges a message; false: it steers the run, and `control` is its first word.
    #[inline]
    fn take(&mut self, message: &[u64]) -> bool {
        let first = message[0];
        if first != self.next && !self.unexpected(first) {
            return first & STEERS == 0;
        }
        let last = message.len() - 1;
        if self.check {
            let right = message
                .iter()
                .enumerate()
                .all(|(k, word)| *word == first.wrapping_add((k as u64).wrapping_mul(STEP)));
            self.wrong += !right as u64;
        } else {
            self.wrong += (message[last] != first.wrapping_add((last as u64).wrapping_mul(STEP))) as u64;
            if self.touch {
                std::hint::black_box(message.iter().step_by(8).fold(0u64, |sum, word| sum.wrapping_add(*word)));
            }
        }
        self.next += 1;
        true
    }

    /// Says of a message with another number than the next whether its words are to be judged.
    #[cold]
    fn unexpected(&mut self, first: u64) -> bool {
        if first & STEERS != 0 {
            self.control = first;
            return false;
        }
        self.wrong += 1;
        if first < self.next {
            return false; // repeated
        }
        self.lost += first - self.next;
        self.next = first;
        true
    }
}

impl<'a, E: Endpoint> Works<'a, E> {
    pub fn new(args: &'a Args, endpoint: E) -> Self {
        let sender = Sender {
            check: args.check,
            sent: 0,
            measuring: false,
            ended: false,
            start: Usage::default(),
            end: Usage::default(),
        };
        let receiver = Receiver {
            check: args.check,
            touch: args.form == "view",
            next: 0,
            wrong: 0,
            lost: 0,
            control: 0,
            measured_from: 0,
            started: Instant::now(),
        };
        Works { args, endpoint, sender, receiver, outcome: Outcome::default() }
    }

    pub fn run(mut self) -> Outcome {
        if self.args.server {
            // A client that never comes: standard input ends this.
            while self.receiver.control != HELLO {
                if self.try_take().is_none() {
                    Watch::waits();
                    std::thread::sleep(Duration::from_micros(50));
                }
            }
        } else {
            self.put(HELLO);
        }
        let asks = self.args.work == "roundtrip" || self.args.work == "requests";
        match (asks, self.args.server) {
            (true, true) => self.answer(),
            (true, false) => self.ask(),
            _ => self.stream(),
        }
        // The server made what the two share: it stays until the client has said that it is done.
        if !self.args.server {
            self.put(END);
            self.endpoint.finish();
        } else if !asks {
            self.await_control();
        }
        self.outcome.wrong = self.receiver.wrong;
        self.outcome
    }

    fn try_put(&mut self, first: u64) -> bool {
        let check = self.sender.check;
        self.endpoint.try_send(first, |message| Sender::fill(check, message, first))
    }

    fn try_send(&mut self) -> bool {
        let done = self.try_put(self.sender.sent);
        self.sender.sent += done as u64;
        done
    }

    fn put(&mut self, first: u64) {
        while !self.try_put(first) {
            self.endpoint.wait();
        }
    }

    fn send(&mut self) {
        while !self.try_send() {
            self.endpoint.wait();
        }
    }

    /// Takes the next message, if there is one; false: it steers the run.
    #[inline]
    fn try_take(&mut self) -> Option<bool> {
        let (receiver, mut numbered) = (&mut self.receiver, false);
        self.endpoint.try_receive(|message| numbered = receiver.take(message)).then_some(numbered)
    }

    fn take(&mut self) -> bool {
        loop {
            if let Some(numbered) = self.try_take() {
                return numbered;
            }
            self.endpoint.wait();
        }
    }

    fn await_control(&mut self) {
        while self.take() {}
    }

    fn answer(&mut self) {
        loop {
            if self.take() {
                self.send();
                continue;
            }
            match self.receiver.control & KIND {
                MEASURE => self.outcome.start = Usage::take(),
                STOP => self.outcome.end = Usage::take(),
                END => return,
                _ => {}
            }
            self.put(self.receiver.control);
        }
    }

    fn ask(&mut self) {
        Watch::arm(self.args.warm);
        self.ask_until_expired(None);
        self.tell(MEASURE);
        self.outcome.start = Usage::take();
        let before = self.receiver.next;
        Watch::arm(self.args.time);
        let start = Instant::now();
        let (received, end) = self.ask_until_expired(None);
        self.outcome.messages = received - before;
        self.outcome.nanos = (end - start).as_nanos();
        self.outcome.end = Usage::take();
        self.tell(STOP);
        let mut histogram = new_histogram();
        Watch::arm(self.args.time);
        self.ask_until_expired(Some(&mut histogram));
        self.outcome.histogram = Some(histogram);
        self.outcome.missing = self.sender.sent - self.receiver.next;
    }

    fn tell(&mut self, first: u64) {
        self.put(first);
        self.await_control();
    }

    /// Asks until the time is over, and then takes the answers that are still under way. Returns how many answers had
    /// come when the time was over, and when that was.
    fn ask_until_expired(&mut self, histogram: Option<&mut Histogram<u64>>) -> (u64, Instant) {
        match (self.args.work.as_str(), histogram) {
            ("roundtrip", None) => {
                while !Watch::expired() {
                    self.send();
                    self.take();
                    self.pause();
                }
                (self.receiver.next, Instant::now())
            }
            ("roundtrip", Some(histogram)) => {
                while !Watch::expired() {
                    let start = Instant::now();
                    self.send();
                    self.take();
                    histogram.saturating_record(start.elapsed().as_nanos() as u64);
                    self.pause();
                }
                (self.receiver.next, Instant::now())
            }
            (_, histogram) => self.keep_asking(histogram),
        }
    }

    fn keep_asking(&mut self, mut histogram: Option<&mut Histogram<u64>>) -> (u64, Instant) {
        let inflight = self.args.inflight as u64;
        let mut starts = vec![Instant::now(); self.args.inflight];
        let mut reached = None;
        loop {
            if reached.is_none() && Watch::expired() {
                reached = Some((self.receiver.next, Instant::now()));
            }
            while reached.is_none() && self.sender.sent - self.receiver.next < inflight {
                if histogram.is_some() {
                    starts[(self.sender.sent % inflight) as usize] = Instant::now();
                }
                if !self.try_send() {
                    break;
                }
            }
            if let Some(reached) = reached
                && self.sender.sent == self.receiver.next
            {
                return reached;
            }
            let number = self.receiver.next;
            if self.try_take().is_none() {
                self.endpoint.wait();
            } else if let Some(histogram) = histogram.as_mut() {
                histogram.saturating_record(starts[(number % inflight) as usize].elapsed().as_nanos() as u64);
            }
        }
    }

    fn pause(&self) {
        if self.args.pause.is_zero() {
            return;
        }
        if self.endpoint.sleeps() {
            return std::thread::sleep(self.args.pause);
        }
        let start = Instant::now();
        while start.elapsed() < self.args.pause {
            std::hint::spin_loop();
        }
    }

    /// The works oneway and both: what is not done in a direction counts as ended.
    fn stream(&mut self) {
        let both = self.args.work == "both";
        let (sends, mut drained) = (both || self.args.server, !both && self.args.server);
        self.sender.ended = !sends;
        if sends {
            Watch::arm(self.args.warm);
        }
        while !self.sender.ended || !drained {
            let mut idle = true;
            for _ in 0..BURST {
                if self.sender.ended || !self.stream_step() {
                    break;
                }
                idle = false;
            }
            for _ in 0..BURST {
                if drained {
                    break;
                }
                match self.try_take() {
                    None => break,
                    Some(true) => {}
                    Some(false) => drained = self.steered(),
                }
                idle = false;
            }
            if idle {
                self.endpoint.wait();
            }
        }
        if !both && self.args.server {
            (self.outcome.start, self.outcome.end) = (self.sender.start, self.sender.end);
        }
    }

    /// Sends one message or what steers the run; false: no room now.
    fn stream_step(&mut self) -> bool {
        if !Watch::expired() {
            return self.try_send();
        }
        let control = if self.sender.measuring { END | self.sender.sent } else { MEASURE };
        if !self.try_put(control) {
            return false;
        }
        if self.sender.measuring {
            self.sender.ended = true;
            self.sender.end = Usage::take();
        } else {
            self.sender.measuring = true;
            self.sender.start = Usage::take();
            Watch::arm(self.args.time);
        }
        true
    }

    /// Takes note of what steers a stream; true: it was the end.
    fn steered(&mut self) -> bool {
        let received = self.receiver.next - self.receiver.lost;
        if self.receiver.control == MEASURE {
            self.outcome.start = Usage::take();
            self.receiver.measured_from = received;
            self.receiver.started = Instant::now();
            return false;
        }
        self.outcome.nanos = self.receiver.started.elapsed().as_nanos();
        self.outcome.messages = received - self.receiver.measured_from;
        self.outcome.missing = (self.receiver.control & !KIND).saturating_sub(received);
        self.outcome.end = Usage::take();
        true
    }
}
