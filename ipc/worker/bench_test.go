//go:build linux && (amd64 || arm64)

package worker

import (
	"context"
	"testing"
)

func BenchmarkCall(b *testing.B) {
	request := make([]byte, 64)
	b.Run("one at a time", func(b *testing.B) {
		p, _ := startPool(b, Config{})
		mustCall(b, p, "echo", "")
		b.ReportAllocs()
		for b.Loop() {
			if _, err := p.Call(context.Background(), "echo", request); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("64 at a time", func(b *testing.B) {
		p, _ := startPool(b, Config{Concurrency: 64})
		mustCall(b, p, "echo", "")
		b.ReportAllocs()
		b.SetParallelism(32) // of two processors
		b.RunParallel(func(pb *testing.PB) {
			for pb.Next() {
				if _, err := p.Call(context.Background(), "echo", request); err != nil {
					b.Error(err)
					return
				}
			}
		})
	})
}
