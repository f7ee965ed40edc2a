//! Publish-subscribe: a service for each direction.

use crate::driver::{Args, die};
use crate::waiting::Waiting;
use crate::works::Endpoint;
use iceoryx2::port::LoanError;
use iceoryx2::port::publisher::Publisher;
use iceoryx2::port::subscriber::Subscriber;
use iceoryx2::prelude::*;

pub struct PubSub {
    publisher: Publisher<ipc::Service, [u64], ()>,
    subscriber: Subscriber<ipc::Service, [u64], ()>,
    waiting: Waiting,
    copies: bool,
    /// The caller's own memory, from and to which a message is copied.
    outgoing: Vec<u64>,
    incoming: Vec<u64>,
    /// After so many received messages a sender that found no room is woken.
    half: usize,
    taken: usize,
}

impl PubSub {
    /// As much memory as the other contenders have, and at least eight messages.
    pub fn capacity(args: &Args) -> usize {
        ((1 << 20) / args.size).clamp(8, 1024)
    }

    pub fn new(args: &Args, node: &Node<ipc::Service>) -> Self {
        let capacity = Self::capacity(args);
        let words = args.size / 8;
        let service = |name: &str| {
            let name = name.try_into().unwrap_or_else(|e| die(format!("{e:?}")));
            node.service_builder(&name)
                .publish_subscribe::<[u64]>()
                .payload_alignment(Alignment::new(64).unwrap())
                .enable_safe_overflow(false)
                .history_size(0)
                .max_publishers(1)
                .max_subscribers(1)
                .subscriber_max_buffer_size(capacity)
                .subscriber_max_borrowed_samples(1)
                .open_or_create()
                .unwrap_or_else(|e| die(e))
        };
        let (incoming, outgoing) = if args.server { ("to-server", "to-client") } else { ("to-client", "to-server") };
        let waiting = Waiting::new(node, args.server, args.wait == "block");
        PubSub {
            subscriber: service(incoming).subscriber_builder().create().unwrap_or_else(|e| die(e)),
            // As many samples as the subscriber's buffer holds: a publisher that finds none to loan has filled it.
            publisher: service(outgoing)
                .publisher_builder()
                .initial_max_slice_len(words)
                .max_loaned_samples(1)
                .override_sample_preallocation(move |_| capacity)
                .create()
                .unwrap_or_else(|e| die(e)),
            waiting,
            copies: args.form == "copy",
            outgoing: vec![0; words],
            incoming: vec![0; words],
            half: capacity / 2,
            taken: 0,
        }
    }
}

impl Endpoint for PubSub {
    #[inline]
    fn try_send(&mut self, _: u64, fill: impl FnOnce(&mut [u64])) -> bool {
        let sample = match self.publisher.loan_slice_uninit(self.outgoing.len()) {
            Ok(sample) => sample,
            Err(LoanError::OutOfMemory) => return false,
            Err(e) => die(e),
        };
        let sample = if self.copies {
            fill(&mut self.outgoing);
            sample.write_from_slice(&self.outgoing)
        } else {
            let mut sample = unsafe { sample.assume_init() };
            fill(sample.payload_mut());
            sample
        };
        match sample.send() {
            Ok(1) => {}
            Ok(n) => die(format!("{n} subscribers received a message")),
            Err(e) => die(e),
        }
        self.waiting.notify();
        true
    }

    #[inline]
    fn try_receive(&mut self, take: impl FnOnce(&[u64])) -> bool {
        let Some(sample) = self.subscriber.receive().unwrap_or_else(|e| die(e)) else { return false };
        if self.copies {
            self.incoming.copy_from_slice(sample.payload());
            drop(sample);
            take(&self.incoming);
        } else {
            take(sample.payload());
            drop(sample);
        }
        self.taken += 1;
        if self.taken == self.half {
            self.taken = 0;
            self.waiting.notify();
        }
        true
    }

    #[inline]
    fn wait(&mut self) {
        self.waiting.wait();
    }

    fn sleeps(&self) -> bool {
        self.waiting.sleeps()
    }
}
