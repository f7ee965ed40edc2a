package model

// LifecycleEdges are the edges of the life cycle's control states that one action
// takes: "server: idle -> opened by LockFileOpened", and those of clients and of
// connections. What stays where it is takes none.
func LifecycleEdges(from LifecycleState, a Action, to LifecycleState) (edges []string) {
	edge := func(what, p, q string) {
		if p != q {
			edges = append(edges, what+": "+p+" -> "+q+" by "+a.Name)
		}
	}
	for i := range from.srv {
		edge("server", from.srv[i].pc.String(), to.srv[i].pc.String())
	}
	for i := range from.cli {
		edge("client", from.cli[i].pc.String(), to.cli[i].pc.String())
	}
	for i := range from.conn {
		edge("connection", from.conn[i].st.String(), to.conn[i].st.String())
	}
	return edges
}
