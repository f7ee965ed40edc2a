//! What a driver needs to follow bench/DRIVERS.md: arguments, time, words, histogram, JSON.

use base64::Engine;
use hdrhistogram::Histogram;
use hdrhistogram::serialization::{Serializer, V2DeflateSerializer};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

/// Says what went wrong in one line and ends the process.
pub fn die(what: impl std::fmt::Display) -> ! {
    eprintln!("{}", what.to_string().replace('\n', " "));
    std::process::exit(1)
}

pub fn unsupported(why: &str) -> ! {
    println!("{{\"unsupported\": \"{why}\"}}");
    std::process::exit(0)
}

pub struct Args {
    pub server: bool,
    pub name: String,
    pub dir: String,
    pub work: String,
    pub form: String,
    pub wait: String,
    pub size: usize,
    pub inflight: usize,
    pub warm: Duration,
    pub time: Duration,
    pub pause: Duration,
    pub check: bool,
}

impl Args {
    pub fn parse() -> Self {
        let all: Vec<String> = std::env::args().skip(1).collect();
        let value = |key: &str, default: &str| {
            let at = all.iter().position(|a| a == key);
            at.and_then(|i| all.get(i + 1)).map_or(default.to_string(), String::clone)
        };
        let number = |key: &str, default: &str| -> u64 {
            value(key, default).parse().unwrap_or_else(|_| die(format!("{key} is not a number")))
        };
        let args = Args {
            server: match all.first().map(String::as_str) {
                Some("server") => true,
                Some("client") => false,
                _ => die("usage: DRIVER server|client -name NAME -dir DIR -work WORK -form FORM -size BYTES ..."),
            },
            name: value("-name", ""),
            dir: value("-dir", ""),
            work: value("-work", ""),
            form: value("-form", "copy"),
            wait: value("-wait", "default"),
            size: number("-size", "8") as usize,
            inflight: number("-inflight", "1") as usize,
            warm: Duration::from_millis(number("-warm", "0")),
            time: Duration::from_millis(number("-time", "0")),
            pause: Duration::from_micros(number("-pause", "0")),
            check: number("-check", "0") != 0,
        };
        if args.dir.is_empty() {
            die("-dir is missing");
        }
        if args.size < 8 || args.size % 8 != 0 {
            die("the size is a multiple of 8");
        }
        args
    }
}

/// Says when the time of a part is over, and when standard input is closed. Both come as signals: the measured loops have
/// no clock, and a thread that spins with real-time priority on its only processor cannot starve them.
pub struct Watch;

const RUNS: u8 = 0;
const EXPIRED: u8 = 1;
const CLOSED: u8 = 2;
static STATE: AtomicU8 = AtomicU8::new(RUNS);
static CLEANUP: OnceLock<Box<dyn Fn() + Send + Sync>> = OnceLock::new();

extern "C" fn on_alarm(_: libc::c_int) {
    let _ = STATE.compare_exchange(RUNS, EXPIRED, Ordering::Relaxed, Ordering::Relaxed);
}

extern "C" fn on_input(_: libc::c_int) {
    let mut bytes = [0u8; 256];
    loop {
        match unsafe { libc::read(0, bytes.as_mut_ptr().cast(), bytes.len()) } {
            0 => return STATE.store(CLOSED, Ordering::Relaxed),
            n if n < 0 => return,
            _ => {}
        }
    }
}

impl Watch {
    /// From now on the process ends, after cleanup, when standard input is closed: at the next `expired` or `waits`.
    pub fn standard_input(cleanup: impl Fn() + Send + Sync + 'static) {
        let _ = CLEANUP.set(Box::new(cleanup));
        unsafe {
            let mut action: libc::sigaction = std::mem::zeroed();
            action.sa_sigaction = on_alarm as *const () as usize;
            action.sa_flags = libc::SA_RESTART;
            libc::sigaction(libc::SIGALRM, &action, std::ptr::null_mut());
            action.sa_sigaction = on_input as *const () as usize;
            libc::sigaction(libc::SIGIO, &action, std::ptr::null_mut());
            libc::fcntl(0, libc::F_SETOWN, libc::getpid());
            libc::fcntl(0, libc::F_SETFL, libc::fcntl(0, libc::F_GETFL) | libc::O_ASYNC | libc::O_NONBLOCK);
        }
        on_input(0);
    }

    pub fn arm(time: Duration) {
        let _ = STATE.compare_exchange(EXPIRED, RUNS, Ordering::Relaxed, Ordering::Relaxed);
        let micros = (time.as_micros() as i64).max(1); // zero would disarm the timer
        let at = libc::itimerval {
            it_interval: libc::timeval { tv_sec: 0, tv_usec: 0 },
            it_value: libc::timeval { tv_sec: micros / 1_000_000, tv_usec: micros % 1_000_000 },
        };
        unsafe { libc::setitimer(libc::ITIMER_REAL, &at, std::ptr::null_mut()) };
    }

    #[inline]
    pub fn expired() -> bool {
        match STATE.load(Ordering::Relaxed) {
            RUNS => false,
            EXPIRED => true,
            _ => Self::end(),
        }
    }

    /// To be called by a side that waits.
    #[inline]
    pub fn waits() {
        if STATE.load(Ordering::Relaxed) == CLOSED {
            Self::end();
        }
    }

    #[cold]
    fn end() -> ! {
        if let Some(cleanup) = CLEANUP.get() {
            cleanup();
        }
        eprintln!("standard input was closed");
        unsafe { libc::_exit(1) }
    }
}

#[derive(Clone, Copy, Default)]
pub struct Usage {
    cpu_nanos: i64,
    switches: i64,
    rss: i64,
}

impl Usage {
    pub fn take() -> Self {
        let mut u: libc::rusage = unsafe { std::mem::zeroed() };
        unsafe { libc::getrusage(libc::RUSAGE_SELF, &mut u) };
        let nanos = |t: libc::timeval| t.tv_sec * 1_000_000_000 + t.tv_usec * 1_000;
        Usage {
            cpu_nanos: nanos(u.ru_utime) + nanos(u.ru_stime),
            switches: u.ru_nvcsw + u.ru_nivcsw,
            rss: u.ru_maxrss * 1024,
        }
    }
}

/// From 1 ns to 100 s with three significant digits.
pub fn new_histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, 100_000_000_000, 3).unwrap_or_else(|e| die(e))
}

/// The line that a driver ends with.
#[derive(Default)]
pub struct Outcome {
    pub messages: u64,
    pub nanos: u128,
    pub histogram: Option<Histogram<u64>>,
    pub start: Usage,
    pub end: Usage,
    pub wrong: u64,
    pub missing: u64,
}

impl Outcome {
    pub fn print(&self, version: &str, settings: &str) {
        let histogram = self.histogram.as_ref().map_or(String::new(), |h| {
            let mut bytes = Vec::new();
            V2DeflateSerializer::new().serialize(h, &mut bytes).unwrap_or_else(|e| die(format!("{e:?}")));
            let text = base64::engine::general_purpose::STANDARD.encode(bytes);
            format!("\"histogram\": \"{text}\", ")
        });
        println!(
            "{{\"messages\": {}, \"ns\": {}, {histogram}\"cpu_ns\": {}, \"switches\": {}, \"rss\": {}, \"wrong\": {}, \
             \"missing\": {}, \"version\": \"{version}\", \"settings\": \"{settings}\"}}",
            self.messages,
            self.nanos,
            self.end.cpu_nanos - self.start.cpu_nanos,
            self.end.switches - self.start.switches,
            Usage::take().rss,
            self.wrong,
            self.missing,
        );
    }
}
