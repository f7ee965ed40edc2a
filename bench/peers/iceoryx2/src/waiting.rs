//! How a side waits: on its processor, or with iceoryx2's events.

use crate::driver::{Watch, die};
use iceoryx2::port::listener::{Listener, ListenerWaitError};
use iceoryx2::port::notifier::Notifier;
use iceoryx2::prelude::*;

use std::time::Duration;

/// A side that sleeps looks so often whether it is to end.
const LONGEST_SLEEP: Duration = Duration::from_secs(1);

/// Each side has one listener, and notifies the other's after it has sent, or after it has taken half of a full buffer.
pub enum Waiting {
    Spin,
    Events { listener: Listener<ipc::Service>, notifier: Notifier<ipc::Service> },
}

impl Waiting {
    pub fn new(node: &Node<ipc::Service>, server: bool, sleeps: bool) -> Self {
        if !sleeps {
            return Waiting::Spin;
        }
        let event = |name: &str| {
            let name = name.try_into().unwrap_or_else(|e| die(format!("{e:?}")));
            node.service_builder(&name).event().open_or_create().unwrap_or_else(|e| die(e))
        };
        let (own, other) = if server { ("to-server", "to-client") } else { ("to-client", "to-server") };
        Waiting::Events {
            listener: event(own).listener_builder().create().unwrap_or_else(|e| die(e)),
            notifier: event(other).notifier_builder().create().unwrap_or_else(|e| die(e)),
        }
    }

    pub fn sleeps(&self) -> bool {
        matches!(self, Waiting::Events { .. })
    }

    #[inline]
    pub fn wait(&self) {
        Watch::waits();
        match self {
            Waiting::Spin => std::hint::spin_loop(),
            Waiting::Events { listener, .. } => {
                match listener.timed_wait(|_| {}, LONGEST_SLEEP) {
                    Ok(_) | Err(ListenerWaitError::InterruptSignal) => {}
                    Err(e) => die(e),
                }
            }
        }
    }

    /// A notification that finds the listener's buffer full is not needed: the listener has others to wake it.
    #[inline]
    pub fn notify(&self) {
        if let Waiting::Events { notifier, .. } = self {
            let _ = notifier.notify();
        }
    }
}
