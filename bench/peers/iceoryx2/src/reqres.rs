//! Request-response: the client's requests and the server's answers belong together.

use crate::driver::{Args, Watch, die};
use crate::waiting::Waiting;
use crate::works::{END, Endpoint, HELLO};
use iceoryx2::active_request::ActiveRequest;
use iceoryx2::pending_response::PendingResponse;
use iceoryx2::port::LoanError;
use iceoryx2::port::client::Client;
use iceoryx2::port::server::Server;
use iceoryx2::prelude::*;
use iceoryx2::service::port_factory::request_response::PortFactory;
use std::collections::VecDeque;
use std::time::Duration;

type Service = PortFactory<ipc::Service, [u64], (), [u64], ()>;

/// How many requests may be under way: one more than are kept, for the HELLO that nobody waits for. A request that finds
/// the server's buffer full is lost without an error, although the strategy is RetryUntilDelivered.
pub fn capacity(args: &Args) -> usize {
    args.inflight + 1
}

fn open(args: &Args, node: &Node<ipc::Service>) -> Service {
    let name = "requests".try_into().unwrap_or_else(|e| die(format!("{e:?}")));
    node.service_builder(&name)
        .request_response::<[u64], [u64]>()
        .request_payload_alignment(Alignment::new(64).unwrap())
        .response_payload_alignment(Alignment::new(64).unwrap())
        .enable_safe_overflow_for_requests(false)
        .enable_safe_overflow_for_responses(false)
        .enable_fire_and_forget_requests(true)
        .max_active_requests_per_client(capacity(args))
        .max_loaned_requests(1)
        .max_response_buffer_size(1)
        .max_borrowed_responses_per_pending_response(1)
        .max_clients(1)
        .max_servers(1)
        .open_or_create()
        .unwrap_or_else(|e| die(e))
}

pub struct Asking {
    client: Client<ipc::Service, [u64], (), [u64], ()>,
    /// Answers come in the order of the requests.
    pending: VecDeque<PendingResponse<ipc::Service, [u64], (), [u64], ()>>,
    /// The end of the run, which has no answer.
    end: Option<PendingResponse<ipc::Service, [u64], (), [u64], ()>>,
    waiting: Waiting,
    copies: bool,
    outgoing: Vec<u64>,
    incoming: Vec<u64>,
}

impl Asking {
    pub fn new(args: &Args, node: &Node<ipc::Service>) -> Self {
        let words = args.size / 8;
        Asking {
            client: open(args, node)
                .client_builder()
                .initial_max_slice_len(words)
                .create()
                .unwrap_or_else(|e| die(e)),
            pending: VecDeque::new(),
            end: None,
            waiting: Waiting::new(node, false, args.wait == "block"),
            copies: args.form == "copy",
            outgoing: vec![0; words],
            incoming: vec![0; words],
        }
    }
}

impl Endpoint for Asking {
    #[inline]
    fn try_send(&mut self, first: u64, fill: impl FnOnce(&mut [u64])) -> bool {
        let request = match self.client.loan_slice_uninit(self.outgoing.len()) {
            Ok(request) => request,
            Err(LoanError::OutOfMemory | LoanError::ExceedsMaxLoans) => return false,
            Err(e) => die(e),
        };
        let request = if self.copies {
            fill(&mut self.outgoing);
            request.write_from_slice(&self.outgoing)
        } else {
            let mut request = unsafe { request.assume_init() };
            fill(request.payload_mut());
            request
        };
        let pending = request.send().unwrap_or_else(|e| die(e));
        match first {
            HELLO => {} // has no answer
            END => self.end = Some(pending),
            _ => self.pending.push_back(pending),
        }
        self.waiting.notify();
        true
    }

    #[inline]
    fn try_receive(&mut self, take: impl FnOnce(&[u64])) -> bool {
        let Some(pending) = self.pending.front() else { return false };
        let Some(response) = pending.receive().unwrap_or_else(|e| die(e)) else { return false };
        if self.copies {
            self.incoming.copy_from_slice(response.payload());
            drop(response);
            self.pending.pop_front();
            take(&self.incoming);
        } else {
            take(response.payload());
            drop(response);
            self.pending.pop_front();
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

    /// A request is lost when its client goes before the server has received it.
    fn finish(&mut self) {
        while self.end.as_ref().is_some_and(|end| end.is_connected()) {
            Watch::waits();
            std::thread::sleep(Duration::from_micros(100));
        }
    }
}

pub struct Answering {
    server: Server<ipc::Service, [u64], (), [u64], ()>,
    /// The request that the next message answers.
    active: Option<ActiveRequest<ipc::Service, [u64], (), [u64], ()>>,
    waiting: Waiting,
    copies: bool,
    outgoing: Vec<u64>,
    incoming: Vec<u64>,
}

impl Answering {
    pub fn new(args: &Args, node: &Node<ipc::Service>) -> Self {
        let words = args.size / 8;
        Answering {
            server: open(args, node)
                .server_builder()
                .initial_max_slice_len(words)
                .max_loaned_responses_per_request(1)
                .create()
                .unwrap_or_else(|e| die(e)),
            active: None,
            waiting: Waiting::new(node, true, args.wait == "block"),
            copies: args.form == "copy",
            outgoing: vec![0; words],
            incoming: vec![0; words],
        }
    }
}

impl Endpoint for Answering {
    #[inline]
    fn try_send(&mut self, _: u64, fill: impl FnOnce(&mut [u64])) -> bool {
        let Some(active) = &self.active else { die("there is no request to answer") };
        let response = match active.loan_slice_uninit(self.outgoing.len()) {
            Ok(response) => response,
            Err(LoanError::OutOfMemory) => return false,
            Err(e) => die(e),
        };
        let response = if self.copies {
            fill(&mut self.outgoing);
            response.write_from_slice(&self.outgoing)
        } else {
            let mut response = unsafe { response.assume_init() };
            fill(response.payload_mut());
            response
        };
        response.send().unwrap_or_else(|e| die(e));
        self.active = None;
        self.waiting.notify();
        true
    }

    #[inline]
    fn try_receive(&mut self, take: impl FnOnce(&[u64])) -> bool {
        let Some(request) = self.server.receive().unwrap_or_else(|e| die(e)) else { return false };
        if self.copies {
            self.incoming.copy_from_slice(request.payload());
            take(&self.incoming);
        } else {
            take(request.payload());
        }
        self.active = Some(request);
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
