package ipc

// Sender describes the process whose messages Receive returns now. At a client that
// is the server. At a server it is the client that has committed the message which was
// received last, also if that client has ended since and Peer describes another: PID,
// UID and Attachment are of the sender. State is PeerAttached while the sender is
// attached, and PeerAbsent if its end is on its way to Receive.
//
// The answer is for the goroutine that receives, before it receives again.
func (e *Endpoint) Sender() Peer {
	if !e.isOpened() || e.role == RoleClient {
		return e.Peer()
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if len(e.ends) > 0 {
		return e.ends[0].sender
	}
	p := e.granted
	if e.pending != 0 || e.state == PeerAttached {
		p.State = PeerAttached
	}
	return p
}
