package tandemgrpc

import (
	"fmt"
	"strings"

	"google.golang.org/grpc/resolver"
)

// Scheme is the scheme of targets and addresses that are paths of pairs.
const Scheme = "tandem"

// prefix begins the addresses of this scheme. It tells the dialer that they are not
// another resolver's.
const prefix = Scheme + ":"

// A builder is the resolver of the scheme: what it resolves never changes.
type builder struct{}

func (builder) Scheme() string { return Scheme }

// OverrideAuthority says what calls carry as the name of the server: a path is none.
func (builder) OverrideAuthority(resolver.Target) string { return "localhost" }

func (builder) Build(target resolver.Target, cc resolver.ClientConn, _ resolver.BuildOptions) (resolver.Resolver, error) {
	paths, err := pathsOf(target)
	if err != nil {
		return nil, err
	}
	state := resolver.State{}
	for _, path := range paths {
		state.Addresses = append(state.Addresses, resolver.Address{Addr: prefix + path})
	}
	_ = cc.UpdateState(state) // a balancer that refuses it tells the calls why
	return resolved{}, nil
}

type resolved struct{}

func (resolved) ResolveNow(resolver.ResolveNowOptions) {}
func (resolved) Close()                                {}

// pathsOf does not clean a path: behind a link, ".." is not what it looks like.
func pathsOf(target resolver.Target) ([]string, error) {
	url := target.URL
	if url.Host != "" || url.RawQuery != "" || url.Fragment != "" {
		return nil, fmt.Errorf("tandemgrpc: target %q: want tandem:PATH, or tandem:///ABSOLUTE/PATH", url.String())
	}
	paths := strings.Split(url.Path+url.Opaque, ",") // one of the two is empty
	for _, path := range paths {
		if path == "" {
			return nil, fmt.Errorf("tandemgrpc: target %q: a path is empty", url.String())
		}
	}
	return paths, nil
}
