//! The driver of iceoryx2: `iceoryx2-pubsub` and `iceoryx2-requests` are its names.

mod driver;
mod pubsub;
mod reqres;
mod waiting;
mod works;

use driver::{Args, Watch, die, unsupported};
use iceoryx2::config::Config;
use iceoryx2::prelude::*;
use works::Works;

const VERSION: &str = "iceoryx2 0.10.0";

/// Where iceoryx2 keeps what the two share: its files are in DIR, but its memory lies in /dev/shm itself, under names
/// that begin with this prefix.
fn prefix(dir: &str) -> String {
    let hash = dir.bytes().fold(0xcbf2_9ce4_8422_2325u64, |h, b| (h ^ b as u64).wrapping_mul(0x100_0000_01b3));
    format!("bench{:08x}_", hash as u32)
}

/// Removes what a process that ends at once leaves behind.
fn clean(dir: &str) {
    let prefix = prefix(dir);
    for entry in std::fs::read_dir("/dev/shm").into_iter().flatten().flatten() {
        if entry.file_name().to_string_lossy().starts_with(&prefix) {
            let _ = std::fs::remove_file(entry.path());
        }
    }
    let _ = std::fs::remove_dir_all(root(dir));
}

fn root(dir: &str) -> String {
    format!("{dir}/i")
}

fn config(dir: &str) -> Config {
    let mut config = Config::default();
    config.global.prefix = FileName::new(prefix(dir).as_bytes()).unwrap_or_else(|e| die(format!("{e:?}")));
    config.global.set_root_path(&Path::new(root(dir).as_bytes()).unwrap_or_else(|e| die(format!("{e:?}"))));
    config
}

fn main() {
    let args = Args::parse();
    let requests = match args.name.as_str() {
        "iceoryx2-pubsub" => false,
        "iceoryx2-requests" => true,
        _ => die("the name is iceoryx2-pubsub or iceoryx2-requests"),
    };
    if args.form == "batch" {
        unsupported("iceoryx2 sends and receives one sample at a time");
    }
    if requests && args.work != "roundtrip" && args.work != "requests" {
        unsupported("request-response has no stream");
    }
    set_log_level(LogLevel::Fatal);
    let dir = args.dir.clone();
    Watch::standard_input(move || clean(&dir));
    let node = NodeBuilder::new()
        .config(&config(&args.dir))
        .signal_handling_mode(SignalHandlingMode::Disabled)
        .create::<ipc::Service>()
        .unwrap_or_else(|e| die(e));
    let ready = || {
        if args.server {
            println!("ready");
        }
    };
    let (outcome, buffers) = if !requests {
        let endpoint = pubsub::PubSub::new(&args, &node);
        ready();
        (Works::new(&args, endpoint).run(), format!("{} samples each way", pubsub::PubSub::capacity(&args)))
    } else {
        let buffers = format!("{} active requests", reqres::capacity(&args));
        if args.server {
            let endpoint = reqres::Answering::new(&args, &node);
            ready();
            (Works::new(&args, endpoint).run(), buffers)
        } else {
            (Works::new(&args, reqres::Asking::new(&args, &node)).run(), buffers)
        }
    };
    drop(node);
    if args.server {
        clean(&args.dir);
    }
    let waits = match args.wait.as_str() {
        "block" => "event listeners, a notification for each message",
        _ => "polling with spin_loop",
    };
    outcome.print(VERSION, &format!("{buffers}, no overflow, waits by {waits}"));
}
