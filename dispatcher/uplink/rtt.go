package uplink

import (
	"sync"
	"time"
)

// The bounds of RFC 8305 section 5 for the time after which a further attempt starts beside a slow one; the
// lower one is its recommended delay, which also serves while nothing is known of the line.
const (
	minOvertake = 250 * time.Millisecond
	maxOvertake = 2 * time.Second
)

// connectTimes keeps a smoothed connect time and its variation, as RFC 6298 section 2 does for round trips.
// The zero value knows nothing yet.
type connectTimes struct {
	mu       sync.Mutex
	smoothed time.Duration
	varied   time.Duration
}

// observe takes in how long one attempt took to connect. An attempt that was overtaken reports how long it had
// been going: a lower bound, but without it a line slower than the lower bound of the delay would be overtaken
// for ever and never learned.
func (c *connectTimes) observe(took time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.smoothed == 0 {
		c.smoothed, c.varied = took, took/2
		return
	}
	deviation := (c.smoothed - took).Abs()
	c.varied += (deviation - c.varied) / 4
	c.smoothed += (took - c.smoothed) / 8
}

func (c *connectTimes) overtakeDelay() time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	return min(max(c.smoothed+4*c.varied, minOvertake), maxOvertake)
}
