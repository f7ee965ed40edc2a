package model

import "testing"

func channelConfig(t *testing.T, s setting) ChannelConfig {
	t.Helper()
	var config ChannelConfig
	s.fill(t, &config)
	return config
}

func TestChannelEqualsItsModule(t *testing.T) {
	for _, s := range settings(t, "ring") {
		if s.Module != "Channel" {
			continue
		}
		t.Run(s.Name, func(t *testing.T) {
			t.Parallel()
			equalToTLC(t, Channel(channelConfig(t, s)), s)
		})
	}
}
